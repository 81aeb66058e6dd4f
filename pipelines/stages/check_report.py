"""What a check found out, rung by rung, and the error for the first rung that does not hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.config import Model
from pipelines.errors import CheckFailed, Place
from pipelines.quality_table import SMALLER_IS_BETTER
from pipelines.values import JSON

SHOWN_FAILURES = 10


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung. ``facts`` is what the client says of it; ``log`` what the model or its tests said."""

    name: str
    ok: bool
    detail: str
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(
        default_factory=dict
    )  # JSON, read with the keys that check_client writes
    log: str = ""

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Rung:
        """A rung as check_client tells it."""
        facts = {key: value for key, value in told.items() if key not in ("name", "ok", "detail", "seconds")}
        return cls(told["name"], told["ok"], told["detail"], told["seconds"], facts)

    def summary(self) -> str:
        """A few words."""
        if self.name != "quality" or self.facts.get("value") is None:
            return self.detail
        return f"{self.detail} ({limit_of(self.facts)})"

    def to_json(self) -> dict[str, JSON]:
        """For the record; without the log, which is in the engine's."""
        return {
            "name": self.name,
            "ok": self.ok,
            "detail": self.detail,
            "seconds": self.seconds,
            **self.facts,
        }


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All rungs that were climbed, the unit tests among them."""

    rungs: tuple[Rung, ...]

    @property
    def failed(self) -> Rung | None:
        """The first rung that does not hold."""
        return next((rung for rung in self.rungs if not rung.ok), None)

    def summary(self) -> str:
        """On one line: "healthy · 24 of 24 golden cases · accuracy 0.964 (≥ 0.95)"."""
        return " · ".join(rung.summary() for rung in self.rungs if rung.name != "starts" or not rung.ok)

    def to_json(self) -> dict[str, JSON]:
        """For the record."""
        return {
            "verdict": "failed" if self.failed else "passed",
            "rungs": [rung.to_json() for rung in self.rungs],
        }


def parse_ladder(text: str) -> tuple[Rung, ...] | None:
    """The rungs in the client's answer; None when it is not the client's."""
    try:
        told = json.loads(text)
        return tuple(Rung.parse(rung) for rung in told["rungs"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def limit_of(facts: Mapping[str, Any]) -> str:
    """The limit that a metric keeps: "≥ 0.95"."""
    sign, key = ("≤", "at_most") if facts["metric"] in SMALLER_IS_BETTER else ("≥", "at_least")
    return f"{sign} {facts[key]:g}"


def check_failed(report: CheckReport, model: Model) -> CheckFailed:
    """The error for the first rung that does not hold: where, what, and what to do next."""
    rung = report.failed
    assert rung is not None  # noqa: S101  # asked only for a report that failed
    make = {"golden": _golden_failed, "quality": _quality_failed}.get(rung.name, _other_failed)
    error = make(rung, model)
    error.report = report
    return error


def _golden_failed(rung: Rung, model: Model) -> CheckFailed:
    failures = rung.facts["failures"]
    first, file = failures[0], model.directory / str(model.check.golden)
    total, passed, not_asked = (rung.facts[key] for key in ("total", "passed", "not_asked"))
    others = total - passed - not_asked - 1
    more = f" (and {others} more of {total} golden cases)" if others else ""
    if not_asked:
        more += f"; {not_asked} were not asked, for the model had stopped answering"
    return CheckFailed(
        f"{_titled(first)}{first['messages'][0]}{more}",
        place=Place(file, first["line"]),
        hint=_golden_hint(first["messages"][0]),
        detail=_told(failures, model.check.golden),
    )


def _golden_hint(message: str) -> str:
    if message.startswith("status is 5"):
        return "the model failed on this request: send it to the image by hand and read its log"
    if message.startswith(("no ", "the connection", "the answer ended")):
        return "the model may be too slow here: `check: request_timeout_s:` says how long an answer may take"
    if " is missing" in message or message.startswith("status is"):
        return "if the answer's form changed on purpose, write the new one into this line"
    return (
        "if the new answer is right, write it into this line; numbers that differ between machines "
        "need a tolerance (`check: tolerance:`)"
    )


def _quality_failed(rung: Rung, model: Model) -> CheckFailed:
    facts, quality = rung.facts, model.check.quality
    data = quality.data if quality else ""
    failures = facts.get("failures") or []
    if facts["value"] is None:
        first = failures[0] if failures else None
        message = f"{rung.detail}: {first['messages'][0]}" if first else rung.detail
        place = Place(model.directory / data, first["line"] if first else None)
        hint = (
            "every row needs an answer with a prediction: see `check: quality: answer:` and the model's log"
        )
        return CheckFailed(message, place=place, hint=hint, detail=_told(failures, data))
    side = "above" if facts["metric"] in SMALLER_IS_BETTER else "below"
    limit = facts["at_most"] if side == "above" else facts["at_least"]
    return CheckFailed(
        f"{facts['metric']} {_distinct(facts['value'], limit)} over {facts['rows']} rows is {side} {limit:g}",
        place=Place(model.directory / data),
        hint="look at the rows above; the limit stands in modelport.yaml under `check: quality:`",
        detail=_told(facts.get("wrong") or [], data),
    )


def _distinct(value: float, limit: float) -> str:
    """``value`` with as many digits as tell it from ``limit``."""
    return next(
        (text for digits in range(3, 16) if float(text := f"{value:.{digits}f}") != limit), repr(value)
    )


def _other_failed(rung: Rung, model: Model) -> CheckFailed:
    said = "the end of what the model said stands above; " if rung.log else ""
    hints = {
        "starts": f"{said}run the image to see it happen, and see `check: port:` ({model.check.port})",
        "healthy": "`check: health:` names the path, `start_timeout_s:` how long the model may take",
        "unit": "the tests' output stands above; run them in the image or on your machine",
    }
    return CheckFailed(rung.detail, place=Place(model.file), hint=hints[rung.name], detail=rung.log)


def _titled(failure: Mapping[str, Any]) -> str:
    return f"{failure['name']}: " if failure["name"] else ""


def _told(failures: list[dict[str, Any]], file: str | None) -> str:
    """Every failure on lines of its own; the first alone needs none, the error has it."""
    if len(failures) == 1 and len(failures[0]["messages"]) == 1:
        return ""
    lines = []
    for failure in failures[:SHOWN_FAILURES]:
        start = f"{file}:{failure['line']}: {_titled(failure)}"
        lines += [start + message for message in failure["messages"]]
        if failure["more"]:
            lines.append(f"{start}and {failure['more']} more differences")
    left = len(failures) - SHOWN_FAILURES
    return "\n".join([*lines, f"and {left} more"] if left > 0 else lines)
