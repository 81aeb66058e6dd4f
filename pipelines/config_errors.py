"""What pydantic found wrong, as a ConfigError: in plain words, with the line and the key that was meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipelines.config_build import BUILD_KINDS
from pipelines.config_yaml import Document, KeyPath
from pipelines.errors import ConfigError, Place

_EXPECTED: Final = {
    "string_type": "text",
    "string_sub_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "date_type": "a date, like 2026-12-31",
    "date_from_datetime_parsing": "a date, like 2026-12-31",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with the file."""

    place: Place
    message: str
    hint: str
    rank: int
    """Unknown keys come first: a missing key or file is often the same slip, seen again."""


def config_error(error: ValidationError, document: Document, model: type[BaseModel]) -> ConfigError:
    """The first error of the file; the others are counted in its hint and listed in its detail."""
    findings = sorted(
        {_finding(details, document, model) for details in error.errors(include_url=False)},
        key=lambda finding: (finding.rank, finding.place.line or 0, finding.message),
    )
    first, others = findings[0], findings[1:]
    message, hint = first.message, first.hint
    if others:
        message += f" (and {len(others)} more error{'s' if len(others) > 1 else ''})"
    detail = "\n".join(f"{other.place}: {other.message}" for other in others)
    return ConfigError(message, place=first.place, hint=hint, detail=detail)


def _finding(details: ErrorDetails, document: Document, model: type[BaseModel]) -> Finding:
    path: KeyPath = tuple(part for part in details["loc"] if not str(part).startswith("~"))
    if path and path[-1] == "[key]":
        path = path[:-1]
    kind, place = details["type"], document.place(path)
    if kind == "extra_forbidden":
        return _unknown_key(path, place, model)
    if kind == "missing":
        where = f" in {_spell(path[:-1])}" if path[:-1] else ""
        return Finding(place, f'"{path[-1]}" is missing{where}', f"add `{path[-1]}: …`", 1)
    context = details.get("ctx", {})
    name = f"{_spell(path)}: " if path else ""
    if kind.startswith("modelport_"):
        return Finding(place, f"{name}{context['text']}", context["hint"], 1)
    if kind in _EXPECTED:
        return _wrong_type(path, place, kind, details["input"], document)
    return Finding(place, name + _plain(details, context), _value_hint(kind, path, context), 1)


def _unknown_key(path: KeyPath, place: Place, model: type[BaseModel]) -> Finding:
    *parent, key = path
    where = f" in {_spell(tuple(parent))}" if parent else ""
    valid = sorted(_keys_at(model, tuple(parent)))
    near = get_close_matches(str(key), valid, n=1, cutoff=0.6)
    if near:
        return Finding(
            place, f'unknown key "{key}"{where}; did you mean "{near[0]}"?', f"write `{near[0]}:`", 0
        )
    return Finding(place, f'unknown key "{key}"{where}', f"the keys here are {', '.join(valid)}", 0)


def _keys_at(model: type[BaseModel], path: KeyPath) -> set[str]:
    """The keys that the mapping at ``path`` may have."""
    models = {model}
    for part in path:
        if isinstance(part, int):
            continue
        fields = [known.model_fields[part] for known in models if part in known.model_fields]
        reached = {found for field in fields for found in _models_in(field.annotation)}
        models = reached or {known for known in models if part in BUILD_KINDS}
    keys = {name for known in models for name, field in known.model_fields.items() if not field.exclude}
    if path == ("build",):
        from pipelines.config_build import DockerfileBuild  # noqa: PLC0415

        return {*DockerfileBuild.model_fields, *BUILD_KINDS}
    return keys


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _wrong_type(path: KeyPath, place: Place, kind: str, value: Any, document: Document) -> Finding:
    expected = _EXPECTED[kind]
    message = f"{_spell(path)}: expected {expected}, found {_found(value)}"
    written = document.scalars.get(path)
    if value is None:
        return Finding(place, message, "give it a value, or remove the key", 1)
    if expected == "text" and written is not None:
        return Finding(place, message, f'put it in quotes: "{written}"', 1)
    if expected == "a list" and written is not None:
        return Finding(place, message, f'put it in brackets: ["{written}"]', 1)
    return Finding(place, message, f"`modelport schema` prints what {_spell(path[:1])} may hold", 1)


def _found(value: object) -> str:
    """The kind of a value in YAML's words; its text is not repeated: it may be a secret."""
    names: tuple[tuple[type, str], ...] = (
        (bool, "true or false"),
        (int, "a number"),
        (float, "a number"),
        (str, "text"),
        (list, "a list"),
        (dict, "a mapping"),
        (type(None), "nothing"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), f"a {type(value).__name__}")


_PLAIN: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "greater_than": lambda ctx: f"has to be more than {ctx['gt']}",
    "greater_than_equal": lambda ctx: f"has to be at least {ctx['ge']}",
    "less_than": lambda ctx: f"has to be less than {ctx['lt']}",
    "less_than_equal": lambda ctx: f"has to be at most {ctx['le']}",
    "literal_error": lambda ctx: f"has to be {ctx['expected']}",
    "enum": lambda ctx: f"has to be {ctx['expected']}",
    "string_too_short": lambda ctx: (
        "is empty" if ctx["min_length"] == 1 else f"has fewer than {ctx['min_length']} characters"
    ),
    "string_too_long": lambda ctx: f"has more than {ctx['max_length']} characters",
    "too_short": lambda ctx: f"needs at least {ctx['min_length']} of them",
    "string_pattern_mismatch": lambda ctx: f"does not match {ctx['pattern']}",
}


def _plain(details: ErrorDetails, context: dict[str, Any]) -> str:
    plain = _PLAIN.get(details["type"])
    if plain is not None:
        return plain(context)
    text = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return text[:1].lower() + text[1:]


def _value_hint(kind: str, path: KeyPath, context: dict[str, Any]) -> str:
    if path == ("name",):
        return "a name has lower-case letters and digits, with single . _ or - between them; set `name:`"
    return f"`modelport schema` prints what {_spell(path[:1]) or 'the file'} may hold"


def _spell(path: KeyPath) -> str:
    """``build.python.weights[0].path``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
