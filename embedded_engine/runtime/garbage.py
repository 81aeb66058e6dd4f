"""What dead sessions left, and snapshots nobody needs any more."""

from __future__ import annotations

from dataclasses import dataclass

from embedded_engine.runtime.port import Snapshot
from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.state import State
from embedded_engine.runtime.working import Working, is_orphan


@dataclass(frozen=True, slots=True)
class Garbage:
    """Removes containers without an owner and images by id."""

    state: State
    runner: Runner
    working: Working

    async def sweep(self) -> None:
        """Remove the working containers of processes that are gone. Costs a file read when there are none."""
        orphans = [container for container, name in self.state.containers() if is_orphan(name)]
        if orphans:
            await self.runner.run(["buildah", "rm", *orphans], check=False)

    async def remove(self, snapshot: Snapshot) -> None:
        """Remove an image. A missing one, or one that others build on, is no error."""
        if snapshot and snapshot in self.state.present():
            await self.runner.run(["buildah", "rmi", snapshot], check=False)
