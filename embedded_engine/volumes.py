"""Cache volumes: host directories under the engine's state that outlive execs and sessions."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from embedded_engine.file_locks import file_lock, try_lock
from embedded_engine.operations import Work
from embedded_engine.paths import inside
from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.sizes import bytes_below
from embedded_engine.values import CacheVolume


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
            await stack.enter_async_context(file_lock(self.root / f"{volume.digest}.use", shared=True))
            directory = await self._made(work, volume)
            self._note(volume)
            yield directory

    def _note(self, volume: CacheVolume) -> None:
        """Say whose directory it is, for people, and that it is used now."""
        file = self.root / f"{volume.digest}.json"
        if not file.exists():
            note = {"key": volume.key, "sharing": volume.sharing, "owner": volume.owner}
            file.write_text(json.dumps(note))
        os.utime(file)

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
                    await anyio.to_thread.run_sync(_seeded, seed, fresh, volume.owner)
            fresh.rename(directory)


def _seeded(seed: Path, fresh: Path, owner: str) -> None:
    """Copy the seed; all of it is the volume's owner's (what is put in later belongs to who did that).

    A name is known in a container only, so it gets the volume's own directory there. Raises RuntimeFailure.
    """
    shutil.copytree(seed, fresh, symlinks=True)
    user, _, group = owner.partition(":")
    if not user.isdecimal() or not (group or user).isdecimal():
        return
    try:
        for where, directories, files in os.walk(fresh):
            for path in (where, *(os.path.join(where, name) for name in (*directories, *files))):  # noqa: PTH118  # many
                os.chown(path, int(user), int(group or user), follow_symlinks=False)
    except OSError as error:
        raise RuntimeFailure(f"a cache volume's files can't belong to {owner}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """A volume as it is on disk."""

    digest: str
    key: str
    sharing: str
    used: float
    size: int


def volumes_in(root: Path) -> list[VolumeUse]:
    """The volumes there are; their files are walked for their sizes."""
    found: list[VolumeUse] = []
    for directory in sorted(root.iterdir()) if root.is_dir() else ():
        if not directory.is_dir():
            continue
        note = root / f"{directory.name}.json"
        known = json.loads(note.read_text()) if note.exists() else {}
        used = (note if note.exists() else directory).stat().st_mtime
        size = bytes_below(directory)
        found.append(VolumeUse(directory.name, known.get("key", ""), known.get("sharing", ""), used, size))
    return found


def remove_volume(root: Path, digest: str) -> bool:
    """Remove a volume that nobody holds; False if an exec does."""
    with (root / f"{digest}.use").open("w") as stream:
        if not try_lock(stream):
            return False
        shutil.rmtree(root / digest, ignore_errors=True)
        for ending in ("json", "lock", "making"):
            (root / f"{digest}.{ending}").unlink(missing_ok=True)
    return True
