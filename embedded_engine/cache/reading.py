"""Opening a place by its address, and reading what it knows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from embedded_engine.cache.index import CacheFault, Index, parse_rows, rows_blob
from embedded_engine.cache.layout import DirectoryPlace
from embedded_engine.cache.places import DIRECTORY, Address, Place
from embedded_engine.cache.registry import RegistryPlace
from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.state import policy_needed


def open_place(address: str, runner: Runner) -> Place:
    """The place at an address; nothing is asked of it yet. Raises CacheFault."""
    parsed = Address.parse(address)
    if parsed.transport == DIRECTORY:
        return DirectoryPlace(Path(parsed.location), parsed.location)
    policy = ("--insecure-policy",) if policy_needed(runner.environ) else ()
    return RegistryPlace(parsed.location, runner, policy)


async def read_index(place: Place, manifest: bytes, temp: Path) -> Index:
    """What a place's manifest says. Raises CacheFault; CacheDamaged if it can't be believed."""
    blob = rows_blob(manifest, place.shown)
    with tempfile.TemporaryDirectory(dir=temp) as name:
        file = Path(name) / "rows"
        await place.fetch(blob, file)
        return parse_rows(file.read_bytes(), place.shown)


def absent(place: Place) -> CacheFault:
    """The fault of a place that has no cache for this engine."""
    if isinstance(place, DirectoryPlace) and (others := place.others()):
        return CacheFault(f"{place.shown} has only caches of other engines or platforms: {', '.join(others)}")
    return CacheFault(f"{place.shown} has no cache yet")
