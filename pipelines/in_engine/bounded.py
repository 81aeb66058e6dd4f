"""Streams that stop at a size and at a moment: no zip bomb unpacks, nothing runs for ever."""

import codecs
import io
import time
from typing import Protocol

LONGEST_LINE = 1 << 20


class ParseError(ValueError):
    """The bytes are not what they were taken for, or stop being it."""


class LimitError(Exception):
    """A limit of size or time was reached before the end."""


class Stream(Protocol):
    """A binary stream that only goes forward."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


class Budget:
    """How many bytes one file may unpack to, with all that is packed in it, and until when."""

    def __init__(self, size: int, seconds: float) -> None:
        self.left = size
        self.deadline = time.monotonic() + seconds

    def exhaust(self) -> None:
        """Nothing more of this file is looked at: what it has shown is enough to refuse it."""
        self.left = -1

    def spend(self, size: int) -> None:
        """Count ``size`` bytes more. Raises LimitError."""
        self.left -= size
        if self.left < 0:
            raise LimitError("it unpacks to more than is looked at")
        if time.monotonic() > self.deadline:
            raise LimitError("it takes longer than is waited for")


class Bounded:
    """A stream that counts what is read, and knows at which byte it is."""

    def __init__(self, stream: io.BufferedReader, budget: Budget) -> None:
        self.stream = stream
        self.budget = budget
        self.position = 0

    def read(self, size: int, /) -> bytes:
        """Exactly ``size`` bytes; the caller asks for few. Raises ParseError, LimitError."""
        data = self.stream.read(size)
        self._count(len(data))
        if len(data) < size:
            raise ParseError("it ends within a value")
        return data

    def line(self) -> bytes:
        """One line without its end. Raises ParseError, LimitError."""
        line = self.stream.readline(LONGEST_LINE)
        self._count(len(line))
        if not line.endswith(b"\n"):
            raise ParseError("it ends within a line")
        return line[:-1]

    def peek(self, size: int) -> bytes:
        """The next bytes, ``size`` or fewer, which are read again afterwards."""
        return self.stream.peek(size)[:size]

    def skip(self, size: int) -> None:
        """Read past ``size`` bytes. Raises ParseError, LimitError."""
        while size > 0:
            data = self.stream.read(min(size, 1 << 18))
            if not data:
                raise ParseError("it ends within a value")
            self._count(len(data))
            size -= len(data)

    def _count(self, size: int) -> None:
        self.position += size
        self.budget.spend(size)


class Part(io.RawIOBase):
    """The next ``size`` bytes of a stream as a stream of their own; they count where they come from."""

    def __init__(self, stream: Bounded, size: int) -> None:
        self._stream = stream
        self.left = size

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill ``buffer`` with what comes next."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # io hands over a writable buffer
        wanted = min(len(view), self.left, 1 << 16)
        data = self._stream.read(wanted) if wanted else b""
        view[: len(data)] = data
        self.left -= len(data)
        return len(data)


class Metered(io.RawIOBase):
    """What a decompressor gives, counted: the limits are on what a file unpacks to."""

    def __init__(self, stream: Stream, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill ``buffer`` with what comes next."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # io hands over a writable buffer
        data = self._stream.read(min(len(view), 1 << 16))
        self._budget.spend(len(data))
        view[: len(data)] = data
        return len(data)


class Latin1(io.RawIOBase):
    """UTF-8 text as the bytes that ``_codecs.encode(text, "latin1")`` makes of it: bytes in protocol 2."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill ``buffer`` with what comes next; never more bytes than there were."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # io hands over a writable buffer
        while True:
            data = self._stream.read(min(len(view), 1 << 16))
            text = self._decoder.decode(data, final=not data)
            encoded = text.encode("latin-1")
            if encoded or not data:
                view[: len(encoded)] = encoded
                return len(encoded)
