"""The values that a screen shows, and what a screen is. All texts come masked."""

from __future__ import annotations

import re
import time
import unicodedata
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

TAIL_LINES = 20
TITLE_LIMIT = 150
# ECMA-48 5.4 (CSI), 5.6 (strings such as OSC) and the two-character escapes of 5.3
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\|$)|[ -/]*[0-~])")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(slots=True, eq=False)
class Running:
    """One operation under way, with the end of what it has said so far."""

    title: str
    begin: float = field(default_factory=time.monotonic)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    shown_at: float = 0.0  # when a log last had a line of it
    _parts: dict[int, bytes] = field(default_factory=dict, repr=False)

    def take(self, stream: int, piece: bytes) -> None:
        """What it just said (masked) on stdout (1) or stderr (2)."""
        *whole, part = (self._parts.get(stream, b"") + piece).split(b"\n")
        self._parts[stream] = part[-8192:]
        for line in whole[-TAIL_LINES:]:
            text = printable(line)
            if text:
                self.lines.append(text)

    def so_far(self) -> float:
        """Seconds since it began its own work."""
        return time.monotonic() - self.begin

    @property
    def recent(self) -> str:
        """Its last line, also one that is not finished."""
        parts = [text for part in self._parts.values() if (text := printable(part))]
        return parts[-1] if parts else self.lines[-1] if self.lines else ""

    def tail(self) -> tuple[str, ...]:
        """Its last lines."""
        parts = [text for part in self._parts.values() if (text := printable(part))]
        return (*self.lines, *parts)[-TAIL_LINES:]


@dataclass(frozen=True, slots=True)
class Ended:
    """How an operation ended: ``error`` is one line, "" for success."""

    seconds: float
    error: str = ""
    remark: str = ""  # such as "3 of 5 steps cached"
    tail: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()  # what came before it, first to last


class Screen(Protocol):
    """Where progress is shown. Every method may be called from the event loop's thread only."""

    def started(self, running: Running) -> None:
        """An operation begins to run."""
        ...

    def ended(self, running: Running, ended: Ended) -> None:
        """It has ended."""
        ...

    def dropped(self, running: Running) -> None:
        """Nobody waits for it any more: it was cancelled."""
        ...

    def cached(self, title: str) -> None:
        """An operation was answered from the cache."""
        ...

    def note(self, text: str) -> None:
        """Something people should know."""
        ...

    def debug(self, text: str) -> None:
        """Something asked for by --debug."""
        ...

    def close(self, summary: str) -> None:
        """The session ends. Nothing is shown after this."""
        ...


@dataclass(slots=True)
class Quiet:
    """Shows nothing."""

    def started(self, running: Running) -> None:
        """See Screen."""

    def ended(self, running: Running, ended: Ended) -> None:
        """See Screen."""

    def dropped(self, running: Running) -> None:
        """See Screen."""

    def cached(self, title: str) -> None:
        """See Screen."""

    def note(self, text: str) -> None:
        """See Screen."""

    def debug(self, text: str) -> None:
        """See Screen."""

    def close(self, summary: str) -> None:
        """See Screen."""


def printable(line: bytes | str) -> str:
    """A line as text that does nothing to a terminal: no escapes, no controls; of a progress bar that writes
    over itself, what is seen at last."""
    text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
    text = _ESCAPES.sub("", text.replace("\t", "  "))
    pieces = [piece for piece in text.split("\r") if piece.strip()]
    return _CONTROLS.sub("", pieces[-1]).rstrip() if pieces else ""


def one_line(text: str, limit: int = TITLE_LIMIT) -> str:
    """``text`` as one line that is not too long."""
    line = _CONTROLS.sub("", _ESCAPES.sub("", " ".join(text.split())))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def fitting(text: str, columns: int) -> str:
    """``text`` as one line that a terminal shows in so many columns: wide characters take two."""
    line = one_line(text, max(1, columns))
    widths = [_width(character) for character in line]
    if sum(widths) <= columns:
        return line
    while widths and sum(widths) > columns - 1:
        widths.pop()
    return line[: len(widths)] + "…"


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1  # Unicode, UAX #11


def duration(seconds: float) -> str:
    """A time as people write it: 0.4 s, 1 min 05 s, 2 h 03 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def before(chain: tuple[str, ...], limit: int = 4) -> str:
    """The way to an operation in one line: the first step and the last ones."""
    if len(chain) > limit:
        chain = (chain[0], "…", *chain[1 - limit :])
    return " → ".join(one_line(step, 60) for step in chain)
