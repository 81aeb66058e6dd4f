"""Which image a model was last built to, by the run records and the layout: what a push would send."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import anyio
from anyio import to_thread

from pipelines.config import DockerfileBuild, Model, PythonBuild
from pipelines.errors import PipelineError
from pipelines.registries.layout import ImageLayout
from pipelines.release_image import BuiltImage
from pipelines.source import SourceRevision

_RECORDS: Final = 30
"""How many of a model's latest runs are looked at."""
_GIT_TIMEOUT_S: Final = 20


@dataclass(frozen=True, slots=True)
class KnownBuild:
    """An image of the model that is whole in the layout."""

    image: BuiltImage
    commit: str
    """What it was built from; "" where no record tells."""
    is_current: bool
    """Whether a build of the present checkout gives this image: the same commit, or the same input."""
    referrers: tuple[str, ...] = ()
    """The digests of the statements that its run made, of whatever release they speak."""


async def known_build(model: Model, source: SourceRevision, layout: ImageLayout) -> KnownBuild | None:
    """The image of this commit where there was a build of it, else the last one; None without any."""
    found = await to_thread.run_sync(last_build, model.name, source, layout)
    if found is None or found.is_current or source.dirty or not found.commit:
        return found
    if await _same_input(model, source, found.commit):
        return replace(found, is_current=True)
    return found


def last_build(
    name: str, source: SourceRevision, layout: ImageLayout, records: int = _RECORDS
) -> KnownBuild | None:
    """The image of this commit, else the last one, by the ``records`` latest runs. Reads files only."""
    last: KnownBuild | None = None
    for record in _records(layout.directory.parent.parent / "runs", name, records):
        is_current = record.is_clean and not source.dirty and record.commit == source.commit
        if last is None or is_current:
            image = _whole(layout, record.digest)
            if image is not None and is_current:
                return KnownBuild(image, record.commit, is_current=True, referrers=record.referrers)
            if image is not None and last is None:
                last = KnownBuild(image, record.commit if record.is_clean else "", is_current=False)
    return last or _exported_last(layout)


@dataclass(frozen=True, slots=True)
class _Record:
    """What a run record tells of an image."""

    commit: str
    is_clean: bool
    digest: str
    referrers: tuple[str, ...]


def _records(runs: Path, name: str, count: int) -> Iterator[_Record]:
    """The runs that built an image, the latest first."""
    try:
        directories = sorted(
            (entry.name for entry in os.scandir(runs) if f"-{name}-" in entry.name), reverse=True
        )
    except OSError:
        return
    for directory in directories[:count]:
        try:
            record = json.loads((runs / directory / "run.json").read_text())
            found = _read_record(record) if record["model"] == name else None
            if found is not None:
                yield found
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue  # a record that was cut or is of another version: as if there were none


def _read_record(record: Mapping[str, Any]) -> _Record | None:
    """None where nothing was exported. (Any: a record of whatever version; a wrong shape raises.)"""
    results = {stage["name"]: stage["result"] for stage in record["stages"] if stage["status"] == "ok"}
    if not results.get("export"):
        return None
    referrers = tuple(map(str, results.get("attest", {}).get("referrers", ())))
    source = record["source"]
    return _Record(str(source["commit"]), not source["dirty"], str(results["export"]["digest"]), referrers)


def _exported_last(layout: ImageLayout) -> KnownBuild | None:
    """Without records: what the engine exported last."""
    try:
        memos = sorted(layout.directory.glob(".exports/*.json"), key=lambda file: file.stat().st_mtime)
        digests = [str(json.loads(file.read_text())["manifest"]) for file in reversed(memos)]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    images = (_whole(layout, digest) for digest in digests)
    return next((KnownBuild(image, "", is_current=False) for image in images if image), None)


def _whole(layout: ImageLayout, digest: str) -> BuiltImage | None:
    """The image, if every blob of it is there."""
    try:
        image = BuiltImage(layout, layout.read_manifest(digest))
        return image if all(layout.has_blob(blob) for blob in image.image.blobs) else None
    except (PipelineError, OSError):
        return None


async def _same_input(model: Model, source: SourceRevision, commit: str) -> bool:
    """Whether nothing that the build reads differs between ``commit`` and the present one."""
    paths = [str(path) for path in _inputs(model)]
    command = ["git", "-C", str(source.root), "-c", "core.fsmonitor=false"]
    command += ["diff", "--quiet", "--no-ext-diff", "--end-of-options", commit, source.commit, "--", *paths]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        with anyio.fail_after(_GIT_TIMEOUT_S):
            done = await anyio.run_process(command, env=environ, check=False)
    except (OSError, TimeoutError):
        return False
    return done.returncode == 0


def _inputs(model: Model) -> set[Path]:
    """The model's directory, and what its build names outside of it."""
    names = ["."]
    match model.build:
        case DockerfileBuild() as build:
            names.append(build.context)
        case PythonBuild() as build:
            names += [*build.code, *(weights.path for weights in build.weights if weights.path)]
            names += [build.dependencies] if build.dependencies else []
    return {(model.directory / name).resolve() for name in names}
