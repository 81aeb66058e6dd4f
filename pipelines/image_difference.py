"""What differs between the image under a release tag and the one that was built: for the conflict's text."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio import to_thread

from pipelines.layer_difference import CannotCompareError, differing_files
from pipelines.registries.descriptors import (
    CONFIG_LIMIT,
    INDEX_TYPES,
    Descriptor,
    ImageManifest,
    json_object,
    text_mapping,
)
from pipelines.registries.errors import RegistryError
from pipelines.registries.layout import TEMPORARY
from pipelines.registries.port import OpenRegistry
from pipelines.trace_hops import printable

if TYPE_CHECKING:
    from pipelines.release_image import ReleaseImage

LAYER_LIMIT: Final = 256 << 20
"""Of a packed layer that is fetched only to say what differs in it."""
TIME_LIMIT_S: Final = 60.0
_SHOWN: Final = 3


@dataclass(slots=True)
class Differences:
    """What differs, found out once for each image that is met in the registries of one push."""

    _known: dict[str, str] = field(default_factory=dict)
    _lock: anyio.Lock = field(default_factory=anyio.Lock)

    async def told(self, registry: OpenRegistry, held: str, release: ReleaseImage) -> str:
        """``layer 4 of 5 differs: app/server.py has other content``; what can't be found out is said, too."""
        async with self._lock:
            if held not in self._known:
                self._known[held] = await _told(registry, held, release)
        return self._known[held]


async def _told(registry: OpenRegistry, held: str, release: ReleaseImage) -> str:
    try:
        with anyio.fail_after(TIME_LIMIT_S):
            return await _difference(registry, held, release)
    except TimeoutError:
        return f"what differs was not found out within {TIME_LIMIT_S:.0f} s"
    except RegistryError as err:
        return f"what differs can't be found out ({err})"


async def _difference(registry: OpenRegistry, held: str, release: ReleaseImage) -> str:
    manifest = await registry.read_manifest(held)
    if manifest.media_type in INDEX_TYPES:
        return "what the tag names is an index of several images"
    theirs = manifest.image()
    config = json_object(await registry.read_blob(theirs.config.digest, CONFIG_LIMIT), "its config")
    layer = await _layer_difference(registry, theirs, _diff_ids(config), release)
    return "; ".join(part for part in (layer, config_difference(config, release.config)) if part) or (
        "only the form of the manifest differs"
    )


async def _layer_difference(
    registry: OpenRegistry, theirs: ImageManifest, diff_ids: tuple[str, ...], release: ReleaseImage
) -> str:
    """The first layer whose content differs, and the files in it; "" where all have the same content."""
    ours = release.diff_ids
    pairs = enumerate(itertools.zip_longest(diff_ids, ours), start=1)
    number = next((number for number, (one, other) in pairs if one != other), 0)
    if not number:
        same = [one.digest for one in theirs.layers] == [one.digest for one in release.image.layers]
        return "" if same else "the layers hold the same files and are packed differently"
    if number > min(len(diff_ids), len(ours), len(theirs.layers)):
        return f"it has {len(diff_ids)} layers and this build {len(ours)}, the first {number - 1} the same"
    what = f"layer {number} of {len(ours)} differs"
    try:
        files = await _files(registry, theirs.layers[number - 1], release, release.image.layers[number - 1])
    except CannotCompareError as err:
        return f"{what} (its files were not compared: {err})"
    return f"{what}: {files or 'the same files in another order or form'}"


async def _files(registry: OpenRegistry, theirs: Descriptor, release: ReleaseImage, ours: Descriptor) -> str:
    """Which files differ. The registry's layer is kept in a file only meanwhile."""
    layout = release.layout
    if layout.has_blob(theirs):
        return await _compare(layout.path(theirs.digest), layout.path(ours.digest))
    if theirs.size > LAYER_LIMIT:
        raise CannotCompareError(f"{theirs.size / 1e6:.0f} MB would have to be fetched")
    path = layout.directory / f"{TEMPORARY}conflict-{secrets.token_hex(4)}"
    try:
        await registry.download_blob(theirs, path)
        return await _compare(path, layout.path(ours.digest))
    finally:
        path.unlink(missing_ok=True)


async def _compare(theirs: Path, ours: Path) -> str:
    # It only reads files that stay open for it: where time runs out nobody has to wait for its end.
    return await to_thread.run_sync(differing_files, theirs, ours, abandon_on_cancel=True)


def config_difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """Which settings and labels differ, labels with their values. (Any: foreign JSON, only compared.)"""
    one, other = dict(_settings(theirs)), dict(_settings(ours))
    names = [name for name in {**other, **one} if one.get(name) != other.get(name)]
    told = [_setting(name, one.get(name), other.get(name)) for name in sorted(names)[:_SHOWN]]
    more = len(names) - _SHOWN
    return ", ".join(told + ([f"and {more} more settings"] if more > 0 else []))


def _setting(name: str, theirs: object, ours: object) -> str:
    if not name.startswith("label "):  # an environment may hold what is better not repeated
        return f"{printable(name)} differs"
    there, here = (
        f'"{printable(str(one))[:60]}"' if one is not None else "not set" for one in (theirs, ours)
    )
    return f"{printable(name)} is {there} there and {here} here"


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Everything of a config but the layers and their history, which are told as layers."""
    for name, value in config.items():
        if name not in ("rootfs", "history", "config"):
            yield name, value
    inner = config.get("config")
    for name, value in (inner if isinstance(inner, dict) else {}).items():
        if name == "Labels":
            yield from ((f"label {label}", text) for label, text in text_mapping(value).items())
        else:
            yield f"config.{name}", value


def _diff_ids(config: Mapping[str, Any]) -> tuple[str, ...]:
    rootfs = config.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    return tuple(str(one) for one in found) if isinstance(found, list) else ()
