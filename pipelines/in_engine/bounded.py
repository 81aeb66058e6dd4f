"""A stream that stops at a size and at a moment: no zip bomb unpacks, nothing runs for ever."""

import time
from typing import Protocol

BIG_READ = 8 << 20
"""A longer bytes value is read past, not held in memory."""
LONGEST_LINE = 1 << 20


class ParseError(ValueError):
    """The bytes are no pickle, or stop being one."""


class LimitError(Exception):
    """A limit of size or time was reached before the end."""


class Stream(Protocol):
    """A binary stream that only goes forward."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; none at the end."""

    def readline(self, size: int = -1, /) -> bytes:
        """One line, or its first ``size`` bytes."""


class Skipped:
    """A long value that was read past; it has its length only."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> "Skipped":
        return self

    def __next__(self) -> int:
        raise StopIteration


class Bounded:
    """A stream that counts, and stops at a size or a moment."""

    def __init__(self, stream: Stream, limit: int, deadline: float) -> None:
        self.stream = stream
        self.left = limit
        self.deadline = deadline

    def _count(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise LimitError("it unpacks to more than is looked at")
        if time.monotonic() > self.deadline:
            raise LimitError("it takes longer than is waited for")

    def read(self, size: int, /) -> bytes:
        """As ``genops`` wants it: a long value comes back with its length only."""
        if size > BIG_READ:
            self.skip(size)
            return Skipped(size)  # type: ignore[return-value]  # pickletools asks for no more than len()
        data = self.stream.read(size)
        self._count(len(data))
        return data

    def readline(self) -> bytes:
        """One line; a longer one comes back without its end, which ``genops`` refuses."""
        line = self.stream.readline(LONGEST_LINE)
        self._count(len(line))
        return line

    def skip(self, size: int) -> None:
        """Read past ``size`` bytes."""
        while size > 0:
            data = self.stream.read(min(size, 1 << 20))
            if not data:
                raise ParseError("the file ends within a value")
            self._count(len(data))
            size -= len(data)
