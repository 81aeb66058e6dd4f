"""Disk needed against disk there: for the image that leaves the engine, and for the engine's own store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipelines.built_images import KnownBuild
from pipelines.config import ImageBuild, Model, PythonBuild
from pipelines.errors import UsageError
from pipelines.layer_classes import unpacked_size
from pipelines.preflight_report import Check

DISK: Final = "disk"
MARGIN: Final = 64 << 20
"""Records, logs, and what a database needs to write: less than this is a full disk."""
FIRST_IMAGE: Final = 256 << 20
"""The least that a first build takes on either side: a small base image and its archive."""


@dataclass(frozen=True, slots=True)
class Need:
    """What will be written below one directory: at least, and if everything is made anew."""

    directory: Path
    least: int
    most: int


def disk_needs(model: Model, images: Path, build: KnownBuild | None, engine: Path | None) -> tuple[Need, ...]:
    """What a run of ``model`` needs below ``images`` and in the engine's store (None: it is not here).

    Estimated from the last build. An export is an archive first, then the blobs that are new; the engine
    unpacks what it builds. A commit that is built already needs next to nothing.
    """
    if build is None:
        inputs = sum(_size(model.directory / path) for path in _big_inputs(model))
        least, most = FIRST_IMAGE + 2 * inputs, 4 * FIRST_IMAGE + 2 * inputs
        needs = [Need(images, least, most)]
        return (*needs, Need(engine, least, most)) if engine else tuple(needs)
    size = build.image.size
    archive = MARGIN if build.is_current else MARGIN + size
    needs = [Need(images, archive, MARGIN + 2 * size)]
    return (*needs, Need(engine, MARGIN, MARGIN + _unpacked(build))) if engine else tuple(needs)


def engine_store(kind: str, environ: Mapping[str, str]) -> Path | None:
    """Where the embedded engine keeps its images; None for another engine, whose disk is its own."""
    if kind != "embedded":
        return None
    if chosen := environ.get("EMBEDDED_ENGINE_STATE"):
        return Path(chosen).expanduser().absolute()
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedded-engine"


def check_disk(needs: Iterable[Need]) -> Check:
    """One check over the file systems that are written to; it fails where a run surely can't end well."""
    told: list[str] = []
    least_free: int | None = None
    for directory, least, most in _by_file_system(needs):
        free = shutil.disk_usage(directory).free
        least_free = free if least_free is None else min(free, least_free)
        if free < least:
            error = UsageError(
                f"{directory}: {gigabytes(free)} GB free, and this run needs {gigabytes(least)} GB at least",
                hint="make room: .modelport/images and the engine's store hold images of earlier builds",
            )
            return Check.failed(DISK, error)
        words = "up to" if free >= most else "which may not be enough: up to"
        told.append(f"{gigabytes(free)} GB free at {directory}, {words} {gigabytes(most)} GB needed")
    return Check.ok(DISK, "; ".join(told), short=f"{gigabytes(least_free or 0)} GB free")


def _by_file_system(needs: Iterable[Need]) -> list[tuple[Path, int, int]]:
    found: dict[int, tuple[Path, int, int]] = {}
    for need in needs:
        directory = next(path for path in (need.directory, *need.directory.parents) if path.exists())
        device = directory.stat().st_dev
        first, least, most = found.get(device, (directory, 0, 0))
        found[device] = (first, least + need.least, most + need.most)
    return list(found.values())


def _unpacked(build: KnownBuild) -> int:
    size = 0
    for layer in build.image.image.layers:
        with build.image.layout.path(layer.digest).open("rb") as file:
            size += unpacked_size(file, layer.size)
    return size


def _big_inputs(model: Model) -> list[str]:
    """What is copied into the image whole, and hardly packs."""
    match model.build:
        case PythonBuild() as build:
            return [weights.path for weights in build.weights if weights.path]
        case ImageBuild() as build:
            return [build.image]
        case _:
            return []


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    files = (Path(directory, name) for directory, _, names in os.walk(path) for name in names)
    return sum(file.lstat().st_size for file in files)


def gigabytes(count: int) -> str:
    """``0.3``, ``1.2``, ``41``."""
    number = count / 1e9
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"
