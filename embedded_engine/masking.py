"""Hiding secrets in a stream: every value, and its form without outer white space, becomes ``***``.

A value may be split over any number of writes: what could be its beginning is held back until that is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

MASK = b"***"


def patterns_of(values: Iterable[str | bytes]) -> tuple[bytes, ...]:
    """What to look for: each value and its trimmed form, the longest first; empty ones are left out."""
    found: set[bytes] = set()
    for value in values:
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        found |= {data, data.strip()}
    found.discard(b"")
    return tuple(sorted(found, key=lambda pattern: (-len(pattern), pattern)))


@dataclass(slots=True)
class Masker:
    """Masks one stream. ``feed`` what comes, send on what it gives; ``finish`` gives the rest."""

    patterns: tuple[bytes, ...] = field(repr=False)
    _regex: re.Pattern[bytes] | None = field(init=False, repr=False)
    _held: bytes = field(default=b"", init=False, repr=False)

    def __post_init__(self) -> None:
        self._regex = re.compile(b"|".join(map(re.escape, self.patterns))) if self.patterns else None

    @classmethod
    def of(cls, values: Iterable[str | bytes]) -> Masker:
        """For these secret values."""
        return cls(patterns_of(values))

    def feed(self, data: bytes) -> bytes:
        """What can be shown now."""
        if self._regex is None:
            return data
        text = self._held + data
        shown, end = self._replaced(text, final=False)
        self._held = text[end:]
        return shown

    def finish(self) -> bytes:
        """What was held back, masked."""
        shown, _ = self._replaced(self._held, final=True)
        self._held = b""
        return shown

    def _replaced(self, text: bytes, *, final: bool) -> tuple[bytes, int]:
        """The masked beginning of ``text`` and how much of it that is."""
        if self._regex is None:
            return text, len(text)
        limit = len(text) if final else self._undecided(text)
        out: list[bytes] = []
        position = 0
        while (match := self._regex.search(text, position)) and match.start() < limit:
            out += [text[position : match.start()], MASK]
            position = match.end()
        out.append(text[position : max(limit, position)])
        return b"".join(out), max(limit, position)

    def _undecided(self, text: bytes) -> int:
        """Where the first place is at which a value could begin that is not all here yet."""
        longest = len(self.patterns[0])
        for start in range(max(0, len(text) - longest + 1), len(text)):
            tail = text[start:]
            if any(len(pattern) > len(tail) and pattern.startswith(tail) for pattern in self.patterns):
                return start
        return len(text)


def mask_bytes(data: bytes, values: Iterable[str | bytes]) -> bytes:
    """``data`` with every value hidden."""
    masker = Masker.of(values)
    return masker.feed(data) + masker.finish()


def mask_text(text: str, values: Iterable[str | bytes]) -> str:
    """``text`` with every value hidden."""
    return mask_bytes(text.encode("utf-8", "surrogateescape"), values).decode("utf-8", "surrogateescape")


def mask_tail(text: str, values: Iterable[str | bytes]) -> str:
    """The end of a longer text with every value hidden, also one that was cut where the text begins."""
    data = text.encode("utf-8", "surrogateescape")
    patterns = patterns_of(values)
    ends = (pattern[start:] for pattern in patterns for start in range(1, len(pattern)))
    cut = max((len(end) for end in ends if data.startswith(end)), default=0)
    if cut and not any(data.startswith(pattern) for pattern in patterns):
        data = MASK + data[cut:]
    return mask_bytes(data, values).decode("utf-8", "surrogateescape")
