"""Pickle's opcodes read one by one, as leniently as the loaders read them (PEP 307, 3154, 574).

Not by ``pickletools.genops``: it refuses what ``pickle.load`` takes (``I0x10``, names that aren't ASCII), and
what stops the reader but not the loader hides what follows. Long values are never held in memory.
"""

import codecs
import pickletools
import re
from collections.abc import Callable

from pipelines.in_engine.bounded import Bounded, Latin1, ParseError, Part, Stream

LONGEST_KEPT = 512
"""Text up to this length may be a module's or an attribute's name; longer text is only counted."""
PICKLE_HEAD = re.compile(rb"\x80[\x02-\x05]|[(\]}l)]{0,4}[ci][A-Za-z_][\w.]*\n[\w.]+\n")
PACKED_HEAD = re.compile(rb"PK\x03\x04|\x1f\x8b\x08|BZh[1-9]|\xfd7zXZ\x00|\x93NUMPY")

Nested = Callable[[Stream, int], None]
"""Is called with a value that may be loaded itself, and with the byte at which it stands."""


class Value:
    """Bytes or a long text that were read past. ``looked``: what they hold was followed as a file is."""

    __slots__ = ("length", "looked")

    def __init__(self, length: int, *, looked: bool) -> None:
        self.length = length
        self.looked = looked


class Opcodes:
    """Reads opcodes and their arguments from a stream."""

    def __init__(self, stream: Bounded, nested: Nested) -> None:
        self.stream = stream
        self.nested = nested
        self.at = 0

    def next(self) -> tuple[str, object]:
        """The next opcode's name and its argument. Raises ParseError at bytes that are none, LimitError."""
        self.at = self.stream.position
        code = self.stream.read(1)
        known = _OPCODES.get(code)
        if known is None:
            raise ParseError(f"no opcode at byte {self.at}")
        name, read = known
        return name, read(self) if read else None

    def unsigned(self, width: int) -> int:
        """An unsigned little-endian number."""
        return int.from_bytes(self.stream.read(width), "little")

    def signed(self, width: int) -> int:
        """A signed little-endian number."""
        return int.from_bytes(self.stream.read(width), "little", signed=True)

    def text_number(self) -> object:
        """A number written as a line; what isn't plain digits is no number that anything here depends on."""
        line = self.stream.line().strip().rstrip(b"L")
        return int(line) if re.fullmatch(rb"-?\d{1,18}", line) else None

    def pair(self) -> tuple[str, str]:
        """GLOBAL's and INST's two lines."""
        module, name = self.stream.line(), self.stream.line()
        return module.decode("utf-8", "replace"), name.decode("utf-8", "replace")

    def quoted(self) -> object:
        """STRING's line, without its quotes and escapes."""
        line = self.stream.line().strip()
        if len(line) > LONGEST_KEPT:
            return Value(len(line), looked=False)
        try:
            return codecs.decode(line[1:-1], "unicode_escape")
        except ValueError:  # the loader stops here: whatever comes then is not run
            return Value(len(line), looked=False)

    def escaped(self) -> object:
        """UNICODE's line."""
        line = self.stream.line()
        if len(line) > LONGEST_KEPT:
            return Value(len(line), looked=False)
        return line.decode("raw-unicode-escape", "replace")

    def long(self, width: int) -> int | None:
        """LONG1 and LONG4; a huge one is only read past."""
        length = self.unsigned(width)
        if length <= 16:
            return self.signed(length)
        self.stream.skip(length)
        return None

    def value(self, width: int, *, text: bool) -> object:
        """A text or bytes of a stated length."""
        length = self.unsigned(width)
        head = self.stream.peek(min(length, 256))
        as_text = head.startswith(b"\xc2\x80")
        if PICKLE_HEAD.match(head[1:] if as_text else head) or PACKED_HEAD.match(head):
            part = Part(self.stream, length)
            self.nested(Latin1(_Raw(part)) if as_text else part, self.at)
            self.stream.skip(part.left)
            return Value(length, looked=True)
        if length > LONGEST_KEPT or not text:
            self.stream.skip(length)
            return Value(length, looked=False)
        return self.stream.read(length).decode("utf-8", "replace")


class _Raw:
    """``read`` for a raw stream whose ``read`` may give None."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes."""
        return self._part.read(size) or b""


_Read = Callable[[Opcodes], object]
_READERS: dict[str, _Read] = {
    "uint1": lambda codes: codes.unsigned(1),
    "uint2": lambda codes: codes.unsigned(2),
    "uint4": lambda codes: codes.unsigned(4),
    "uint8": lambda codes: codes.unsigned(8),
    "int4": lambda codes: codes.signed(4),
    "decimalnl_short": Opcodes.text_number,
    "decimalnl_long": Opcodes.text_number,
    "floatnl": lambda codes: codes.stream.line() and None,
    "float8": lambda codes: codes.stream.read(8) and None,
    "long1": lambda codes: codes.long(1),
    "long4": lambda codes: codes.long(4),
    "stringnl": Opcodes.quoted,
    "stringnl_noescape": lambda codes: codes.stream.line() and None,
    "stringnl_noescape_pair": Opcodes.pair,
    "unicodestringnl": Opcodes.escaped,
    "string1": lambda codes: codes.value(1, text=True),
    "string4": lambda codes: codes.value(4, text=True),
    "bytes1": lambda codes: codes.value(1, text=False),
    "bytes4": lambda codes: codes.value(4, text=False),
    "bytes8": lambda codes: codes.value(8, text=False),
    "bytearray8": lambda codes: codes.value(8, text=False),
    "unicodestring1": lambda codes: codes.value(1, text=True),
    "unicodestring4": lambda codes: codes.value(4, text=True),
    "unicodestring8": lambda codes: codes.value(8, text=True),
}
_OPCODES: dict[bytes, tuple[str, _Read | None]] = {
    opcode.code.encode("latin-1"): (opcode.name, _READERS[opcode.arg.name] if opcode.arg else None)
    for opcode in pickletools.opcodes
}
