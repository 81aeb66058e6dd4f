"""``modelport rescan``: what is released is judged again by today's advisories and policy, from its SBOMs.

No image is pulled and nothing is written. What only the image itself can tell (secrets, model files, hygiene)
stands as it was judged when it was released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from pipelines.config import Model, find_models, load, repository_root
from pipelines.config_registries import REGISTRY_VARIABLE
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.layout import ImageLayout
from pipelines.registries.port import Registry
from pipelines.registries.targets import of_kind, repository_of
from pipelines.rescan_registry import LiveImage, LiveRegistry, live
from pipelines.rescan_report import Place, Rejudged, RescannedModel, RescanReport
from pipelines.rescan_sources import Asked, python_questions, rejudged_os
from pipelines.sbom_contents import StoredInventory, stored_inventory
from pipelines.scanners import licences, python_packages
from pipelines.scanners.osv_source import source_of
from pipelines.scanners.policy import aged, judge
from pipelines.scanners.port import CouldNotLookError, Finding, ScannerName, ScannerResult
from pipelines.state import NAME

if TYPE_CHECKING:
    from pipelines.scanners.advisories import AdvisorySource


async def rescan(
    where: Path, environ: Mapping[str, str], tag: str = "", today: date | None = None
) -> RescanReport:
    """Judge every live tag of the models at ``where`` again, in all of their registries.

    Those are the configured ones and those of the environments (with MODELPORT_REGISTRY: only these), else
    the layout of runs without a registry. ``tag`` is a glob.

    Raises:
        ConfigError: modelport.yaml is wrong.
    """
    models = [load(file, environ) for file in find_models(where)]
    found: dict[str, RescannedModel] = {}

    async def one(model: Model) -> None:
        found[str(model.file)] = await rescanned(
            model, registries_of(model, environ), environ, tag, today or datetime.now(UTC).date()
        )

    async with anyio.create_task_group() as tasks:
        for model in models:
            tasks.start_soon(one, model)
    return RescanReport(tuple(found[str(model.file)] for model in models))


def registries_of(model: Model, environ: Mapping[str, str]) -> tuple[Registry, ...]:
    """Every registry that has releases of ``model``, once, to be read only."""
    targets = [*model.registries]
    if not environ.get(REGISTRY_VARIABLE):
        targets += [one for environment in model.environments.values() for one in environment.registries]
    found: dict[str, Registry] = {}
    for target in targets:
        repository = repository_of(target, model.name)
        found.setdefault(str(repository), of_kind(target, repository, environ, read_only=True))
    layout = repository_root(model.directory) / NAME / "images" / model.name
    if not found and ImageLayout.is_layout(layout):
        return (LayoutRegistry(ImageLayout(layout), str(layout)),)
    return tuple(found.values())


async def rescanned(
    model: Model, registries: Sequence[Registry], environ: Mapping[str, str], tag: str, today: date
) -> RescannedModel:
    """Everything live of one model, judged."""
    read: dict[str, LiveRegistry] = {}

    async def one(registry: Registry) -> None:
        read[registry.name] = await live(registry, tag)

    async with anyio.create_task_group() as tasks:
        for registry in registries:
            tasks.start_soon(one, registry)
    told = [read[registry.name] for registry in registries]
    images: dict[str, list[LiveImage]] = {}
    for repository in told:
        for image in repository.images:
            images.setdefault(image.digest, []).append(image)
    unread = tuple((one.name, one.unread) for one in told if one.unread)
    return RescannedModel(model, await _judged(model, images, environ, today), unread, len(registries))


async def _judged(
    model: Model, images: Mapping[str, Sequence[LiveImage]], environ: Mapping[str, str], today: date
) -> tuple[Rejudged, ...]:
    stored: dict[str, StoredInventory] = {}
    silent: dict[str, str] = {}
    for digest, places in images.items():
        documents = sorted({document for place in places for document in place.sboms})
        try:
            stored[digest] = stored_inventory(documents)
        except CouldNotLookError as err:
            reasons = [place.unread for place in places if place.unread]
            silent[digest] = reasons[0] if reasons else str(err)
    results = await _results(model, stored, environ)
    results |= {digest: _not_looked(reason) for digest, reason in silent.items()}
    policy = model.scan.model_copy(update={"new_since": None})  # all that is live is published
    order = sorted(images, key=lambda one: (stored[one].timestamp if one in stored else "", one))
    rejudged = []
    for digest in order:
        dated = [aged(result, policy, today) for result in results[digest]]
        live_in = tuple(Place(one.registry, one.tags) for one in images[digest])
        when = stored[digest].timestamp if digest in stored else ""
        rejudged.append(Rejudged(digest, live_in, when, tuple(dated), judge(dated, policy, today)))
    return _with_since(rejudged)


async def _results(
    model: Model, stored: Mapping[str, StoredInventory], environ: Mapping[str, str]
) -> dict[str, list[ScannerResult]]:
    """By digest what each scanner says. The advisories on all of them are asked for at once."""
    source = await _python_source(model, stored, environ)
    os_sources: dict[str, Asked] = {}
    found: dict[str, list[ScannerResult]] = {}
    for digest, one in stored.items():
        found[digest] = [
            await rejudged_os(one.contents, model, environ, os_sources),
            await _python(one, source, model),
            licences.judged(one.licensed, one.contents, model.scan.licences),
        ]
    return found


async def _python_source(
    model: Model, stored: Mapping[str, StoredInventory], environ: Mapping[str, str]
) -> AdvisorySource | CouldNotLookError:
    try:
        source = Asked(source_of(model.scan.python_packages.source, model.directory, environ))
    except CouldNotLookError as err:
        return err
    await source.ask({question for one in stored.values() for question in python_questions(one.contents)})
    return source


async def _python(
    one: StoredInventory, source: AdvisorySource | CouldNotLookError, model: Model
) -> ScannerResult:
    try:
        if isinstance(source, CouldNotLookError):
            raise source
        return await python_packages.judged(one.contents, source, model.scan.python_packages.unrated)
    except CouldNotLookError as err:
        return ScannerResult("python_packages", audited=False, reason=str(err))


def _not_looked(reason: str) -> list[ScannerResult]:
    names: tuple[ScannerName, ...] = ("os_packages", "python_packages", "licences")
    return [ScannerResult(name, audited=False, reason=reason) for name in names]


def _with_since(rejudged: Sequence[Rejudged]) -> tuple[Rejudged, ...]:
    """Each finding with the oldest live release that has it: by the times of their commits."""
    since: dict[tuple[str, str], str] = {}
    for image in rejudged:
        for finding in image.verdict.findings:
            since.setdefault(_identity(finding), image.name)
    return tuple(
        replace(image, since={_identity(one): since[_identity(one)] for one in image.verdict.findings})
        for image in rejudged
    )


def _identity(finding: Finding) -> tuple[str, str]:
    return finding.id, finding.subject
