"""What dead sessions left, and snapshots nobody needs any more.

Everything a session makes outside of storage's images bears its process's name (process_names.owner_name), so
whoever comes next can tell that its maker is dead. What has no such name is told by locks, which the kernel
gives back for the dead: `buildah bud` names its containers itself, and holds ``builds.lock`` while it lives;
other files are left by dead ones when they are older than this process and no other session is open.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread

from embedded_engine.file_locks import POLL_S, try_lock
from embedded_engine.runtime.enclosure import Enclosure, Enclosures
from embedded_engine.runtime.logins import MEMORY
from embedded_engine.runtime.port import RuntimeFailure, Snapshot
from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.process_names import PREFIX, is_orphan, start_time
from embedded_engine.runtime.state import OWNER_FILE, State

_WAIT_S = 60.0


@dataclass(slots=True)
class Garbage:
    """Removes containers without an owner and images by id."""

    state: State
    runner: Runner
    enclosures: Enclosures
    lock: IO[str] | None = None

    async def sweep(self) -> None:
        """Remove what processes that are gone left. Costs a few directory listings when there is nothing.

        Raises RuntimeFailure if another session that is just beginning keeps the state to itself.
        """
        alone = await self._hold()
        await self.clear_containers()
        for name in sorted({path.name for path in self._left()}):
            left = Enclosure(self.state.temps / name, self.state.runroot / "notes" / name)
            await self.enclosures.clear(left, "runc" if shutil.which("runc") else "crun")
            for base in (MEMORY, self.state.root / "tmp"):
                await anyio.to_thread.run_sync(shutil.rmtree, base / name, True)  # ignore_errors
        for path in [*self._of_deleted_states(), *(self._nameless() if alone else ())]:
            await anyio.to_thread.run_sync(_remove, path)
        if self.lock is not None:
            fcntl.flock(self.lock, fcntl.LOCK_SH)

    async def clear_containers(self, wait_s: float = 0.0) -> None:
        """Remove working containers whose maker is dead; those of a build only when none runs within
        ``wait_s``."""
        found = self.state.containers()
        orphans = [identity for identity, name in found if is_orphan(name)]
        if any(not name.startswith(f"{PREFIX}-") for _, name in found):
            with self.state.builds_lock.open("w") as lock:
                begin = time.monotonic()
                while (  # noqa: ASYNC110  # another process cannot set our event
                    not (free := try_lock(lock)) and time.monotonic() - begin < wait_s
                ):
                    await anyio.sleep(POLL_S)
                if free:  # else a build runs, and its end clears. What is there now, no living one made
                    found = self.state.containers()
                    foreign = [one for one, name in found if not name.startswith(f"{PREFIX}-")]
                    await self._remove_containers(foreign)
        await self._remove_containers(orphans)

    async def remove(self, snapshot: Snapshot) -> None:
        """Remove an image. A missing one, or one that others build on, is no error."""
        if snapshot and snapshot in self.state.present():
            await self.runner.tidy(["buildah", "rmi", snapshot])

    def release(self) -> None:
        """Give the session's lock and its temporary directory back."""
        shutil.rmtree(self.state.temp, ignore_errors=True)
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    async def _remove_containers(self, identities: list[str]) -> None:
        if not identities:
            return
        await self.runner.tidy(["buildah", "rm", *identities])
        for identity in identities:  # a `buildah from` that was killed leaves a container that it never noted
            if any(identity == left for left, _ in self.state.containers()):
                self.state.note_container(identity)
                await self.runner.tidy(["buildah", "rm", identity])

    async def _hold(self) -> bool:
        """Take the session's lock; whether no other session holds it. The wait for one that sweeps is
        bounded."""
        if self.lock is not None:
            self.lock.close()
        self.lock = (self.state.root / "sessions.lock").open("w")
        if try_lock(self.lock):
            return True
        begin = time.monotonic()
        while not try_lock(self.lock, shared=True):  # others share it, or one sweeps and will in a moment
            if time.monotonic() - begin > _WAIT_S:
                raise RuntimeFailure(
                    f"another session on {self.state.root} has held {self.lock.name} for {_WAIT_S:.0f} s: "
                    "end it, or use another EMBEDDED_ENGINE_STATE"
                )
            await anyio.sleep(POLL_S)
        return False

    def _of_deleted_states(self) -> Iterable[Path]:
        """Run roots (they lie outside of the state directory) whose state directory is gone."""
        for file in self.state.runroot.parent.glob(f"*/{OWNER_FILE}"):
            if not Path(file.read_text()).exists():
                yield file.parent

    def _left(self) -> Iterable[Path]:
        places = (self.state.temps, self.state.runroot / "notes", MEMORY, self.state.root / "tmp")
        for directory in places:
            if directory.is_dir():
                yield from (path for path in directory.glob(f"{PREFIX}-*") if is_orphan(path.name))

    def _nameless(self) -> Iterable[Path]:
        """Half-written files that say nothing of their maker, older than this process."""
        ticks = start_time(os.getpid()) or 0
        since_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        begun = time.time() - since_boot_s
        for path in (
            *self.state.temps.glob("*"),
            *(self.state.blobs / "sha256").glob(".*"),
            *self.state.root.glob(".new-*"),
        ):
            if not path.name.startswith(f"{PREFIX}-") and path.lstat().st_mtime < begun:
                yield path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
