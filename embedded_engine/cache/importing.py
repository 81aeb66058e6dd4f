"""Taking in what a cache knows: its rows at once, layers and trees when something needs them.

A row that is here already stands (unless its snapshot is gone): local knowledge is never worse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embedded_engine.cache.index import Index
from embedded_engine.cache.places import Place
from embedded_engine.cache.reading import absent, read_index
from embedded_engine.operations import Outcome
from embedded_engine.runtime.port import JSON
from embedded_engine.store import Store
from embedded_engine.trees import TREE

SNAPSHOT = "snapshot"
_IMPORTED = "cache-imported"


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import brought."""

    operations: int
    new: int
    unchanged: bool = False
    """The place says what it said last time: nothing had to be read."""

    def __str__(self) -> str:
        if self.unchanged:
            return "nothing new since the last import"
        return f"{self.operations} operations, {self.new} of them new here; layers come when they are needed"


async def import_rows(place: Place, store: Store, exists: Callable[[Outcome], bool], temp: Path) -> Imported:
    """Take over the rows of ``place``. Raises CacheFault (nothing is changed then)."""
    manifest = await place.manifest()
    if manifest is None:
        raise absent(place)
    seen = hashlib.sha256(manifest).hexdigest()
    if store.fact(_IMPORTED, place.shown) == seen:
        return Imported(0, 0, unchanged=True)
    index = await read_index(place, manifest, temp)
    store.add_promises(place.shown, promises_of(index))
    new = store.adopt(index.rows.values(), exists)
    store.remember(_IMPORTED, place.shown, seen)
    return Imported(len(index.rows), new)


def promises_of(index: Index) -> list[tuple[str, str, JSON]]:
    """What the store is told of an index's snapshots and trees."""
    snapshots = [(SNAPSHOT, one, parts.document()) for one, parts in index.snapshots.items()]
    return snapshots + [(TREE, one, parts.document()) for one, parts in index.trees.items()]


def forget_import(store: Store, shown: str) -> None:
    """Something that ``shown`` promised could not be had: the next import reads all of it again."""
    store.drop_facts(_IMPORTED, [shown])
