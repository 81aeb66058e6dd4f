"""The JSON Schema of ``modelport.yaml``, for editors. What the product itself checks is in config.py."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel

from pipelines.config import Model

SCHEMA_ADDRESS: Final = "urn:modelport:schema:modelport.yaml"
CHECKED_IN: Final = "docs/modelport.schema.json"

_NOT_IN_THE_FILE: Final = ("directory", "file")


def schema() -> dict[str, Any]:
    """The schema, draft 2020-12; every key with a title, and with its documentation as description."""
    made = Model.model_json_schema()
    definitions = made.pop("$defs", {})
    for known in sorted(models(Model), key=lambda one: one.__name__):
        _describe(known, made if known is Model else definitions.get(known.__name__, {}))
    for name in _NOT_IN_THE_FILE:
        del made["properties"][name]
    made["required"] = [
        name for name in made.get("required", []) if name not in ("name", *_NOT_IN_THE_FILE)
    ]  # the name has a default, the directory's, that pydantic does not know of
    if not made["required"]:
        del made["required"]
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ADDRESS,
        "title": "modelport.yaml",
        "description": "A model, and how it gets from its commit to the production registries.",
    }
    rest = {key: value for key, value in made.items() if key not in head}
    return {**head, **rest, "$defs": definitions}


def text() -> str:
    """The schema as it is checked in."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def models(model: type[BaseModel]) -> set[type[BaseModel]]:
    """``model`` and every model that its fields can hold."""
    found: set[type[BaseModel]] = set()
    waiting = [model]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(
                inner for field in current.model_fields.values() for inner in _inside(field.annotation)
            )
    return found


def _inside(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _inside(argument)


def _describe(model: type[BaseModel], made: dict[str, Any]) -> None:
    """Put the text under each field of the class into its schema.

    pydantic can do so itself, but it reads the source at every start: a third of a second for each run.
    """
    described = field_docstrings(model)
    for name, part in made.get("properties", {}).items():
        own = name if name in described else f"{name}_"  # "schema" is a method's name in pydantic
        if own in described:
            part["description"] = described[own]
        part["title"] = name.replace("_", " ").capitalize()
        if isinstance(part.get("default"), dict):
            del part["default"]  # a section's defaults are told by its own keys
    if model.__doc__:
        made["description"] = " ".join(inspect.cleandoc(model.__doc__).split())


def field_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The string literal that follows each field, base classes included."""
    found: dict[str, str] = {}
    for known in reversed(model.__mro__):
        if not issubclass(known, BaseModel) or known is BaseModel:
            continue
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(known))).body
        body = definition.body if isinstance(definition, ast.ClassDef) else []
        for statement, following in pairwise(body):
            match statement, following:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


def main() -> None:
    """Write the checked-in copy: ``python -m pipelines.schema``, from the repository's root."""
    Path(CHECKED_IN).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
