"""A layer's tar as a stream that goes forward only: unpacked piece by piece, bounded, hashed on the way."""

from __future__ import annotations

import hashlib
import io
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from pipelines.registries.descriptors import short

_STEP: Final = 1 << 18
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
SMALLEST_LIMIT: Final = 4 << 30
MOST_TIMES: Final = 200
"""No honest layer unpacks to more than this many times its size (and more than ``SMALLEST_LIMIT``)."""
SECONDS: Final = 600.0
SECONDS_PER_GIB: Final = 60.0
"""How long reading may take, by the packed size: slower than any disk that builds images."""


class UnknownPackingError(Exception):
    """The layer is packed in a way that is not unpacked here."""


class LayerTooBigError(Exception):
    """It unpacks to more than is looked at, or takes longer than is waited for."""


class ForwardStream:
    """What tarfile reads: ``seek`` goes forward by reading, so a layer needs neither memory nor disk."""

    def __init__(self, file: IO[bytes], packed: int) -> None:
        self._file = file
        magic = file.read(4)
        file.seek(0)
        if magic == _ZSTD:
            raise UnknownPackingError("it is packed with zstd, which is not unpacked here")
        self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16) if magic.startswith(_GZIP) else None
        self._hash = hashlib.sha256()
        self._at = 0
        self._limit = max(SMALLEST_LIMIT, packed * MOST_TIMES)
        self._deadline = time.monotonic() + SECONDS + SECONDS_PER_GIB * packed / (1 << 30)
        self._piece = b""
        self._used = 0

    def tell(self) -> int:
        """Where the next byte is."""
        return self._at

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Forward only."""
        if whence != io.SEEK_SET or position < self._at:
            raise io.UnsupportedOperation("a layer is read forward only")
        while self._at < position and self._fill():
            self._use(position - self._at)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """As of a file; less than ``size`` only at the end."""
        pieces: list[bytes] = []
        while size and self._fill():
            piece = self._piece[self._used :] if size < 0 else self._piece[self._used : self._used + size]
            pieces.append(piece)
            self._use(len(piece))
            size -= len(piece) if size > 0 else 0
        return b"".join(pieces)

    def digest(self) -> str:
        """The digest of the whole tar: what is left is read first."""
        while self._fill():
            self._use(len(self._piece))
        return f"sha256:{self._hash.hexdigest()}"

    def _use(self, size: int) -> None:
        size = min(size, len(self._piece) - self._used)
        self._used += size
        self._at += size

    def _fill(self) -> bool:
        """Let there be an unread piece; false at the end."""
        if self._used < len(self._piece):
            return True
        self._piece, self._used = self._next(), 0
        self._hash.update(self._piece)
        if self._at > self._limit:
            raise LayerTooBigError(f"it unpacks to more than {self._limit >> 30} GiB")
        if time.monotonic() > self._deadline:
            raise LayerTooBigError("reading it takes too long")
        return bool(self._piece)

    def _next(self) -> bytes:
        if self._unpacker is None:
            return self._file.read(_STEP)
        while True:
            if self._unpacker.eof:
                rest = self._unpacker.unused_data or self._file.read(_STEP)
                if not rest.strip(b"\0"):  # the end, or padding
                    return b""
                self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
            else:
                rest = self._unpacker.unconsumed_tail or self._file.read(_STEP)
                if not rest:
                    raise EOFError("it ends too early")
            if piece := self._unpacker.decompress(rest, _STEP * 4):
                return piece


@contextmanager
def opened(path: Path, packed: int) -> Iterator[ForwardStream]:
    """The unpacked tar of a layer. It and reading raise these errors, OSError, zlib.error, EOFError."""
    if not path.exists():
        raise FileNotFoundError(f"the layout has no blob {short(path.name)}")
    with path.open("rb") as file:
        yield ForwardStream(file, packed)
