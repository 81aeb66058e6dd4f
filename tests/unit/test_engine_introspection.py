"""Answers that are the same in every session are served before GraphQL is loaded; others never."""

from pathlib import Path

import pytest

from embedded_engine.introspection import IntrospectionCache

INTROSPECTION = "query IntrospectionQuery { __schema { queryType { name } } }"


@pytest.mark.parametrize("query", ["{ version }", "{version: version}", "query { version }", INTROSPECTION])
def test_what_an_sdk_asks_first_is_kept(tmp_path: Path, query: str) -> None:
    cache = IntrospectionCache(tmp_path)
    assert cache.find(query) is None
    cache.offer(query, b"the answer")
    assert IntrospectionCache(tmp_path).find(query) == b"the answer"


@pytest.mark.parametrize(
    "query", ["{ version host { id } }", "{ defaultPlatform }", "query IntrospectionQuery { version x: id }"]
)
def test_nothing_else_is(tmp_path: Path, query: str) -> None:
    cache = IntrospectionCache(tmp_path)
    cache.offer(query, b"the answer")
    assert cache.find(query) is None
    assert list(tmp_path.iterdir()) == []
