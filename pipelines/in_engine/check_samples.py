"""Requests that the model answers: what load, schema and abuse begin with. Python 3.8's own library."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.in_engine.check_cases import Request, golden_cases, quality_rows
from pipelines.in_engine.check_rung import Context

JSONL = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Sample:
    """A request of the golden cases or the quality data, with its body, and the status it is to get."""

    file: str
    line: int
    name: str
    request: Request
    status: int


def samples(context: Context) -> list[Sample]:
    """Those of the golden cases; of the quality data where no golden case expects a status of 200 to 299."""
    found = _golden(context)
    if any(200 <= one.status < 300 for one in found):
        return found
    return found + _quality(context)


def good_samples(context: Context) -> list[Sample]:
    """Those that are answered well."""
    return [one for one in samples(context) if 200 <= one.status < 300]


def _golden(context: Context) -> list[Sample]:
    name = context.plan.get("golden")
    if not name:
        return []
    file = context.files / name
    cases = golden_cases(file.read_text("utf-8"), context.plan["path"])
    return [
        Sample(name, case.line, case.name, _whole(context, name, case.request), case.expected.status)
        for case in cases
    ]


def _quality(context: Context) -> list[Sample]:
    quality = context.plan.get("quality")
    name = quality["data"] if quality else ""
    if quality is None or not name.endswith(JSONL):
        return []
    rows = quality_rows((context.files / name).read_text("utf-8"), quality["path"], numbers=False)
    return [Sample(name, row.line, row.name, _whole(context, name, row.request), 200) for row in rows]


def _whole(context: Context, name: str, request: Request) -> Request:
    """``request`` with its body read: what is measured is the model, not this program's disk."""
    if request.body_file is None:
        return request
    body = ((context.files / name).parent / request.body_file).read_bytes()
    return Request(request.method, request.path, request.headers, body)
