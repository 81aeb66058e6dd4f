"""A blob on disk, on its way to one registry or to several: read by each, hashed once for all of them."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from anyio import to_thread

from pipelines.registries.descriptors import Descriptor, short
from pipelines.registries.errors import BrokenContent

CHUNK: Final = 1024 * 1024
_AHEAD: Final = 4
"""How many pieces may wait for the hash."""
Fingerprint = tuple[int, int, int]


class _Proof:
    """The hash of a file, made from the pieces that uploads read anyway. Its methods run in threads.

    One upload leads: each piece that begins where the hash stands is handed to a thread of its own, so that
    sending doesn't wait for hashing. Others find their pieces done.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._digest = hashlib.sha256()
        self._at = 0
        self._hasher: ThreadPoolExecutor | None = None
        self._pending: deque[Future[None]] = deque()
        self._file: Fingerprint | None = None

    def add(self, piece: bytes, offset: int) -> None:
        """Take a piece where it is the next one; wait where the hash is far behind, for memory is short."""
        if self._at != offset or not self._turn.acquire(blocking=False):
            return
        try:
            if self._at != offset:
                return
            self._hasher = self._hasher or ThreadPoolExecutor(1)
            self._pending.append(self._hasher.submit(self._digest.update, piece))
            self._at += len(piece)
            if len(self._pending) > _AHEAD:
                self._pending.popleft().result()
        finally:
            self._turn.release()

    def is_same(self, file: IO[bytes]) -> bool:
        """Whether ``file`` is as it was when the first upload opened it."""
        status = os.fstat(file.fileno())
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        with self._turn:
            self._file = self._file or seen
            return self._file == seen

    def holds(self, blob: Descriptor, path: Path) -> bool:
        """Whether the file is ``blob``; what no upload has read yet is read now."""
        with self._turn, path.open("rb") as file:
            if self._hasher is not None:
                self._hasher.shutdown()  # waits for what was handed over
                self._hasher = None
                self._pending.clear()
            file.seek(self._at)
            while piece := file.read(CHUNK):
                self._digest.update(piece)
                self._at += len(piece)
            return self._at == blob.size and f"sha256:{self._digest.hexdigest()}" == blob.digest


@dataclass(frozen=True, slots=True)
class BlobSource:
    """The file ``path``, which should be ``blob``. One value serves all registries of a push."""

    blob: Descriptor
    path: Path
    _proof: _Proof = field(default_factory=_Proof, init=False, repr=False, compare=False)

    async def pieces(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The file from ``start`` to ``end``, read in threads.

        The blob's last piece is given out only when the whole file is known to be ``blob``: BrokenContent
        before that, where it is not.
        """
        last = self.blob.size if end is None else end
        if start == last == self.blob.size:
            await self.prove()
            return
        with self._open() as file:  # not in a thread: cancelled, nobody would close it
            file.seek(start)
            while start < last:
                piece = await to_thread.run_sync(self._read, file, start, min(CHUNK, last - start))
                start += len(piece)
                if start == self.blob.size:
                    await self.prove()
                yield piece

    async def prove(self) -> None:
        """Hold that the file is ``blob``; the first registry did the work. Raises BrokenContent."""
        if not await to_thread.run_sync(self._proof.holds, self.blob, self.path):
            raise _changed(self.blob, self.path)

    def _open(self) -> IO[bytes]:
        try:
            file = self.path.open("rb")
        except OSError as err:
            raise BrokenContent(f"{self.path} can't be read: {err.strerror}", hint="run again") from err
        if os.fstat(file.fileno()).st_size != self.blob.size or not self._proof.is_same(file):
            file.close()
            raise _changed(self.blob, self.path)
        return file

    def _read(self, file: IO[bytes], offset: int, size: int) -> bytes:
        piece = file.read(size)
        if not piece:
            raise _changed(self.blob, self.path)
        self._proof.add(piece, offset)
        return piece


def _changed(blob: Descriptor, path: Path) -> BrokenContent:
    return BrokenContent(f"{path} is not {short(blob.digest)} any more", hint="remove it and run again")


def verified_pieces(blob: Descriptor, path: Path, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pass ``pieces`` on; BrokenContent, before the last one is out, where they are not ``blob``."""
    digest, left = hashlib.sha256(), blob.size
    for piece in pieces:
        digest.update(piece)
        left -= len(piece)
        if left < 0 or (left == 0 and f"sha256:{digest.hexdigest()}" != blob.digest):
            break
        yield piece
    if left != 0 or f"sha256:{digest.hexdigest()}" != blob.digest:
        raise _changed(blob, path)
