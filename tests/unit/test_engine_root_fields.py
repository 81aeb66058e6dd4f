"""Several fields at a query's root: side by side, each with its own error."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from simulated_sessions import Client, simulated_session

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with simulated_session(tmp_path) as session:
        yield session


async def test_two_that_fail_are_two_errors(client: Client) -> None:
    query = """{
        one: container { from(address: "r.test/none:1") { id } }
        two: host { file(path: "missing") { id } }
        fine: version
    }"""
    answer = await client.raw(query)
    assert answer["data"] is None
    assert [error["path"][0] for error in answer["errors"]] == ["container", "host"]
    assert "not found" in answer["errors"][0]["message"]
    assert "missing" in answer["errors"][1]["message"]


async def test_they_run_side_by_side_and_answer_in_order(client: Client) -> None:
    chain = 'container { from(address: "r.test/base:1") { withExec(args: ["sleep", "%s"]) { exitCode } } }'
    begin = time.monotonic()
    answer = await client.raw("{ b: " + chain % "0.4" + " a: " + chain % "0.41" + " version }")
    assert time.monotonic() - begin < 0.75
    assert list(answer["data"]) == ["b", "a", "version"]


async def test_one_name_twice_and_fragments_are_executed_as_written(client: Client) -> None:
    answer = await client.raw("query Q { version ...More } fragment More on Query { again: version id }")
    assert set(answer["data"]) == {"version", "again", "id"}
    merged = await client.raw('{ host { id } host { findUp(name: "none") } }')
    assert set(merged["data"]["host"]) == {"id", "findUp"}


async def test_a_variable_used_in_one_field_only(client: Client) -> None:
    query = 'query($n: String!) { file(name: $n, contents: "x") { name } version }'
    answer = await client.api.answer(client.session, query, {"n": "a"}, None)
    assert answer.body["data"]["file"]["name"] == "a"
