"""No error repeats what setSecret was given, however the request was wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from graphql import build_schema, execute_sync, parse, validate

from embedded_engine.refusals import told

VALUE = 'hunter2-"quoted"\n-and-more'
SCHEMA = build_schema(
    "type Query { setSecret(name: String!, plaintext: String!): String"
    " other(path: String!, kind: E): String } enum E { X }"
)


def messages(query: str, variables: dict[str, Any] | None = None) -> list[str]:
    try:
        document = parse(query)
    except Exception as error:
        return [getattr(error, "message", "")]
    problems = validate(SCHEMA, document)
    if problems:
        return [one.message for one in problems]
    return [one.message for one in execute_sync(SCHEMA, document, variable_values=variables).errors or ()]


LITERAL = json.dumps(VALUE)
BLOCK = '"""' + VALUE + '"""'


@pytest.mark.parametrize(
    "query",
    [
        '{ setSecret(name: "n", plaintext: hunter2) }',
        '{ setSecret(name: "n", plaintext: 123456789012) }',
        '{ setSecret(name: "n", plaintext: 1234.5678) }',
        f'{{ setSecret(name: "n", plaintext: [{LITERAL}]) }}',
        f'{{ setSecret(name: "n", plaintext: {{a: {LITERAL}}}) }}',
        f'{{ setSecret(name: "n", plaintext: "x" {LITERAL}) }}',
        f'{{ setSecret(name: "n", plaintext: "x" {BLOCK}) }}',
        f'{{ setSecret(name: "n", plaintext: "x", {LITERAL}) }}',
        '{ setSecret(name: "n", plaintext: "x" "hun\\u0074er2-more") }',
        '{ setSecret(name: "n", plaintext: "hunter2-more\\q") }',
        f"{{ setSecret(name: {{plaintext: {LITERAL}}}, plaintext: 1) }}",
        f'{{ setSecret(name: "n", plaintext: "ok") other(path: "p", kind: {LITERAL}) }}',
    ],
)
def test_errors_of_a_document_hold_no_plaintext(query: str) -> None:
    raw = messages(query)
    assert raw
    for message in (told(one, query) for one in raw):
        assert "hunter2" not in message and "and-more" not in message
        assert "123456789012" not in message and "1234.5678" not in message
        assert "Error" in message or "String" in message or "enum" in message or "Enum" in message


@pytest.mark.parametrize(
    "value", [[VALUE], {"a": VALUE}, [["x", VALUE * 40]], 123456789012, ["a" * 300 + "hunter2"]]
)
def test_errors_of_variables_hold_no_plaintext(value: object) -> None:
    query = 'query($p: String!) { setSecret(name: "n", plaintext: $p) }'
    raw = messages(query, {"p": value})
    assert raw
    for message in (told(one, query, {"p": value}) for one in raw):
        assert "hunter2" not in message and "and-more" not in message and "1234" not in message
        assert "$p" in message and "aaaa" not in message


def test_other_documents_errors_are_told_whole() -> None:
    query = "{ other(path: 12345678) }"
    assert [told(one, query) for one in messages(query)] == [
        "String cannot represent a non string value: 12345678"
    ]
