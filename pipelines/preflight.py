"""Preflight: everything that would stop a release and can be known in seconds, before anything is built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from pipelines import engines
from pipelines.built_images import last_build
from pipelines.config import AtLeast, DockerfileBuild, Model
from pipelines.errors import ConfigError, EngineUnavailable
from pipelines.plan import Plan
from pipelines.preflight_disk import DISK, check_disk, disk_needs, engine_store
from pipelines.preflight_registry import REVISION, Wanted, check_registry
from pipelines.preflight_report import Check, PreflightReport, RegistryChecks
from pipelines.source import releasable

CONFIGURATION, GIT, ENGINE = "configuration", "git", "engine"
_RECORDS: Final = 3
"""Run records that are read to tell the size of the last image: a run has no time for more."""


async def preflight(
    plan: Plan, environ: Mapping[str, str], engine: engines.Choice | None = None
) -> PreflightReport:
    """The first stage of a run: all checks of one model at once. It needs no engine session.

    ``engine`` is the one that was chosen, where that is known: the embedded one's disk is checked, too. A
    commit that is held back from the registries has its configuration, git state and disk checked only.

    Raises:
        UsageError: configuration or disk (exit code 2).
        PushFailed: fewer registries are ready than ``release.push_to`` asks for (6).
            Either carries the report, and tells the other problems in its detail.
    """
    report = await examine(plan, environ, engine)
    report.verify()
    return report


async def examine(
    plan: Plan, environ: Mapping[str, str], engine: engines.Choice | EngineUnavailable | None = None
) -> PreflightReport:
    """As ``preflight``; what is wrong is in the report, and nothing is raised."""
    found: dict[int, RegistryChecks] = {}
    own = [configuration(plan.model, environ), _git(plan), *engine_checks(engine)]
    here = engine if isinstance(engine, engines.Choice) else None

    async def registry(place: int, wanted: Wanted) -> None:
        found[place] = await check_registry(plan.targets[place], wanted)

    async with anyio.create_task_group() as tasks:
        for place, wanted in enumerate(_wanted(plan)):
            tasks.start_soon(registry, place, wanted)
        disk = await to_thread.run_sync(_disk, plan, environ, here)
    rule = plan.model.release.push_to
    return PreflightReport(
        model=plan.model.name,
        checks=(*own, disk),
        registries=tuple(found[place] for place in sorted(found)),
        enough=rule.at_least if isinstance(rule, AtLeast) else None,
    )


def _wanted(plan: Plan) -> Iterable[Wanted]:
    """What is asked of each target. Targets are the configured registries, in their order, or one layout."""
    commit = plan.names.labels.get(REVISION, plan.source.commit)
    for place in range(len(plan.targets)):
        configured = plan.model.registries[place] if plan.model.registries else None
        may_create = configured is None or configured.settings.create
        yield Wanted(commit, plan.names.version_tags, may_create)


def configuration(model: Model, environ: Mapping[str, str]) -> Check:
    """The file was read, down to what it names; what is left is what only the environment tells."""
    try:
        for reference in model.build.secrets.values() if isinstance(model.build, DockerfileBuild) else ():
            if not reference.startswith("cmd://"):  # a command runs once, in the build
                reference.resolve(environ)
        _hold_files(model)
    except ConfigError as err:
        return Check.failed(CONFIGURATION, err)
    return Check.ok(CONFIGURATION, _shown(model.file))


def _hold_files(model: Model) -> None:
    """Files that are read late: a gate's data, an authority's certificate. Raises ConfigError."""
    scan = model.scan
    source = scan.python_packages.source
    named = [("scan.python_packages.source", source)] if "://" not in source else []
    if scan.could_not_look.python_packages != "block":
        named = []
    named += [("ca_file", target.ca_file) for target in model.registries if target.ca_file]
    for key, name in named:
        if not (model.directory / name).is_file():
            raise ConfigError(
                f'{key} names "{name}", and there is no such file', hint=f"looked for in {model.directory}"
            )


def _git(plan: Plan) -> Check:
    text = f"{plan.source.short} ({plan.source.summary()})"
    if plan.held_back:
        return Check.ok(GIT, f"{text}, {plan.held_back}", short=plan.held_back)
    reason = releasable(plan.model, plan.source)
    return Check.ok(GIT, f"{text}, {f'goes to this machine only: {reason}' if reason else 'may be released'}")


def _disk(plan: Plan, environ: Mapping[str, str], engine: engines.Choice | None) -> Check:
    """Blocks, for milliseconds: it reads files."""
    layout = plan.layout
    try:
        build = last_build(plan.model.name, plan.source, layout, _RECORDS)
        store = engine_store(engine.kind, environ) if engine else None
        return check_disk(disk_needs(plan.model, layout.directory, build, store))
    except OSError as err:
        return Check.skipped(DISK, f"can't be told: {err}")


def engine_checks(engine: engines.Choice | EngineUnavailable | None) -> list[Check]:
    """The check of the engine: the chosen one, or why there is none; nothing where it was not looked for."""
    if engine is None:
        return []
    if isinstance(engine, EngineUnavailable):
        return [Check.failed(ENGINE, engine)]
    return [Check.ok(ENGINE, str(engine))]


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
