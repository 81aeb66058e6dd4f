"""Snapshots and trees that are elsewhere and come when something needs them.

A promise that can't be kept (the place is gone, a blob is damaged) is withdrawn and told as ContentLost: the
evaluator then runs again what made that content. A place that fails repeatedly is left alone in this session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread

from embedded_engine.cache.importing import SNAPSHOT, forget_import
from embedded_engine.cache.index import Blob, SnapshotParts, TreeParts
from embedded_engine.cache.packs import unpack, unpack_file
from embedded_engine.cache.places import Place
from embedded_engine.cache.reading import open_place
from embedded_engine.lost import ContentLost
from embedded_engine.operations import TreeId
from embedded_engine.runtime import oci
from embedded_engine.runtime.images import LAYER_FACT
from embedded_engine.runtime.open import ContainerRuntime
from embedded_engine.runtime.port import JSON, LayerBlob, RuntimeFailure, Snapshot
from embedded_engine.store import Store
from embedded_engine.trees import TREE, Trees

_FAULTS = 2
_Keep = Callable[[Place, JSON], Awaitable[list[LayerBlob]]]


@dataclass(slots=True)
class Promises:
    """Keeps promises that the store knows of; one fetch at a time for each content."""

    store: Store
    runtime: ContainerRuntime
    trees: Trees
    say: Callable[[str], None] = lambda _: None
    places: dict[str, Place] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    fetched_bytes: int = 0
    _lock: anyio.Lock = field(default_factory=anyio.Lock)

    def has(self, kind: str, identity: str) -> bool:
        """Whether this content could be had from somewhere."""
        found = self.store.promise(kind, identity)
        return found is not None and self.faults[found[0]] < _FAULTS

    async def restore(self, snapshot: Snapshot) -> None:
        """Put a promised snapshot into storage; one that is there costs nothing. Raises ContentLost."""
        if not snapshot or snapshot in self.runtime.state.present():
            return
        async with self._lock:
            if snapshot not in self.runtime.state.present():
                await self._kept(SNAPSHOT, snapshot, self._restored)

    async def layers(self, snapshot: Snapshot) -> tuple[LayerBlob, ...] | None:
        """The layers of a promised snapshot as blobs, without storing it; None if it is in storage."""
        if not snapshot or snapshot in self.runtime.state.present():
            return None
        async with self._lock:
            found = await self._kept(SNAPSHOT, snapshot, self._blobs_of)
        return tuple(found)

    def restore_tree(self, tree: str) -> None:
        """Take a promised tree into the tree store. For worker threads. Raises ContentLost."""
        anyio.from_thread.run(self._tree, tree)

    async def close(self) -> None:
        """Close the places that were used."""
        for place in self.places.values():
            await place.close()

    async def _tree(self, tree: str) -> None:
        async with self._lock:
            if not self.trees.complete(TreeId(tree)):
                await self._kept(TREE, tree, self._tree_restored)

    async def _kept(self, kind: str, identity: str, keep: _Keep) -> list[LayerBlob]:
        found = self.store.promise(kind, identity)
        if found is None or self.faults[found[0]] >= _FAULTS:
            raise ContentLost(identity, f"{kind} {identity[:12]} is not in storage any more")
        shown, document = found
        try:
            place = self._place(shown)
            return await keep(place, document)
        except (RuntimeFailure, OSError) as error:
            self.faults[shown] += 1
            self.store.drop_promise(kind, identity)
            forget_import(self.store, shown)
            told = "; it is not asked again in this session" if self.faults[shown] == _FAULTS else ""
            self.say(f"cache {shown}: {error}: what it was to give is made again{told}")
            raise ContentLost(identity, str(error)) from error

    async def _restored(self, place: Place, document: JSON) -> list[LayerBlob]:
        parts = SnapshotParts.parse(document)
        stored = self.runtime.state.layer_digests()
        descriptors: list[dict[str, JSON]] = []
        for layer in parts.layers:
            if layer.diff_id in stored:
                descriptors += oci.raw_layers([layer.diff_id])
                continue
            await self._fetched(place, layer)
            descriptors.append({"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size})
        config = oci.bare_config(parts.platform, [layer.diff_id for layer in parts.layers])
        await self.runtime.images.store(config, descriptors, f"containers-storage:@{parts.identity}")
        self._remember(parts)
        return []

    async def _blobs_of(self, place: Place, document: JSON) -> list[LayerBlob]:
        parts = SnapshotParts.parse(document)
        for layer in parts.layers:
            await self._fetched(place, layer)
        self._remember(parts)
        blob = self.runtime.state.blob
        return [
            LayerBlob(one.diff_id, one.digest, one.size, blob(one.digest), one.media_type)
            for one in parts.layers
        ]

    async def _tree_restored(self, place: Place, document: JSON) -> list[LayerBlob]:
        parts = TreeParts.parse(document)
        for sha256, blob in parts.files.items():
            if not self.trees.blobs.has(sha256):
                file = await self._fetched(place, blob)
                await anyio.to_thread.run_sync(unpack_file, self.trees, file, sha256)
        file = await self._fetched(place, parts.pack)
        await anyio.to_thread.run_sync(unpack, self.trees, file)
        return []

    async def _fetched(self, place: Place, blob: Blob) -> Path:
        file = self.runtime.state.blob(blob.digest)
        if not file.exists() or file.stat().st_size != blob.size:
            await place.fetch(blob, file)
            self.fetched_bytes += blob.size
        return file

    def _remember(self, parts: SnapshotParts) -> None:
        """What image_out asks for of each layer."""
        for layer in parts.layers:
            known: dict[str, JSON] = {
                "diff_id": layer.diff_id,
                "digest": layer.digest,
                "size": layer.size,
                "mediaType": layer.media_type,
            }
            if self.store.fact(LAYER_FACT, layer.diff_id) is None:
                self.store.remember(LAYER_FACT, layer.diff_id, known)

    def _place(self, shown: str) -> Place:
        if shown not in self.places:
            self.places[shown] = open_place(shown, self.runtime.runner)
        return self.places[shown]
