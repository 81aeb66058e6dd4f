"""The error for the first rung that does not hold: where, what, and what to do next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pipelines.config import Model
from pipelines.errors import CheckFailed, Place
from pipelines.stages.check_golden import golden_failed
from pipelines.stages.check_report import CheckReport, Rung, each_failure

FAILURES: Final[Mapping[str, Callable[[Rung, Model], CheckFailed]]] = {
    "golden": golden_failed,
}
"""Rungs whose failure has words of its own. Any other says it by its facts: file, line, hint, failures."""


def check_failed(report: CheckReport, model: Model) -> CheckFailed:
    """The error for the first rung of ``report`` that does not hold."""
    rung = report.failed
    assert rung is not None  # noqa: S101  # asked only for a report that failed
    error = FAILURES.get(rung.name, rung_failed)(rung, model)
    error.report = report
    return error


def rung_failed(rung: Rung, model: Model) -> CheckFailed:
    """The failure of a rung as its own facts tell it."""
    facts = rung.facts
    file, line, failures = facts.get("file"), facts.get("line"), facts.get("failures") or []
    place = Place(model.directory / str(file), line) if file else Place(model.file)
    told = each_failure(failures, file)
    detail = "\n".join(part for part in (told, rung.log) if part)
    return CheckFailed(rung.detail, place=place, hint=facts.get("hint") or _hint(rung, model), detail=detail)


def _hint(rung: Rung, model: Model) -> str:
    said = "the end of what the model said stands above; " if rung.log else ""
    hints = {
        "starts": f"{said}run the image to see it happen, and see `check: port:` ({model.check.port})",
        "healthy": "`check: health:` names the path, `start_timeout_s:` how long the model may take",
        "unit": "the tests' output stands above; run them in the image or on your machine",
        "gpu": "the command's output stands above; see `check: gpu:`",
    }
    return hints.get(rung.name, f"see `check: {rung.name}:` in {model.file.name}")
