"""What changed between two OpenAPI documents or two JSON Schemas, and which changes break callers.

A caller sends what the published version took, and reads what it gave. So a request may not get narrower
(a new required field, fewer types or values), and an answer may not get wider or poorer (a field that is
gone or no longer certain, another type). What can't be told apart is no change: only ``type``, ``enum``,
``const``, ``properties``, ``required``, ``items`` and ``additionalProperties: false`` are compared, through
references and ``allOf``; of ``anyOf`` and ``oneOf`` the types are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.openapi import Document, Operation, at, follow, operations

Side = Literal["request", "answer"]
DEEPEST = 12


@dataclass(frozen=True, slots=True)
class Changes:
    """Sentences about what changed."""

    breaking: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a schema says that is compared. No types: any."""

    types: frozenset[str] = frozenset()
    values: frozenset[str] | None = None
    properties: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # the pointers of each
    required: frozenset[str] = frozenset()
    items: tuple[str, ...] = ()
    closed: bool = False


class _Comparison:
    """One old and one new document."""

    def __init__(self, old: Document, new: Document) -> None:
        self.old, self.new = old, new
        self.breaking: list[str] = []
        self.harmless: list[str] = []

    def schemas(
        self, old: tuple[str, ...], new: tuple[str, ...], where: str, side: Side, depth: int = 0
    ) -> None:
        """Compare the schemas at some pointers (several: all of them count)."""
        if depth > DEEPEST or not old or not new:
            return
        before, after = _shape(self.old, old), _shape(self.new, new)
        self.types(before, after, where, side)
        self.values(before, after, where, side)
        self.fields(before, after, where, side, depth)
        self.schemas(before.items, after.items, f"{where}[]", side, depth + 1)

    def types(self, before: _Shape, after: _Shape, where: str, side: Side) -> None:
        """A request's types may only grow in number, an answer's only shrink."""
        lost, added = _types_less(before, after), _types_less(after, before)
        if side == "answer":
            lost, added = added, lost
        if lost:
            self.breaking.append(f"{where}: the type was {_named(before.types)}, now {_named(after.types)}")
        elif added:
            self.harmless.append(f"{where}: the type was {_named(before.types)}, now {_named(after.types)}")

    def values(self, before: _Shape, after: _Shape, where: str, side: Side) -> None:
        """The same for the values of an enumeration."""
        gone = _values_less(before.values, after.values)
        new = _values_less(after.values, before.values)
        narrower, wider = (gone, new) if side == "request" else (new, gone)
        verb = ("no longer takes", "now takes") if side == "request" else ("can now be", "can no longer be")
        if narrower:
            self.breaking.append(f"{where}: {verb[0]} {narrower}")
        if wider:
            self.harmless.append(f"{where}: {verb[1]} {wider}")

    def fields(self, before: _Shape, after: _Shape, where: str, side: Side, depth: int) -> None:
        """The fields of objects."""
        for name in [*before.properties, *(set(after.properties) - set(before.properties))]:
            place = f"{where}.{name}" if where[-1:] != " " else f"{where}{name}"
            was, now = name in before.properties, name in after.properties
            if was and now:
                old, new = before.properties[name], after.properties[name]
                self.schemas(old, new, place, side, depth + 1)
            if side == "answer":
                self.answer_field(before, after, name, place)
            else:
                self.request_field(before, after, name, place)

    def answer_field(self, before: _Shape, after: _Shape, name: str, place: str) -> None:
        """A field of an answer: it may come, not go."""
        if name not in after.properties:
            self.breaking.append(f"{place}: was removed from the answer")
        elif name not in before.properties:
            self.harmless.append(f"{place}: is new in the answer")
        elif name in before.required - after.required:
            self.breaking.append(f"{place}: is no longer in every answer")

    def request_field(self, before: _Shape, after: _Shape, name: str, place: str) -> None:
        """A field of a request: it may go unless unknown ones are refused; a new one may not be required."""
        if name in after.required - before.required:
            new = "is new and required" if name not in before.properties else "is now required"
            self.breaking.append(f"{place}: {new}")
        elif name not in after.properties and after.closed:
            self.breaking.append(f"{place}: is no longer taken")
        elif name not in after.properties:
            self.harmless.append(f"{place}: was removed from the request")
        elif name not in before.properties:
            self.harmless.append(f"{place}: is new and optional")

    def done(self) -> Changes:
        """What was found, each once."""
        return Changes(tuple(dict.fromkeys(self.breaking)), tuple(dict.fromkeys(self.harmless)))


def schema_changes(old: Document, new: Document) -> Changes:
    """The changes between two JSON Schemas of an answer."""
    comparison = _Comparison(old, new)
    comparison.schemas(("#",), ("#",), "the answer", "answer")
    return comparison.done()


def openapi_changes(old: Document, new: Document) -> Changes:
    """The changes between two OpenAPI documents without problems."""
    comparison = _Comparison(old, new)
    before = {(one.method, one.path): one for one in operations(old)}
    after = {(one.method, one.path): one for one in operations(new)}
    for key, one in before.items():
        if key in after:
            _compare(comparison, one, after[key])
        else:
            comparison.breaking.append(f"{one.name} was removed")
    comparison.harmless += [f"{one.name} is new" for key, one in after.items() if key not in before]
    return comparison.done()


def _compare(comparison: _Comparison, old: Operation, new: Operation) -> None:
    name = old.name
    if new.request_required and not old.request_required:
        text = f"{name}: a body is now required"
        (comparison.harmless if old.request else comparison.breaking).append(text)
    comparison.schemas(_some(old.request), _some(new.request), f"{name}: request ", "request")
    for key, (required, pointer) in new.parameters.items():
        was_required, was = old.parameters.get(key, (False, ""))
        if required and not was_required:
            word = "is now required" if key in old.parameters else "is new and required"
            comparison.breaking.append(f'{name}: the {key[0]} parameter "{key[1]}" {word}')
        where = f'{name}: the {key[0]} parameter "{key[1]}"'
        comparison.schemas(_some(was), _some(pointer), where, "request")
    for status, pointer in old.responses.items():
        if status in new.responses:
            comparison.schemas(_some(pointer), _some(new.responses[status]), f"{name}: {status} ", "answer")
        elif status.startswith("2"):
            comparison.breaking.append(f"{name}: the answer {status} was removed")


def _some(pointer: str) -> tuple[str, ...]:
    return (pointer,) if pointer else ()


def _shape(document: Document, pointers: Iterable[str]) -> _Shape:
    """What the schemas at ``pointers`` say together."""
    types: frozenset[str] | None = None
    values: frozenset[str] | None = None
    properties: dict[str, tuple[str, ...]] = {}
    required: set[str] = set()
    items: tuple[str, ...] = ()
    closed = False
    for pointer in _flat(document, pointers):
        schema = at(document, pointer)
        own = _types(document, pointer)
        types = own if not types else (types & own if own else types)
        listed = _values(schema)
        values = listed if values is None else (values & listed if listed is not None else values)
        for name in schema.get("properties") or {}:
            step = name.replace("~", "~0").replace("/", "~1").replace("%", "%25")
            properties[name] = (*properties.get(name, ()), f"{pointer}/properties/{step}")
        required |= {name for name in schema.get("required") or () if isinstance(name, str)}
        items += (f"{pointer}/items",) if isinstance(schema.get("items"), dict) else ()
        closed = closed or schema.get("additionalProperties") is False
    return _Shape(types or frozenset(), values, properties, frozenset(required), items, closed)


def _flat(document: Document, pointers: Iterable[str]) -> list[str]:
    """The pointers to the objects behind references and ``allOf``; a ring ends."""
    found: list[str] = []
    waiting = list(pointers)
    while waiting:
        pointer, value = follow(document, waiting.pop(0))
        if pointer in found or not isinstance(value, dict):
            continue
        found.append(pointer)
        every = value.get("allOf")
        waiting += [f"{pointer}/allOf/{n}" for n in range(len(every) if isinstance(every, list) else 0)]
    return found


def _types(document: Document, pointer: str, depth: int = 0) -> frozenset[str]:
    """The types that one schema allows; none: all."""
    pointer, schema = follow(document, pointer)
    if not isinstance(schema, dict) or depth > DEEPEST:
        return frozenset()
    named = schema.get("type")
    if isinstance(named, str | list):
        return frozenset([named] if isinstance(named, str) else map(str, named))
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            parts = [_types(document, f"{pointer}/{word}/{n}", depth + 1) for n in range(len(schema[word]))]
            return frozenset().union(*parts) if all(parts) else frozenset()
    values = _values(schema)
    return frozenset(_type_of(json.loads(text)) for text in values) if values else frozenset()


def _type_of(value: object) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _values(schema: Mapping[str, Any]) -> frozenset[str] | None:  # Any: JSON
    if isinstance(schema.get("enum"), list):
        return frozenset(json.dumps(value, sort_keys=True, ensure_ascii=False) for value in schema["enum"])
    return frozenset([json.dumps(schema["const"], sort_keys=True)]) if "const" in schema else None


def _types_less(one: _Shape, other: _Shape) -> frozenset[str]:
    """The types of ``one`` that ``other`` has not; an integer is a number."""
    if not other.types:
        return frozenset()
    if not one.types:
        return frozenset(["any"])
    return frozenset(
        kind for kind in one.types - other.types if not (kind == "integer" and "number" in other.types)
    )


def _values_less(one: frozenset[str] | None, other: frozenset[str] | None) -> str:
    """The values of ``one`` that ``other`` has not, as text."""
    if other is None:
        return ""
    if one is None:
        return "any value"
    return ", ".join(sorted(one - other))


def _named(types: frozenset[str]) -> str:
    return " or ".join(sorted(types)) or "any"
