"""What a check found out, rung by rung, and the error for the first rung that does not hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.values import JSON

SHOWN_FAILURES = 10


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung. ``facts`` is what the client says of it; ``log`` what the model or its tests said."""

    name: str
    ok: bool
    """It holds, or was skipped."""
    detail: str
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(
        default_factory=dict
    )  # JSON, read with the keys that check_client writes
    log: str = ""
    skipped: bool = False
    """It was not climbed, for ``detail`` says why; so it neither passed nor failed."""

    @property
    def passed(self) -> bool:
        """It was climbed, and holds."""
        return self.ok and not self.skipped

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Rung:
        """A rung as check_client tells it."""
        facts = {key: value for key, value in told.items() if key not in ("name", "ok", "detail", "seconds")}
        return cls(told["name"], told["ok"], told["detail"], told["seconds"], facts)

    def summary(self) -> str:
        """A few words."""
        return self.detail

    def to_json(self) -> dict[str, JSON]:
        """For the record; without the log, which is in the engine's."""
        return {
            "name": self.name,
            "ok": None if self.skipped else self.ok,
            **({"skipped": True} if self.skipped else {}),
            "detail": self.detail,
            "seconds": self.seconds,
            **{key: fact for key, fact in self.facts.items() if key not in ("cases", "document")},
        }


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All rungs that were climbed, the unit tests among them."""

    rungs: tuple[Rung, ...]

    @property
    def failed(self) -> Rung | None:
        """The first rung that does not hold."""
        return next((rung for rung in self.rungs if not rung.ok), None)

    @property
    def reached(self) -> str:
        """The highest rung that holds; "" where not even the first does."""
        held = []
        for rung in self.rungs:
            if not rung.ok:
                break
            held += [rung.name] if rung.passed else []
        return held[-1] if held else ""

    def summary(self) -> str:
        """On one line: "healthy · 24 of 24 golden cases · accuracy 0.964 (≥ 0.95)"."""
        return " · ".join(rung.summary() for rung in self.rungs if rung.name != "starts" or not rung.ok)

    def to_json(self) -> dict[str, JSON]:
        """For the record."""
        return {
            "verdict": "failed" if self.failed else "passed",
            "reached": self.reached or None,
            "rungs": [rung.to_json() for rung in self.rungs],
        }


def parse_ladder(text: str) -> tuple[Rung, ...] | None:
    """The rungs in the client's answer; None when it is not the client's."""
    try:
        told = json.loads(text)
        return tuple(Rung.parse(rung) for rung in told["rungs"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def titled(failure: Mapping[str, Any]) -> str:
    """The case's name before what is said of it."""
    return f"{failure['name']}: " if failure["name"] else ""


def failures_told(failures: list[dict[str, Any]], file: str | None) -> str:
    """Every failure on lines of its own; the first alone needs none, the error has it."""
    if len(failures) == 1 and len(failures[0]["messages"]) == 1:
        return ""
    return each_failure(failures, file)


def each_failure(failures: list[dict[str, Any]], file: str | None) -> str:
    """Every failure on lines of its own, with its place where it has one."""
    lines = []
    for failure in failures[:SHOWN_FAILURES]:
        where = f"{file}:{failure['line']}: " if file and failure["line"] else ""
        start = f"{where}{titled(failure)}"
        lines += [start + message for message in failure["messages"]]
        if failure["more"]:
            lines.append(f"{start}and {failure['more']} more differences")
    left = len(failures) - SHOWN_FAILURES
    return "\n".join([*lines, f"and {left} more"] if left > 0 else lines)
