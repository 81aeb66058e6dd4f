"""Snapshots that are not in storage but can be had: what a runtime asks for before it uses one."""

from __future__ import annotations

from typing import Protocol

from embedded_engine.runtime.port import LayerBlob, Snapshot


class Elsewhere(Protocol):
    """Brings snapshots when they are needed (cache/promises.py)."""

    async def restore(self, snapshot: Snapshot) -> None:
        """Put it into storage; one that is there costs nothing. Raises lost.ContentLost."""
        ...

    async def layers(self, snapshot: Snapshot) -> tuple[LayerBlob, ...] | None:
        """Its layers as blobs, without putting it into storage; None if it is there. Raises ContentLost."""
        ...
