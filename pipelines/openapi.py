"""OpenAPI 3.0 and 3.1 documents: what is wrong with one, and what its operations take and give.

A subset of the OpenAPI Specification 3.0.4 and 3.1.1: paths, operations, JSON request bodies and responses,
parameters, and references inside the document. Schemas are JSON Schema 2020-12 (3.1, "Schema Object"); those
of 3.0 are read as such: ``nullable`` and the yes/no form of ``exclusiveMinimum`` are respelled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
MOST_PROBLEMS = 20

Document = Mapping[str, Any]  # Any: JSON of somebody else, looked at piece by piece


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. Schemas are JSON pointers into the document, "" where there is none."""

    path: str
    method: str
    request: str = ""
    request_required: bool = False
    responses: Mapping[str, str] = field(default_factory=dict)
    """The pointer to the JSON schema by status: "200", "4XX", "default"."""
    parameters: Mapping[tuple[str, str], tuple[bool, str]] = field(default_factory=dict)
    """(in, name) to (required, pointer)."""

    @property
    def name(self) -> str:
        """ "POST /predict"."""
        return f"{self.method.upper()} {self.path}"

    def response(self, status: int) -> str | None:
        """The pointer for ``status``; "" if the document says nothing of its body, None if nothing at all."""
        for key in (str(status), f"{status // 100}XX", "default"):
            if key in self.responses:
                return self.responses[key]
        return None


def normal(document: Document) -> Document:
    """``document`` with the schemas of OpenAPI 3.0 in the words of JSON Schema 2020-12."""
    if not str(document.get("openapi", "")).startswith("3.0"):
        return document
    found = _respelled(document)
    return found if isinstance(found, dict) else {}


def _respelled(value: Any) -> Any:  # Any: JSON
    if isinstance(value, list):
        return [_respelled(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _respelled(item) for key, item in value.items()}
    if found.get("nullable") is True:
        del found["nullable"]
        if isinstance(found.get("type"), str):
            found["type"] = [found["type"], "null"]
        if isinstance(found.get("enum"), list) and None not in found["enum"]:
            found["enum"] = [*found["enum"], None]
        if "$ref" in found:
            found = {"anyOf": [{"$ref": found["$ref"]}, {"type": "null"}]}
    for side in ("Minimum", "Maximum"):
        exclusive = found.get(f"exclusive{side}")
        if isinstance(exclusive, bool):
            del found[f"exclusive{side}"]
            if exclusive and side.lower() in found:
                found[f"exclusive{side}"] = found.pop(side.lower())
    return found


def problems(document: object) -> list[str]:
    """What is wrong with ``document``, by JSON pointer; empty if it can be read."""
    if not isinstance(document, dict):
        return ["it is not an object"]
    version = document.get("openapi")
    if not isinstance(version, str) or not re.fullmatch(r"3\.[01](\.\d+.*)?", version):
        told = f'"{version}"' if version else f'missing (swagger: "{document.get("swagger", "")}")'
        return [f'"openapi" is {told}: read are 3.0 and 3.1']
    found = []
    info = document.get("info")
    if not isinstance(info, dict) or not all(isinstance(info.get(key), str) for key in ("title", "version")):
        found.append('"info" has no "title" and "version"')
    paths = document.get("paths")
    if not isinstance(paths, dict) or not paths:
        return [*found, '"paths" has no path']
    found += [f'"{path}" does not start with "/"' for path in paths if not str(path).startswith("/")]
    found += _reference_problems(document)
    return (found or _operation_problems(document))[:MOST_PROBLEMS]


def _reference_problems(document: Document) -> list[str]:
    found = []
    for where, reference in _references(document, "#"):
        if not reference.startswith("#"):
            found.append(f'{where} refers to "{reference}", outside of the document')
        else:
            try:
                at(document, reference)
            except LookupError:
                found.append(f'{where} refers to "{reference}", which is not there')
    return found


def _references(value: object, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and not where.endswith(("/properties", "/example", "/default")):
            yield where, reference
        for key, item in value.items():
            yield from _references(item, f"{where}/{escaped(str(key))}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _references(item, f"{where}/{number}")


def _operation_problems(document: Document) -> list[str]:
    from pipelines.json_schemas import schema_problem  # noqa: PLC0415  # jsonschema takes a while to import

    found = []
    for one in operations(document):
        if not one.responses:
            found.append(f"{one.name} has no response")
        schemas = [one.request, *one.responses.values(), *(where for _, where in one.parameters.values())]
        for pointer in filter(None, schemas):
            wrong = schema_problem(at(document, pointer))
            if wrong:
                found.append(f"{pointer}: {wrong}")
    components = document.get("components")
    schemas_there = components.get("schemas") if isinstance(components, dict) else None
    for name, schema in (schemas_there if isinstance(schemas_there, dict) else {}).items():
        wrong = schema_problem(schema)
        if wrong:
            found.append(f"#/components/schemas/{name}: {wrong}")
    return found


def operations(document: Document) -> list[Operation]:
    """All operations of a document without problems."""
    found = []
    for path in document["paths"]:
        pointer, item = follow(document, f"#/paths/{escaped(path)}")
        for method in METHODS:
            if isinstance(item, dict) and isinstance(item.get(method), dict):
                found.append(_operation(document, path, method, f"{pointer}/{method}", pointer))
    return found


def _operation(document: Document, path: str, method: str, pointer: str, item: str) -> Operation:
    value = at(document, pointer)
    body, body_value = follow(document, f"{pointer}/requestBody") if "requestBody" in value else ("", {})
    responses = {}
    for status in value.get("responses") or {}:
        where, response = follow(document, f"{pointer}/responses/{escaped(str(status))}")
        responses[str(status).upper() if str(status) != "default" else "default"] = _json(response, where)
    parameters = {}
    for owner in (item, pointer):
        for number, _ in enumerate(at(document, owner).get("parameters") or ()):
            where, one = follow(document, f"{owner}/parameters/{number}")
            if isinstance(one, dict) and isinstance(one.get("name"), str):
                schema = f"{where}/schema" if "schema" in one else ""
                parameters[str(one.get("in")), one["name"]] = (one.get("required") is True, schema)
    required = isinstance(body_value, dict) and body_value.get("required") is True
    return Operation(path, method, _json(body_value, body), required, responses, parameters)


def _json(value: object, where: str) -> str:
    """The pointer to the JSON schema in the ``content`` of a body; "" if there is none."""
    content = value.get("content") if isinstance(value, dict) else None
    for kind, media in (content if isinstance(content, dict) else {}).items():
        if re.fullmatch(r"application/(\S+\+)?json(;.*)?|\*/\*", str(kind).strip(), re.IGNORECASE):
            return (
                f"{where}/content/{escaped(kind)}/schema"
                if isinstance(media, dict) and "schema" in media
                else ""
            )
    return ""


def operation_of(found: list[Operation], method: str, path: str) -> Operation | None:
    """The operation that a request of ``path`` asks; one without variables first (OAS 3.1.1, 4.8.8)."""
    path = path.partition("?")[0]
    here = [one for one in found if one.method == method.lower()]
    exact = next((one for one in here if one.path == path), None)
    return exact or next((one for one in here if _pattern(one.path).fullmatch(path)), None)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(re.escape(piece) for piece in re.split(r"\{[^{}]*\}", path)))


def follow(document: Document, pointer: str) -> tuple[str, Any]:
    """The place and value that ``pointer`` leads to, through references. A ring ends it."""
    seen = set()
    value = at(document, pointer)
    while isinstance(value, dict) and isinstance(value.get("$ref"), str) and pointer not in seen:
        seen.add(pointer)
        pointer = value["$ref"]
        value = at(document, pointer)
    return pointer, value


def at(document: Document, pointer: str) -> Any:  # Any: JSON
    """The value at a JSON pointer as a fragment (RFC 6901). Raises LookupError."""
    value: Any = document  # JSON
    for step in pointer.removeprefix("#").split("/")[1:]:
        key = _unquoted(step).replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and key.isdigit():
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, dict) and key.isdigit() and int(key) in value:
            value = value[int(key)]  # a YAML file's `200:` is a number
        else:
            raise LookupError(pointer)
    return value


def _unquoted(step: str) -> str:
    from urllib.parse import unquote  # noqa: PLC0415  # only where a document is read

    return unquote(step)


def escaped(key: str) -> str:
    """``key`` as a step of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1").replace("%", "%25")
