"""A schema document and real answers: is it valid, and do they conform. No engine, no network."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipelines.config import Model
from pipelines.config_schema_check import SchemaCheck
from pipelines.errors import ConfigError, Place
from pipelines.quality_memo import Memo, quality_directory
from pipelines.registries.descriptors import sha256
from pipelines.stages.check_planned import read_lines

LARGEST_FILE: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is found of a document and answers. ``failures`` are as the client's own."""

    document: Mapping[str, Any]  # Any: JSON
    problems: tuple[str, ...] = ()
    failures: tuple[Mapping[str, Any], ...] = ()
    checked: int = 0
    notes: tuple[str, ...] = ()


def document_of_file(model: Model, schema: SchemaCheck) -> object:
    """The document of the file that is named; None where the model itself is asked. Raises ConfigError."""
    name = schema.file or schema.answer
    if name is None:
        return None
    file = model.directory / name
    return read_lines(file, lambda text: _parsed(text, file), LARGEST_FILE)


def _parsed(text: str, file: Path) -> object:
    import yaml  # noqa: PLC0415  # only where a file is named

    try:
        value = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
        # YAML's numbers as keys (`200:`) and its dates are texts in JSON
        return json.loads(json.dumps(value, default=str, allow_nan=False))
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as err:
        kind = "JSON" if file.suffix == ".json" else "YAML"
        reason = " ".join(str(err).split())[:200]
        raise ConfigError(f"not {kind}: {reason}", place=Place(file), hint="is it the right file?") from err


def judged(told: Mapping[str, Any], model: Model, schema: SchemaCheck) -> Verdict:
    """What the client told, judged. For a thread of its own; what holds is judged once.

    Raises:
        ConfigError: the schema's file can't be read.
    """
    from pipelines.openapi import normal  # noqa: PLC0415  # only where there is a schema

    try:
        document = (
            document_of_file(model, schema)
            if schema.openapi is None
            else json.loads(unpacked(told["document"]))
        )
    except (ValueError, RecursionError) as err:
        return Verdict({}, (f"the OpenAPI document at {schema.openapi} is not JSON: {str(err)[:200]}",))
    answers = json.loads(unpacked(told["answers"]))
    memo = Memo(quality_directory(model.directory))
    key = {
        "conforms": told["answers"],
        "to": document,
        "as": "answer" if schema.answer else "openapi",
        "path": model.check.path,
        "by": _judged_by(),
    }
    known = memo.recall(key)  # importing jsonschema takes a quarter of a second
    if isinstance(known, int) and isinstance(document, dict):
        return Verdict(
            document if schema.answer else dict(normal(document)), checked=known, notes=_notes(known)
        )
    verdict = _judged(document, answers, model, schema)
    if not verdict.problems and not verdict.failures:
        memo.remember(key, verdict.checked)
    return verdict


def _judged_by() -> str:
    """The digest of what judges: another version of it judges anew."""
    here = Path(__file__).parent
    names = ("schema_conformance.py", "json_schemas.py", "openapi.py")
    return sha256(b"".join((here / name).read_bytes() for name in names))


def _notes(checked: int) -> tuple[str, ...]:
    none = "no answer was held against it: there is no golden case (or row of quality data) to ask"
    return () if checked else (none,)


def _judged(document: object, answers: list[dict[str, Any]], model: Model, schema: SchemaCheck) -> Verdict:
    from pipelines.json_schemas import schema_problem  # noqa: PLC0415  # it takes a while to import
    from pipelines.openapi import normal, problems  # noqa: PLC0415

    if schema.answer is not None:
        wrong = schema_problem(document)
        found = [f"it is no JSON Schema: {wrong}"] if wrong else []
    else:
        found = [f"the OpenAPI document is not valid: {one}" for one in problems(document)]
    if found or not isinstance(document, dict):
        return Verdict({}, tuple(found) or ("a schema of true or false says nothing",))
    document = document if schema.answer else dict(normal(document))
    return _conforming(document, answers, model, schema)


def _conforming(
    document: Mapping[str, Any], answers: list[dict[str, Any]], model: Model, schema: SchemaCheck
) -> Verdict:
    """Hold every answer (and a good one's request) against its schema."""
    from pipelines.openapi import operations  # noqa: PLC0415  # with jsonschema, see judged

    own = [] if schema.answer else operations(document)
    failures, checked = [], 0
    for answer in answers:
        if schema.answer and (
            answer["path"].partition("?")[0] != model.check.path or answer.get("status") != 200
        ):
            continue
        messages = (
            _answer_messages(answer, document, "#")
            if schema.answer
            else _operation_messages(answer, document, own)
        )
        checked += 1
        if messages:
            where = {"file": answer["file"], "line": answer["line"], "name": answer["name"]}
            failures.append({**where, "messages": messages[:5], "more": max(0, len(messages) - 5)})
    return Verdict(document, (), tuple(failures), checked, _notes(checked))


def _operation_messages(answer: Mapping[str, Any], document: Mapping[str, Any], own: list[Any]) -> list[str]:
    from pipelines.json_schemas import differences  # noqa: PLC0415  # see judged
    from pipelines.openapi import operation_of  # noqa: PLC0415

    asked = f"{answer['method']} {answer['path'].partition('?')[0]}"
    operation = operation_of(own, answer["method"], answer["path"])
    status = answer.get("status", 0)
    good = 200 <= status < 300
    if operation is None:
        return [f"{asked} is not in the OpenAPI document"] if good else []
    messages = []
    if good and operation.request and answer["sent"] and "json" in answer["sent_type"]:
        try:
            found = differences(json.loads(answer["sent"]), document, operation.request)
            messages = [f"the request of {asked} does not conform: {one}" for one in found]
        except ValueError:
            messages = [f"the request of {asked} is not JSON, as the document says"]
    pointer = operation.response(status)
    if pointer is None and good:
        return [*messages, f"{asked}: the status {status} is not in the OpenAPI document"]
    return messages + (_answer_messages(answer, document, pointer) if pointer else [])


def _answer_messages(answer: Mapping[str, Any], document: Mapping[str, Any], pointer: str) -> list[str]:
    from pipelines.json_schemas import differences  # noqa: PLC0415  # see judged

    asked = f"{answer['method']} {answer['path'].partition('?')[0]}"
    if answer.get("error"):
        return [f"{asked}: {answer['error']}"]
    if answer.get("body") is None:  # too large to be told, or binary: nothing to hold against a JSON schema
        return []
    try:
        value = json.loads(answer["body"])
    except (ValueError, RecursionError) as err:
        return [f"the answer of {asked} is not JSON: {str(err)[:200]}"]
    return [f"the answer of {asked} does not conform: {one}" for one in differences(value, document, pointer)]


def unpacked(text: str) -> str:
    """What the client packed. Raises ValueError."""
    try:
        return zlib.decompress(base64.b64decode(text)).decode()
    except (zlib.error, binascii.Error) as err:
        raise ValueError(str(err)) from err
