"""Cache volumes: host directories under the engine's state that outlive execs and sessions."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread

from embedded_engine.operations import Work
from embedded_engine.paths import inside
from embedded_engine.values import CacheVolume

_POLL_S = 0.05


@dataclass(slots=True)
class Volumes:
    """The directories of ``root``, one for each volume's identity."""

    root: Path
    locks: dict[str, anyio.Lock] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def held(self, work: Work, volume: CacheVolume) -> AsyncIterator[Path]:
        """The volume's directory; LOCKED and PRIVATE ones are had by one exec at a time, in all sessions."""
        async with contextlib.AsyncExitStack() as stack:
            if volume.sharing != "SHARED":
                await stack.enter_async_context(self.locks.setdefault(volume.digest, anyio.Lock()))
                await stack.enter_async_context(file_lock(self.root / f"{volume.digest}.lock"))
            yield await self._made(work, volume)

    async def _made(self, work: Work, volume: CacheVolume) -> Path:
        directory = self.root / volume.digest
        if directory.is_dir():
            return directory
        async with file_lock(self.root / f"{volume.digest}.making"):
            if not directory.is_dir():
                await self._make(work, volume, directory)
        return directory

    async def _make(self, work: Work, volume: CacheVolume, directory: Path) -> None:
        async with work.scratch() as scratch:
            fresh = scratch / "volume"
            if volume.source is None:
                fresh.mkdir(mode=0o755)
            else:
                async with work.view(volume.source.source) as root:
                    seed = inside(root, volume.source.path)
                    await anyio.to_thread.run_sync(lambda: shutil.copytree(seed, fresh, symlinks=True))
            fresh.rename(directory)


@contextlib.asynccontextmanager
async def file_lock(file: Path) -> AsyncIterator[None]:
    """Hold an exclusive lock that other processes respect too; waiting may be cancelled."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as stream:
        while not _try_lock(stream):  # noqa: ASYNC110  # another process cannot set our event
            await anyio.sleep(_POLL_S)
        yield  # closing the file releases the lock


def _try_lock(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
