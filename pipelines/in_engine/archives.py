"""Members of a zip and other packed streams, read as leniently as the loaders of model files read them.

``zipfile`` refuses members with a wrong checksum, an "encrypted" flag or two names that differ. PyTorch's
reader doesn't mind, so what such a member holds would not be seen. Only the directory is read by ``zipfile``.
"""

import bz2
import io
import lzma
import struct
import zipfile
import zlib
from typing import Protocol

from pipelines.in_engine.bounded import ParseError, Stream

_LOCAL = struct.Struct("<4s5H3L2H")
END_OF_ZIP = b"PK\x05\x06"
LONGEST_END = 22 + 65535


class Inflater(Protocol):
    """What the standard library's decompressors have in common."""

    def decompress(self, data: bytes, /) -> bytes:
        """What ``data`` unpacks to."""


class Section(io.RawIOBase):
    """``size`` bytes of a file from ``start`` on; the file's own position is restored for nobody."""

    def __init__(self, file: io.BufferedIOBase, start: int, size: int) -> None:
        self._file = file
        self._at = start
        self._end = start + size

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill ``buffer`` with what comes next."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # io hands over a writable buffer
        self._file.seek(self._at)
        data = self._file.read(min(len(view), self._end - self._at))
        self._at += len(data)
        view[: len(data)] = data
        return len(data)


class Zlib(io.RawIOBase):
    """One or more zlib streams, one after the other as joblib reads them; or a zip's raw deflate."""

    def __init__(self, stream: Stream, window: int = 15) -> None:
        self._stream = stream
        self._window = window
        self._inflate = zlib.decompressobj(window)
        self._rest = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill ``buffer`` with what is unpacked next. Raises zlib.error."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # io hands over a writable buffer
        while True:
            if self._inflate.eof:
                self._rest = self._inflate.unused_data or self._stream.read(4096)
                if self._window < 0 or self._rest[:1] != b"\x78":
                    return 0
                self._inflate = zlib.decompressobj(self._window)
            packed = self._inflate.unconsumed_tail or self._rest or self._stream.read(65536)
            self._rest = b""
            if not packed:
                return 0
            data = self._inflate.decompress(packed, len(view))
            if data:
                view[: len(data)] = data
                return len(data)


class Lzma(io.RawIOBase):
    """LZMA as a zip holds it: a small header with the properties, then the raw stream."""

    def __init__(self, stream: Stream) -> None:
        header = stream.read(4)
        length = struct.unpack("<HH", header)[1] if len(header) == 4 else 0
        properties = stream.read(length)
        if len(properties) != 5:
            raise ParseError("a member packed with LZMA has no header")
        packed, lc, lp = properties[0], properties[0] % 9, properties[0] // 9 % 5
        filters = [
            {
                "id": lzma.FILTER_LZMA1,
                "lc": lc,
                "lp": lp,
                "pb": packed // 45,
                "dict_size": min(max(int.from_bytes(properties[1:], "little"), 4096), 64 << 20),
            }
        ]
        self._inflate = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
        self._stream = stream

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill ``buffer`` with what is unpacked next. Raises lzma.LZMAError."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # io hands over a writable buffer
        while not self._inflate.eof:
            packed = self._stream.read(65536) if self._inflate.needs_input else b""
            if self._inflate.needs_input and not packed:
                return 0
            data = self._inflate.decompress(packed, len(view))
            if data:
                view[: len(data)] = data
                return len(data)
        return 0


def member(file: io.BufferedIOBase, info: zipfile.ZipInfo) -> Stream:
    """What ``info`` of the archive unpacks to, whatever its checksum, flags and local name say.

    Raises:
        ParseError: there is no such member, or it is packed in a way that isn't known here.
    """
    file.seek(info.header_offset)
    raw = file.read(_LOCAL.size)
    if len(raw) < _LOCAL.size or raw[:4] != b"PK\x03\x04":
        raise ParseError("the archive's directory names a member that isn't there")
    name, extra = _LOCAL.unpack(raw)[-2:]
    start = info.header_offset + _LOCAL.size + name + extra
    stored = info.compress_type == zipfile.ZIP_STORED
    size = max(info.compress_size, info.file_size) if stored else info.compress_size
    section = io.BufferedReader(Section(file, start, size))
    if stored:
        return section
    if info.compress_type == zipfile.ZIP_DEFLATED:
        return io.BufferedReader(Zlib(section, -15))
    if info.compress_type == zipfile.ZIP_BZIP2:
        return bz2.BZ2File(section)
    if info.compress_type == zipfile.ZIP_LZMA:
        return io.BufferedReader(Lzma(section))
    raise ParseError(f"a member is packed by method {info.compress_type}, which isn't read here")


def ends_as_zip(file: io.BufferedIOBase, size: int) -> bool:
    """Is there the end of a zip's directory at the end of the file, whatever it starts with?"""
    file.seek(max(0, size - LONGEST_END))
    tail = file.read(LONGEST_END)
    at = tail.rfind(END_OF_ZIP)
    return at >= 0 and len(tail) - at >= 22


def starts_as_tar(head: bytes) -> bool:
    """Is the first block a tar's header, by its checksum? Tars older than POSIX have no magic number."""
    field = head[148:156].strip(b" \0")
    if len(head) < 512 or not field or not all(48 <= digit < 56 for digit in field):
        return False
    return sum(head[:148]) + 8 * 32 + sum(head[156:512]) == int(field, 8)
