"""``gc``: what was not used for longest goes, but never what a session at work counts on.

Rows go first, in one transaction that looks at their last use again: a session notes its use before it
believes a row. Then images that no row names. Trees and layers, which sessions hold without a row, go only
when no session is at work, which is then kept from beginning.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from embedded_engine.cache.selection import kept
from embedded_engine.cache.usage import IMAGE, MIRROR, ROW, VOLUME, Sizes, Usage, live_sessions
from embedded_engine.git_mirrors import drop_mirror
from embedded_engine.operations import TreeId
from embedded_engine.runtime.images import LAYER_FACT
from embedded_engine.runtime.open import ContainerRuntime, open_runtime
from embedded_engine.state import hold_alone
from embedded_engine.store import Store
from embedded_engine.trees import Trees
from embedded_engine.volumes import remove_volume

_BATCH = 50


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may stay. Ages in seconds."""

    max_size: float = float("inf")
    max_age: float = float("inf")
    volumes: bool = False


@dataclass(frozen=True, slots=True)
class Collected:
    """What went, or would go."""

    operations: int
    images: int
    volumes: int
    mirrors: int
    bytes_freed: int
    bytes_left: int
    sessions: int
    """At work meanwhile: with any, trees and compressed layers stay."""


async def collect(state: Path, bounds: Bounds, *, dry_run: bool = False) -> Collected:
    """Bring the state directory within ``bounds``. Raises RuntimeFailure, OSError or sqlite3.Error."""
    alone = hold_alone(state)
    store = Store.open(state / "engine.sqlite", hold=False)
    runtime = open_runtime(state, store)
    trees = Trees(state / "trees")
    try:
        began = live_sessions(state, trees.token) if alone is None else []
        collection = _Collection(state, store, runtime, trees, bounds, min(began, default=None))
        return await collection.run(dry_run=dry_run, sessions=max(len(began), int(alone is None)))
    finally:
        await runtime.close()
        trees.close()
        store.close()
        if alone is not None:
            os.close(alone)


@dataclass(slots=True)
class _Collection:
    state: Path
    store: Store
    runtime: ContainerRuntime
    trees: Trees
    bounds: Bounds
    in_use_since: float | None

    async def run(self, *, dry_run: bool, sessions: int) -> Collected:
        usage = Usage.of(self.store, self.runtime.state, self.trees, volumes=self.bounds.volumes)
        now = time.time()
        keep = kept(
            usage.items,
            usage.sizes,
            max_size=self.bounds.max_size,
            oldest=now - self.bounds.max_age,
            now=now,
        )
        dropped = [item for item in usage.items if item.name not in keep]
        rows = [one.name.removeprefix(ROW) for one in dropped if one.name.startswith(ROW)]
        rows += [row for row in usage.missing if ROW + row in keep]
        limit = now if sessions == 0 else (self.in_use_since or 0.0)
        volumes = [one for one in usage.volumes if VOLUME + one.digest not in keep]
        gone_mirrors = [
            one for one in usage.mirrors if MIRROR + one.home.name not in keep and one.used < limit
        ]
        before = Sizes.of(self.runtime.state).total
        if dry_run:
            freed_bytes = usage.beyond(keep)
            images = self._images(usage, keep, set(rows), alone=sessions == 0)
            counts = (len(rows), len(images), len(volumes), len(gone_mirrors))
            return Collected(*counts, freed_bytes, before - freed_bytes, sessions)
        gone = set(self.store.forget(rows, None if sessions == 0 else limit))
        images = self._images(usage, keep, gone, alone=sessions == 0)
        await self._remove(images, force=sessions == 0)
        if sessions == 0:
            self._sweep(usage, gone)
        freed = [one for one in volumes if remove_volume(self.state / "volumes", one.digest)]
        mirrors = sum(drop_mirror(one.home) for one in gone_mirrors)
        after = Sizes.of(self.runtime.state).total
        size = before - after + sum(one.size for one in freed)
        return Collected(len(gone), len(images), len(freed), mirrors, size, after, sessions)

    def _images(self, usage: Usage, keep: set[str], gone: set[str], *, alone: bool) -> list[str]:
        """The images to remove, those with the longest chains first: what others build on can't go."""
        named = {usage.snapshots[row] for row in usage.snapshots if row not in gone}
        found = {usage.snapshots[row] for row in gone if usage.snapshots[row] in usage.images}
        if alone:
            found |= {image for image in usage.images if IMAGE + image not in keep}
        loose = {image for image in usage.images if IMAGE + image in keep}
        return sorted(found - named - loose, key=lambda image: -len(usage.images[image]))

    async def _remove(self, images: Iterable[str], *, force: bool) -> None:
        """Without force Buildah leaves an image alone that a container is made of."""
        todo = list(images)
        options = ["--force"] if force else []
        for start in range(0, len(todo), _BATCH):
            argv = ["buildah", "rmi", *options, *todo[start : start + _BATCH]]
            await self.runtime.runner.run(argv, check=False)

    def _sweep(self, usage: Usage, gone: set[str]) -> None:
        """Trees and compressed layers that nothing names any more."""
        needed = [tree for row, trees in usage.trees.items() if row not in gone for tree in trees]
        self.trees.collect(TreeId(tree) for tree in needed)
        stored = self.runtime.state.layer_digests()
        facts = self.store.facts(LAYER_FACT)
        named = {str(one["digest"]) for key, one in facts.items() if key in stored and isinstance(one, dict)}
        for file in (self.runtime.state.blobs / "sha256").iterdir():
            if f"sha256:{file.name}" not in named:
                file.unlink(missing_ok=True)
        self.store.drop_facts(LAYER_FACT, facts.keys() - stored)
