"""What changed between two documents, and which of it breaks callers."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pipelines.json_schemas import differences, schema_problem
from pipelines.openapi import normal, operation_of, operations, problems
from pipelines.schema_changes import openapi_changes, schema_changes

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "t", "version": "1"},
    "paths": {
        "/predict": {
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ask"}}},
                },
                "responses": {
                    "200": {
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}}
                    },
                    "4XX": {"description": "refused"},
                },
            }
        },
        "/models/{name}": {"get": {"responses": {"200": {"description": "one"}}}},
    },
    "components": {
        "schemas": {
            "Ask": {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "mode": {"enum": ["fast", "good"]},
                    "n": {"type": "number"},
                },
                "required": ["text"],
            },
            "Answer": {
                "type": "object",
                "properties": {"language": {"type": "string"}, "score": {"type": "number"}},
                "required": ["language", "score"],
            },
        }
    },
}


def changed(*steps: Any) -> dict[str, Any]:
    """A copy with the value at the path replaced; None as the value: removed."""
    document = copy.deepcopy(DOCUMENT)
    *path, key, value = steps
    place = document
    for step in path:
        place = place[step]
    if value is None:
        del place[key]
    else:
        place[key] = value
    return document


ASK = ("components", "schemas", "Ask")
ANSWER = ("components", "schemas", "Answer")


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (changed("paths", "/predict", None), "POST /predict was removed"),
        (changed("paths", "/predict", "post", None), "POST /predict was removed"),
        (
            changed(*ANSWER, "properties", "score", None),
            "POST /predict: 200 score: was removed from the answer",
        ),
        (
            changed(*ANSWER, "required", ["language"]),
            "POST /predict: 200 score: is no longer in every answer",
        ),
        (
            changed(*ANSWER, "properties", "score", {"type": ["number", "null"]}),
            "POST /predict: 200 score: the type was number, now null or number",
        ),
        (changed(*ASK, "required", ["text", "mode"]), "POST /predict: request mode: is now required"),
        (
            changed(*ASK, "properties", "mode", {"enum": ["good"]}),
            'POST /predict: request mode: no longer takes "fast"',
        ),
        (
            changed(*ASK, "properties", "n", {"type": "integer"}),
            "POST /predict: request n: the type was number, now integer",
        ),
        (
            changed(
                "paths",
                "/models/{name}",
                "get",
                "parameters",
                [{"in": "query", "name": "v", "required": True}],
            ),
            'GET /models/{name}: the query parameter "v" is new and required',
        ),
    ],
)
def test_what_breaks_callers(new: dict[str, Any], told: str) -> None:
    assert problems(new) == []
    assert told in openapi_changes(DOCUMENT, new).breaking


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (
            changed("paths", "/more", {"get": {"responses": {"200": {"description": "x"}}}}),
            "GET /more is new",
        ),
        (
            changed(*ASK, "properties", "k", {"type": "integer"}),
            "POST /predict: request k: is new and optional",
        ),
        (
            changed(*ANSWER, "properties", "k", {"type": "integer"}),
            "POST /predict: 200 k: is new in the answer",
        ),
        (
            changed(*ASK, "properties", "mode", {"enum": ["fast", "good", "best"]}),
            'POST /predict: request mode: now takes "best"',
        ),
        (
            changed(*ANSWER, "properties", "score", {"type": "integer"}),
            "POST /predict: 200 score: the type was number, now integer",
        ),
    ],
)
def test_what_does_not(new: dict[str, Any], told: str) -> None:
    changes = openapi_changes(DOCUMENT, new)
    assert changes.breaking == ()
    assert told in changes.harmless


def test_the_same_document_has_no_change_and_descriptions_are_none() -> None:
    same = changed("paths", "/predict", "post", "summary", "words")
    changes = openapi_changes(DOCUMENT, same)
    assert (changes.breaking, changes.harmless) == ((), ())


def test_a_schema_that_holds_itself_ends() -> None:
    tree = {"type": "object", "properties": {"next": {"$ref": "#"}, "x": {"type": "string"}}}
    other = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert "the answer.x: was removed from the answer" in schema_changes(tree, other).breaking


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "it is not an object"),
        ({"swagger": "2.0"}, 'missing (swagger: "2.0")'),
        (changed("paths", {}), '"paths" has no path'),
        (changed("info", {}), '"info" has no'),
        (changed(*ASK, "type", "text"), "Ask"),
        (changed("components", "schemas", "Ask", None), "which is not there"),
        (changed(*ASK, "properties", "text", {"$ref": "http://elsewhere/x"}), "outside of the document"),
        (changed("paths", "/models/{name}", "get", "responses", {}), "has no response"),
    ],
)
def test_documents_with_problems(document: Any, told: str) -> None:
    assert any(told in one for one in problems(document)), problems(document)


def test_values_and_references() -> None:
    pointer = operations(DOCUMENT)[0].response(200)
    assert pointer is not None
    assert differences({"language": "de", "score": 1}, DOCUMENT, pointer) == []
    assert differences({"language": 3, "score": 1}, DOCUMENT, pointer) == [
        "\"language\": 3 is not of type 'string'"
    ]


def test_a_reference_to_elsewhere_is_never_fetched() -> None:
    assert "refers to what is not in it" in differences(1, {"$ref": "http://127.0.0.1:9/schema"})[0]


def test_3_0_is_read_as_3_1() -> None:
    old = {
        "openapi": "3.0.3",
        "x": {"type": "string", "nullable": True, "enum": ["a"]},
        "y": {"minimum": 1, "exclusiveMinimum": True},
    }
    assert normal(old) == {
        "openapi": "3.0.3",
        "x": {"type": ["string", "null"], "enum": ["a", None]},
        "y": {"exclusiveMinimum": 1},
    }


def test_the_operation_of_a_request() -> None:
    found = operations(DOCUMENT)
    assert operation_of(found, "GET", "/models/a%20b?x=1").path == "/models/{name}"  # type: ignore[union-attr]
    assert operation_of(found, "GET", "/models/a/b") is None
    assert found[0].response(422) == ""
    assert found[0].response(500) is None


def test_schemas_of_other_dialects() -> None:
    assert schema_problem({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}) == ""
    assert "is not valid" in schema_problem({"type": "text"})
