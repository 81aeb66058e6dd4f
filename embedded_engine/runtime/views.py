"""Read-only looks at snapshots from the host: one mount for each, kept for the session."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from embedded_engine.runtime.port import Snapshot
from embedded_engine.runtime.working import Working


@dataclass(slots=True)
class Views:
    """Mounts snapshots through working containers that nobody writes to."""

    working: Working
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    mounted: dict[Snapshot, Path] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def of(self, snapshot: Snapshot) -> AsyncIterator[Path]:
        """The root of ``snapshot``. It stays mounted: the next look costs nothing."""
        async with self.lock:
            if snapshot not in self.mounted:
                _, root = await self.stack.enter_async_context(self.working.container(snapshot))
                self.mounted[snapshot] = root
        yield self.mounted[snapshot]

    async def close(self) -> None:
        """Unmount all."""
        self.mounted.clear()
        await self.stack.aclose()
