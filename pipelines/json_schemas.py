"""JSON Schema by the library jsonschema: is a schema one, does a value conform. Nothing is ever fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

MOST_TOLD = 5
_DOCUMENT = "urn:modelport:document"


def schema_problem(schema: Any) -> str:  # Any: JSON, and the library's own type of a schema is narrower
    """What is wrong with ``schema`` by its own dialect, 2020-12 if it names none; "" if nothing."""
    if not isinstance(schema, dict | bool):
        return "a schema is an object"
    try:
        kind = validator_for(schema, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)  # type: ignore[arg-type]  # true and false are schemas too
    except SchemaError as err:
        return f"{_place(err)}{err.message}"[:300]
    return ""


def differences(value: Any, document: Mapping[str, Any], pointer: str = "#") -> list[str]:  # Any: JSON
    """Where ``value`` does not conform to the schema at ``pointer`` of ``document``; a few, by place.

    References lead only to places in the document; one that leads elsewhere is a difference of its own.
    """
    # Any: the library is generic over what a resource holds
    resource: Resource[Any] = Resource.from_contents(document, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource(_DOCUMENT, resource)
    if isinstance(document.get("$id"), str):
        registry = registry.with_resource(document["$id"], resource)
    kind = validator_for(document, default=jsonschema.Draft202012Validator)
    validator = kind({"$ref": f"{_DOCUMENT}{pointer}"}, registry=registry)
    try:
        errors = sorted(
            validator.iter_errors(value), key=lambda err: [str(step) for step in err.absolute_path]
        )
    except Unresolvable as err:
        return [f"the schema refers to what is not in it: {str(err)[:200]}"]
    except RecursionError:
        return ["the value or its schema is nested too deeply"]
    return [f"{_place(err)}{err.message}"[:300] for err in errors[:MOST_TOLD]]


def _place(err: Any) -> str:  # Any: the library's errors of a schema and of a value
    path = ".".join(str(step) for step in err.absolute_path)
    return f'"{path}": ' if path else ""
