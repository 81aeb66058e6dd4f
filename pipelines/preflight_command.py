"""``modelport preflight``: the checks of every model at a place, as far as each can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from pipelines import engines
from pipelines.config import Model, find_models, load
from pipelines.errors import EngineUnavailable, PipelineError
from pipelines.plan import Plan, Push, make_plan
from pipelines.preflight import CONFIGURATION, GIT, configuration, engine_checks, examine
from pipelines.preflight_report import Check, PreflightReport
from pipelines.source import SourceRevision, read_source
from pipelines.state import state_directory

REGISTRIES = "registries"


async def examine_all(
    where: Path, environ: Mapping[str, str], wish: engines.Engine = engines.Engine.AUTO
) -> list[PreflightReport]:
    """The reports of every model at ``where``, with all problems in them. ``verify_all`` raises the first.

    Raises:
        ConfigError: there is no model.
    """
    files = find_models(where)
    machine = _Machine()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(machine.read_source, files[0].parent, environ)
        tasks.start_soon(machine.choose_engine, wish, environ)
    reports: dict[int, PreflightReport] = {}

    async def one(place: int, file: Path) -> None:
        reports[place] = await _report(file, machine, environ)

    async with anyio.create_task_group() as tasks:
        for place, file in enumerate(files):
            tasks.start_soon(one, place, file)
    return [reports[place] for place in range(len(files))]


def verify_all(reports: Sequence[PreflightReport]) -> None:
    """Raise the first problem of the first model that has one, its others in the detail.

    Raises:
        UsageError: the configuration, the commit or the disk (exit code 2).
        EngineUnavailable: no engine can run here (8).
        PushFailed: fewer registries are ready than ``release.push_to`` asks for (6).
    """
    for report in reports:
        report.verify()


@dataclass(slots=True)
class _Machine:
    """What all models of one command share: the checkout and the engine, or why there is none."""

    source: SourceRevision | PipelineError = field(default_factory=lambda: PipelineError("not read"))
    engine: engines.Choice | EngineUnavailable | None = None

    async def read_source(self, directory: Path, environ: Mapping[str, str]) -> None:
        try:
            self.source = await read_source(directory, environ)
        except PipelineError as err:
            self.source = err

    async def choose_engine(self, wish: engines.Engine, environ: Mapping[str, str]) -> None:
        try:
            self.engine = await engines.choose(wish, environ)
        except EngineUnavailable as err:
            self.engine = err


async def _report(file: Path, machine: _Machine, environ: Mapping[str, str]) -> PreflightReport:
    model: Model | None = None
    try:
        model = await to_thread.run_sync(partial(load, file, environ))
        plan = _plan(model, machine.source, environ)
    except PipelineError as err:
        return _unplanned(file, model, machine, err, environ)
    return await examine(plan, environ, machine.engine)


def _plan(model: Model, source: SourceRevision | PipelineError, environ: Mapping[str, str]) -> Plan:
    if isinstance(source, PipelineError):
        raise source
    return make_plan(model, source, state_directory(source.root), environ, Push.AUTO)


def _unplanned(
    file: Path, model: Model | None, machine: _Machine, err: PipelineError, environ: Mapping[str, str]
) -> PreflightReport:
    """What can be said where the configuration or the checkout can't be read."""
    source = machine.source
    if err is source and model is not None:
        checks = [configuration(model, environ), Check.failed(GIT, err)]
    else:
        checks = [Check.failed(CONFIGURATION, err)]
        if isinstance(source, SourceRevision):
            checks.append(Check.ok(GIT, f"{source.short} ({source.summary()})"))
        else:
            checks.append(Check.failed(GIT, source))
    skipped = Check.skipped(REGISTRIES, "not asked before that is right")
    name = model.name if model else file.parent.name
    return PreflightReport(name, (*checks, *engine_checks(machine.engine), skipped))
