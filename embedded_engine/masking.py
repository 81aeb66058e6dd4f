"""Hiding secrets in a stream: whatever tells a known value (``disguises``) becomes ``***``.

A value may be split over any number of writes: what could be its beginning is held back until that is known.
All texts are looked for at once, so the cost hardly grows with their number: the data is read as words of
four bytes, and where a text of seven bytes or more stands, one of its first four windows of that size is such
a word. Words are looked up by the hundred in one call of the interpreter.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from embedded_engine.disguises import SHORTEST, disguises_of

MASK = b"***"
_WORD = 4
_LONG = 2 * _WORD - 1  # texts at least this long are looked for together, the few shorter ones each by itself
_CHUNK = 512  # words


def encoded(value: str | bytes) -> bytes:
    """A value as the bytes that a program gets."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Hidden:
    """Values and what to look for to hide them, compiled once. Iterating gives the values."""

    values: tuple[bytes, ...] = field(default=(), repr=False)
    longest: int = 0
    _short: tuple[bytes, ...] = field(default=(), repr=False)
    _words: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict, repr=False)  # to (place, text)
    _starts: dict[bytes, list[bytes]] = field(default_factory=dict, repr=False)  # by the first four bytes

    @classmethod
    def of(cls, values: Iterable[str | bytes]) -> Hidden:
        """For these values, their encodings and lines."""
        known = tuple(dict.fromkeys(map(encoded, values)))
        return cls._compiled(known, set().union(*map(disguises_of, known)))

    @classmethod
    def _compiled(cls, values: tuple[bytes, ...], texts: Iterable[bytes]) -> Hidden:
        ordered = sorted(texts, key=lambda text: (-len(text), text))
        made = cls(values, len(ordered[0]) if ordered else 0, tuple(t for t in ordered if len(t) < _LONG))
        for text in ordered:
            made._starts.setdefault(text[:SHORTEST], []).append(text)
            for size in range(1, SHORTEST):
                made._starts.setdefault(text[:size], [])
            if len(text) >= _LONG:
                made._add(text)
        return made

    def _add(self, text: bytes) -> None:
        for at in range(_WORD):
            word = int.from_bytes(text[at : at + _WORD], sys.byteorder)
            self._words.setdefault(word, []).append((at, text))

    def __iter__(self) -> Iterator[str]:
        return (value.decode("utf-8", "surrogateescape") for value in self.values)

    def __bool__(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self.longest)

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where something to hide stands: (start, end), by start; they may overlap."""
        found = list(self._long_spans(data))
        for text in self._short:
            start = data.find(text)
            while start >= 0:
                found.append((start, start + len(text)))
                start = data.find(text, start + 1)
        found.sort()
        return found

    def _long_spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        known = self._words.keys()
        words = memoryview(data)[: len(data) // _WORD * _WORD].cast("I")
        for first in range(0, len(words) if known else 0, _CHUNK):
            some = words[first : first + _CHUNK]
            if known.isdisjoint(some):
                continue
            for number, word in enumerate(some, first):
                for at, text in self._words.get(word, ()):
                    start = _WORD * number - at
                    if start >= 0 and data.startswith(text, start):
                        yield start, start + len(text)

    def undecided(self, data: bytes) -> int:
        """Where the first place is at which something could begin that is not all here yet."""
        size = len(data)
        for start in range(max(0, size - self.longest + 1), size):
            texts = self._starts.get(data[start : start + SHORTEST])
            if texts is None:
                continue
            left = size - start
            if left < SHORTEST or any(len(t) > left and data.startswith(t[:left], start) for t in texts):
                return start
        return size


@dataclass(slots=True)
class Masker:
    """Masks one stream. ``feed`` what comes, send on what it gives; ``finish`` gives the rest."""

    hidden: Hidden
    _held: bytes = field(default=b"", init=False, repr=False)
    _covered: int = field(default=0, init=False, repr=False)  # of what is held: hidden, and its mask is out

    def feed(self, data: bytes) -> bytes:
        """What can be shown now."""
        if not self.hidden:
            return data
        return self._shown(self._held + data, final=False)

    def finish(self) -> bytes:
        """What was held back, masked."""
        return self._shown(self._held, final=True)

    def _shown(self, data: bytes, *, final: bool) -> bytes:
        limit = len(data) if final else self.hidden.undecided(data)
        covered = self._covered
        out: list[bytes] = []
        for start, end in self.hidden.spans(data):
            if start >= limit:
                break
            if start < covered:  # one mask for what overlaps
                covered = max(covered, end)
            else:
                out += (data[covered:start], MASK)
                covered = end
        if covered < limit:
            out.append(data[covered:limit])
        self._held, self._covered = data[limit:], max(0, covered - limit)
        return b"".join(out)


Values = Hidden | Iterable[str | bytes]


def compiled(values: Values) -> Hidden:
    """``values`` ready to be looked for."""
    return values if isinstance(values, Hidden) else Hidden.of(values)


def mask_bytes(data: bytes, values: Values) -> bytes:
    """``data`` with every value hidden."""
    masker = Masker(compiled(values))
    return masker.feed(data) + masker.finish()


def mask_text(text: str, values: Values) -> str:
    """``text`` with every value hidden."""
    hidden = compiled(values)
    if not hidden or not text:
        return text
    return mask_bytes(encoded(text), hidden).decode("utf-8", "surrogateescape")
