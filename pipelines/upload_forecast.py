"""What a push would send: the registries are asked beforehand, as the push itself would ask them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from pipelines.base_layers import base_layers
from pipelines.built_images import known_build
from pipelines.errors import PipelineError
from pipelines.forecast_values import Forecast, Freight, Kind, Piece, RegistryForecast
from pipelines.layer_classes import layer_classes
from pipelines.plan import Plan, plans, told
from pipelines.push_journal import Journal
from pipelines.registries.descriptors import Descriptor, Manifest
from pipelines.registries.errors import BrokenContent, NotFound, RepositoryMissing, Unreachable
from pipelines.registries.port import OpenRegistry, Registry
from pipelines.registries.targets import of_kind, repository_of
from pipelines.release_image import ReleaseImage
from pipelines.stages.delivery import each
from pipelines.values import JSON

TIME_LIMIT_S: Final = 30.0
"""For one registry: a question for each blob."""


async def forecast(plan: Plan, environ: Mapping[str, str]) -> Forecast:
    """What the push of ``plan`` would send, by the image of its commit, else by the last one that was built.

    The release image is written into the layout, as a run would do. Registries are only read, all at once.

    Raises:
        PushFailed: what was built is damaged.
    """
    build = await known_build(plan.model, plan.source, plan.layout)
    if build is None:
        return Forecast()
    release = await to_thread.run_sync(build.image.release, plan.names, plan.source.committed_at)
    freight = await to_thread.run_sync(_freight, plan, release, build.referrers)
    found: dict[int, RegistryForecast] = {}

    async def one(place: int, target: Registry) -> None:
        found[place] = await _registry(target, freight, _remembered(plan, place, environ))

    async with anyio.create_task_group() as tasks:
        for place, target in enumerate(plan.targets):
            tasks.start_soon(one, place, target)
    return Forecast(build, freight.all_sizes, tuple(found[place] for place in range(len(plan.targets))))


def _freight(plan: Plan, release: ReleaseImage, recorded: Sequence[str]) -> Freight:
    """The pieces of a release. Layers that were never looked at are listed, which takes its time."""
    image = release.image
    base = base_layers(plan.model, release.config, len(image.layers))
    classes = layer_classes(release.layout, image.layers, base)
    pieces = {
        layer.digest: Piece(Kind(kind), layer) for layer, kind in zip(image.layers, classes, strict=True)
    }
    pieces[image.config.digest] = Piece(Kind.CONFIG, image.config)
    referrers = _referrers(release, recorded)
    for referrer in referrers:
        for blob in referrer.image().blobs:
            pieces.setdefault(blob.digest, Piece(Kind.ATTESTATIONS, blob))
    return Freight(
        release.manifest.descriptor, tuple(pieces.values()), tuple(one.descriptor for one in referrers)
    )


def _referrers(release: ReleaseImage, recorded: Sequence[str]) -> list[Manifest]:
    """The statements that an earlier run made of this very release, where they are in the layout."""
    listed = [one.digest for one in release.layout.referrers(release.digest)]
    found: list[Manifest] = []
    for digest in dict.fromkeys((*recorded, *listed)):
        with contextlib.suppress(NotFound, BrokenContent):
            manifest = release.layout.read_manifest(digest)
            if manifest.subject is not None and manifest.subject.digest == release.digest:
                found.append(manifest)
    return found


@dataclass(frozen=True, slots=True)
class _Remembered:
    """What the journal knows of one registry: it is asked there, for the registry is the truth."""

    origins: Callable[[str], Sequence[Registry]]
    """For a blob: the repositories beside this one that were seen to hold it."""
    has_upload: Callable[[str], bool]
    """Whether an upload of the blob was begun, and not ended."""


def _remembered(plan: Plan, place: int, environ: Mapping[str, str]) -> _Remembered:
    if not plan.model.registries:
        return _Remembered(lambda digest: (), lambda digest: False)
    target, name = plan.model.registries[place], plan.targets[place].name
    repository = repository_of(target, plan.model.name)
    journal = Journal.open(plan.layout.directory.parent.parent, plan.model.name)
    paths, sessions = journal.origins(name), journal.sessions(name)

    def origins(digest: str) -> list[Registry]:
        beside = (replace(repository, path=path) for path in paths(digest))
        return [of_kind(target, one, environ, read_only=True) for one in beside]

    return _Remembered(origins, lambda digest: bool(sessions.recall(digest)))


async def _registry(target: Registry, freight: Freight, remembered: _Remembered) -> RegistryForecast:
    error: PipelineError
    try:
        with anyio.fail_after(TIME_LIMIT_S):
            async with target.open() as registry:
                return await _asked(target, registry, freight, remembered)
    except TimeoutError:
        error = Unreachable(f"{target.name}: no answer within {TIME_LIMIT_S:.0f} s")
    except PipelineError as err:
        error = err
    return RegistryForecast(target.name, {}, {}, freight.size, error, target.is_directory)


async def _asked(
    target: Registry,
    registry: OpenRegistry,
    freight: Freight,
    remembered: _Remembered,
) -> RegistryForecast:
    """As ``pipelines.stages.delivery`` decides it: the manifest goes out again when any blob does."""
    missing: set[str] = set()
    mountable: set[str] = set()

    async def look(piece: Piece) -> None:
        blob = piece.descriptor
        if not await registry.has_blob(blob):
            (mountable if await _beside(remembered.origins(blob.digest), blob) else missing).add(blob.digest)

    is_there = await _has_manifest(registry, freight.manifest.digest)
    await each(freight.blobs, look)
    listed = {one.digest for one in await registry.referrers(freight.manifest.digest)} if is_there else set()
    return RegistryForecast(
        repository=target.name,
        upload=freight.sizes(
            missing,
            manifest=not is_there or bool(missing or mountable),
            referrers=[one for one in freight.referrers if one.digest not in listed],
        ),
        mountable=freight.sizes(mountable),
        goes_on=any(remembered.has_upload(digest) for digest in missing),
        total=freight.size,
        is_directory=target.is_directory,
    )


async def _has_manifest(registry: OpenRegistry, digest: str) -> bool:
    try:
        await registry.read_manifest(digest)
    except (NotFound, RepositoryMissing):
        return False
    return True


async def _beside(origins: Sequence[Registry], blob: Descriptor) -> bool:
    """Whether one of them holds the blob, as far as this login may see."""
    for origin in origins:
        with contextlib.suppress(PipelineError):
            async with origin.open() as registry:
                if await registry.has_blob(blob):
                    return True
    return False


# The command


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and what its push would send; no forecast where nothing is pushed."""

    plan: Plan
    forecast: Forecast | None

    def to_json(self) -> dict[str, JSON]:
        """For ``modelport plan --json``."""
        return {**self.plan.to_json(), "upload": self.forecast.to_json() if self.forecast else None}

    def text(self) -> str:
        """As a person reads it."""
        lines = self.forecast.lines() if self.forecast else []
        heads = ["  upload     ", *["             "] * (len(lines) - 1)]
        return "\n".join(
            [told(self.plan), *(f"{head}{line}" for head, line in zip(heads, lines, strict=False))]
        )


async def planned(where: Path, environ: Mapping[str, str]) -> list[Planned]:
    """``modelport plan``: every model at ``where``. Nothing is built, and registries are only read.

    Raises:
        PipelineError: configuration or source. A registry that can't be asked is told, and no error.
    """
    made = await plans(where, environ)
    return [Planned(plan, None if plan.held_back else await forecast(plan, environ)) for plan in made]
