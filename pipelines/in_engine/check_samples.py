"""Requests that the model answers: what load, schema and abuse begin with. Python 3.8's own library."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.in_engine.check_body import whole
from pipelines.in_engine.check_cases import Request, request_of
from pipelines.in_engine.check_golden import read_cases
from pipelines.in_engine.check_rung import Context


@dataclass(frozen=True)
class Sample:
    """A request of the golden cases or the quality data, with its body, and the status it is to get."""

    file: str
    line: int
    name: str
    request: Request
    status: int


def samples(context: Context) -> list[Sample]:
    """Those of the golden cases, and of the quality data where the plan has some."""
    return _golden(context) + _quality(context)


def good_samples(context: Context) -> list[Sample]:
    """Those that are answered well."""
    return [one for one in samples(context) if 200 <= one.status < 300]


def _golden(context: Context) -> list[Sample]:
    section = context.plan.get("golden")
    if not section:
        return []
    cases, directory = read_cases(context, section)
    # With their bodies read: what is measured is the model, not this program's disk.
    return [
        Sample(section["file"], one.line, one.name, whole(one.request, directory), one.expected.status)
        for one in cases
    ]


def _quality(context: Context) -> list[Sample]:
    section = context.plan.get("samples")
    if not section:
        return []
    directory = (context.files / section["file"]).parent
    found = []
    for row in section["rows"]:
        request = request_of(row["line"], row["request"], section["path"])
        found.append(Sample(section["file"], row["line"], row["name"], whole(request, directory), 200))
    return found
