"""Giving what this machine knows to a cache: only what is not there yet, and never taking anything away.

The index is merged with what other writers put there meanwhile and written until it holds all that is ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import anyio
import anyio.to_thread

from embedded_engine.cache.importing import SNAPSHOT
from embedded_engine.cache.index import (
    Blob,
    CacheDamaged,
    CacheFault,
    Index,
    SnapshotParts,
    TreeParts,
    manifest_of,
)
from embedded_engine.cache.packs import packed
from embedded_engine.cache.places import Place
from embedded_engine.cache.reading import open_place, read_index
from embedded_engine.lost import ContentLost
from embedded_engine.operations import Outcome, TreeId
from embedded_engine.runtime.open import ContainerRuntime
from embedded_engine.runtime.port import RuntimeFailure, Snapshot
from embedded_engine.store import Store, StoredRow
from embedded_engine.trees import TREE, Trees

_ATTEMPTS = 12
_LEFT_OUT = ("tarball",)
"""Written again from the image's layers in a moment; their bytes are those of the layers once more."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did."""

    operations: int  # of ours that are there now
    new: int
    bytes_sent: int = 0
    left_out: int = 0
    """Whose content is not here (any more), or came too late for the time limit."""

    def __str__(self) -> str:
        text = f"{self.operations} operations, {self.new} of them new there"
        return f"{text}; {self.left_out} left out" if self.left_out else text


@dataclass(slots=True)
class Exporter:
    """Makes the parts of rows and puts them into one place."""

    store: Store
    runtime: ContainerRuntime
    trees: Trees
    place: Place
    deadline: float = float("inf")  # of time.monotonic()
    there: Index = field(default_factory=Index)
    ours: Index = field(default_factory=Index)
    made: dict[Snapshot, SnapshotParts] = field(default_factory=dict)
    elsewhere: dict[str, tuple[str, Blob]] = field(default_factory=dict)
    """Blobs that are not here: the place that has them."""

    async def run(self, rows: Iterable[StoredRow]) -> Exported:
        """Export ``rows``. Raises CacheFault."""
        manifest, self.there = await self._read()
        wanted = [row for row in rows if row.kind not in _LEFT_OUT]
        left_out = 0
        new = [row for row in wanted if row.digest not in self.there.rows]
        for row in [row for row in wanted if row.digest in self.there.rows]:
            self.ours.rows[row.digest] = row  # for its time of use; its parts are there
        for row in sorted(new, key=self._depth, reverse=True):  # a long chain's layers serve the short ones
            if time.monotonic() > self.deadline or not await self._take(row):
                left_out += 1
        sent = await self._give()
        await self._merge(manifest)
        done = len(self.ours.rows)
        return Exported(done, done - (len(wanted) - len(new)), sent, left_out)

    async def _read(self) -> tuple[bytes | None, Index]:
        """What is there now. What is damaged counts as nothing, and is replaced."""
        manifest = None
        try:
            manifest = await self.place.manifest()
            if manifest is None:
                return None, Index()
            return manifest, await read_index(self.place, manifest, self.runtime.state.temp)
        except CacheDamaged:
            return manifest, Index()

    def _depth(self, row: StoredRow) -> int:
        snapshot = row.outcome.snapshot
        if not snapshot or snapshot not in self.runtime.state.present():
            return 0
        return len(self.runtime.state.image_config(snapshot)["rootfs"]["diff_ids"])

    async def _take(self, row: StoredRow) -> bool:
        """Add one row with its parts to what is ours; False if its content is not to be had."""
        single = Index()
        outcome = row.outcome
        try:
            if outcome.snapshot:
                parts = await self._snapshot(outcome.snapshot)
                single.snapshots[parts.identity] = parts
                outcome = replace(outcome, snapshot=parts.identity)
            for tree in row.trees:
                single.trees[tree] = await self._tree(tree)
        except (RuntimeFailure, ContentLost, OSError):
            return False
        single.rows[row.digest] = replace(row, outcome=outcome)
        self.ours.add(single)
        return True

    async def _snapshot(self, snapshot: Snapshot) -> SnapshotParts:
        if snapshot in self.made:
            return self.made[snapshot]
        if snapshot in self.runtime.state.present():
            layers = await self.runtime.layers(snapshot)
            config = self.runtime.state.image_config(snapshot)
            platform = {
                name: str(config[name]) for name in ("architecture", "os", "variant") if config.get(name)
            }
            blobs = tuple(Blob(one.digest, one.size, one.media_type, one.diff_id) for one in layers)
            parts = SnapshotParts(platform, blobs)
        else:
            promised = self.store.promise(SNAPSHOT, snapshot)
            if promised is None:
                raise CacheFault(f"snapshot {snapshot[:12]} is not in storage any more")
            parts = SnapshotParts.parse(promised[1])
            self.elsewhere.update({blob.digest: (promised[0], blob) for blob in parts.layers})
        self.made[snapshot] = parts
        return parts

    async def _tree(self, tree: TreeId) -> TreeParts:
        if tree in self.there.trees:
            return self.there.trees[tree]
        if tree in self.ours.trees:
            return self.ours.trees[tree]
        if not self.trees.complete(tree):
            promised = self.store.promise(TREE, tree)
            if promised is None:
                raise CacheFault(f"tree {tree[:12]} is not in the store any more")
            parts = TreeParts.parse(promised[1])
            self.elsewhere.update({blob.digest: (promised[0], blob) for blob in parts.blobs})
            return parts
        known = {sha256: blob for one in self.there.trees.values() for sha256, blob in one.files.items()}
        return await anyio.to_thread.run_sync(packed, self.trees, tree, self.runtime.state.blobs, known.get)

    async def _give(self) -> int:
        """Send the blobs that are not there. Those that only another place has are fetched first."""
        there = self.there.blobs()
        lacking = [blob for digest, blob in self.ours.blobs().items() if digest not in there]
        for blob in lacking:
            if blob.digest in self.elsewhere and not self.runtime.state.blob(blob.digest).exists():
                await self._fetch(*self.elsewhere[blob.digest])
        return await self.place.give(lacking, self.runtime.state.blobs)

    async def _fetch(self, shown: str, blob: Blob) -> None:
        source = open_place(shown, self.runtime.runner)
        try:
            await source.fetch(blob, self.runtime.state.blob(blob.digest))
        finally:
            await source.close()

    async def _merge(self, old: bytes | None) -> None:
        """Write until what is there holds all that is ours."""
        there = self.there
        for _ in range(_ATTEMPTS):
            whole = Index(dict(there.rows), dict(there.snapshots), dict(there.trees))
            if not whole.add(self.ours):
                return
            new, own = manifest_of(whole)
            await self.place.replace(old, new, own, self.runtime.state.blobs)
            old, there = await self._read()
        raise CacheFault(f"{self.place.shown}: other writers came between {_ATTEMPTS} times; try again")


def related(store: Store, runtime: ContainerRuntime, used: Iterable[str]) -> list[StoredRow]:
    """The rows with these digests, and those whose snapshot one of theirs was built on.

    Only the end of a cached chain is asked for, but a change of its last step needs the step before it.
    """
    rows = {row.digest: row for row in store.rows()}
    chosen = [rows[digest] for digest in used if digest in rows]
    chains = {tuple(layers_of(store, runtime, row.outcome)) for row in chosen}
    bases = {chain[:length] for chain in chains for length in range(1, len(chain) + 1)}
    mine = {row.digest for row in chosen}
    return [
        row
        for row in rows.values()
        if row.digest in mine or tuple(layers_of(store, runtime, row.outcome)) in bases
    ]


def layers_of(store: Store, runtime: ContainerRuntime, outcome: Outcome) -> Sequence[str]:
    """The raw layers of an outcome's snapshot, base first; none if that is not known here."""
    if not outcome.snapshot:
        return ()
    try:
        return [str(one) for one in runtime.state.image_config(outcome.snapshot)["rootfs"]["diff_ids"]]
    except (OSError, KeyError, ValueError):
        promised = store.promise(SNAPSHOT, outcome.snapshot)
        return [one.diff_id for one in SnapshotParts.parse(promised[1]).layers] if promised else ()
