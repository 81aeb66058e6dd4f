"""What ran: JSON lines for a program (``EMBEDDED_ENGINE_EVENTS``), short lines on stderr for people."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from embedded_engine.masking import mask_text
from embedded_engine.operations import Operation
from embedded_engine.runtime.port import JSON

span_id: ContextVar[str] = ContextVar("span_id", default="")
"""The caller's span (16 hex digits), from the request's ``traceparent`` header."""

_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-[0-9a-f]{32}-([0-9a-f]{16})-[0-9a-f]{2}")  # W3C Trace Context


def parse_traceparent(header: str) -> str:
    """The span id in a ``traceparent`` header, or ""."""
    match = _TRACEPARENT.match(header)
    return match[1] if match else ""


@dataclass(slots=True)
class Events:
    """One line per operation and session, when its outcome is first known."""

    file: Path | None = None
    screen: TextIO | None = None
    secrets: Callable[[], Iterable[str]] = tuple  # their values are masked in all that is told
    told: set[str] = field(default_factory=set)
    started: float = field(default_factory=time.monotonic)

    def started_one(self, operation: Operation) -> None:
        """An operation begins to run."""
        self._print(f"{operation.kind} {self.shown(operation)}")

    def shown(self, operation: Operation) -> str:
        """An operation's name, masked: a command line may hold what it should not."""
        return mask_text(operation.name, self.secrets())

    def done(
        self, operation: Operation, seconds: float, *, cached: bool, error: str = "", data: JSON = None
    ) -> None:
        """An operation's outcome is known; only the first time counts."""
        if operation.digest in self.told:
            return
        if not error:
            self.told.add(operation.digest)
        if not cached:
            ending = f"FAILED: {error}" if error else "done"
            self._print(f"{operation.kind} {self.shown(operation)}: {ending}, {seconds:.1f} s")
        details: dict[str, JSON] = dict(data) if isinstance(data, dict) else {}
        if error:
            details["error"] = mask_text(error, self.secrets())
        self._write(operation, seconds, details, cached=cached)

    def _write(self, operation: Operation, seconds: float, details: dict[str, JSON], *, cached: bool) -> None:
        if self.file is None:
            return
        event = {
            "operation": operation.digest[:12],
            "kind": operation.kind,
            "name": self.shown(operation),
            "cached": cached,
            "seconds": round(seconds, 3),
            "span": span_id.get(),
            **details,
        }
        with self.file.open(
            "a", encoding="utf-8"
        ) as stream:  # one short append: lines of two sessions don't mix
            stream.write(json.dumps(event) + "\n")

    def _print(self, text: str) -> None:
        if self.screen is not None:
            elapsed = time.monotonic() - self.started
            line = _one_line(mask_text(text, self.secrets()))
            print(f"{elapsed:6.1f}  {line}", file=self.screen, flush=True)


def _one_line(text: str, limit: int = 150) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def to_stderr(*, quiet: bool) -> TextIO | None:
    """Where progress lines go."""
    return None if quiet else sys.stderr
