"""A blob on disk, on its way to one registry or to several: read as a stream, verified on the way."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anyio import to_thread

from pipelines.registries.descriptors import Descriptor, short
from pipelines.registries.errors import BrokenContent

CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BlobSource:
    """The file ``path``, which should be ``blob``. One value serves all registries of a push."""

    blob: Descriptor
    path: Path

    async def pieces(self) -> AsyncIterator[bytes]:
        """The file in pieces, read in threads. BrokenContent before the last, where it is not ``blob``."""
        with self.path.open("rb") as file:
            pieces = verified_pieces(self.blob, self.path, iter(lambda: file.read(CHUNK), b""))
            while piece := await to_thread.run_sync(next, pieces, b""):
                yield piece


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
        raise BrokenContent(f"{path} is not {short(blob.digest)} any more", hint="remove it and run again")
