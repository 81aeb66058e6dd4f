"""What dead sessions left, and snapshots nobody needs any more.

Everything a session makes outside of storage's images bears its process's name (enclosure.owner_name).
`buildah bud` names its containers itself; those are cleared when no other session is at work, which a file
lock tells.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import anyio.to_thread

from embedded_engine.runtime.enclosure import PREFIX, Enclosure, Enclosures, is_orphan
from embedded_engine.runtime.logins import MEMORY
from embedded_engine.runtime.port import Snapshot
from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.state import OWNER_FILE, State


@dataclass(slots=True)
class Garbage:
    """Removes containers without an owner and images by id."""

    state: State
    runner: Runner
    enclosures: Enclosures
    lock: IO[str] | None = None

    async def sweep(self) -> None:
        """Remove what processes that are gone left. Costs a few directory listings when there is nothing."""
        alone = await self._hold()
        orphans = [
            identity for identity, name in self.state.containers() if is_orphan(name) or (alone and name)
        ]
        if orphans:
            await self.runner.run(["buildah", "rm", *orphans], check=False)
        for name in sorted({path.name for path in self._left()}):
            left = Enclosure(self.state.temp / name, self.state.runroot / "notes" / name)
            await self.enclosures.clear(left, "runc" if shutil.which("runc") else "crun")
            shutil.rmtree(MEMORY / name, ignore_errors=True)
        for directory in self._of_deleted_states():
            shutil.rmtree(directory, ignore_errors=True)
        if self.lock is not None:
            fcntl.flock(self.lock, fcntl.LOCK_SH)

    async def remove(self, snapshot: Snapshot) -> None:
        """Remove an image. A missing one, or one that others build on, is no error."""
        if snapshot and snapshot in self.state.present():
            await self.runner.run(["buildah", "rmi", snapshot], check=False)

    def release(self) -> None:
        """Give the session's lock back."""
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    async def _hold(self) -> bool:
        """Take the session's lock; whether no other session holds it."""
        self.release()
        self.lock = (self.state.root / "sessions.lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # others share it, or one sweeps and will share it in a moment
            await anyio.to_thread.run_sync(fcntl.flock, self.lock, fcntl.LOCK_SH)
            return False
        return True

    def _of_deleted_states(self) -> Iterable[Path]:
        """Run roots (they lie outside of the state directory) whose state directory is gone."""
        for file in self.state.runroot.parent.glob(f"*/{OWNER_FILE}"):
            if not Path(file.read_text()).exists():
                yield file.parent

    def _left(self) -> Iterable[Path]:
        for directory in (self.state.temp, self.state.runroot / "notes", MEMORY):
            if directory.is_dir():
                yield from (path for path in directory.glob(f"{PREFIX}-*") if is_orphan(path.name))
