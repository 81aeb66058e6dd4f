"""``modelport check``: build (from the cache where it can be) and climb the ladder; or one golden case alone;
or write the answers of now into the golden file, after the difference was shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import engines
from pipelines.check_cases_asked import lines_of
from pipelines.command_session import command_session
from pipelines.config import Model, find_models, load, repository_root
from pipelines.console import Console
from pipelines.errors import PipelineError, UsageError
from pipelines.record import Run, error_json, new_run_directory
from pipelines.stages.check_plan import plan_check
from pipelines.state import state_directory
from pipelines.values import JSON

if TYPE_CHECKING:
    from pipelines.golden_update import Update
    from pipelines.stages.check_report import CheckReport


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What the command line asks."""

    where: Path
    case: str = ""
    """The line or the name of the one golden case to ask; "" asks all that the configuration says."""
    update: bool = False
    """Write the answers that differ into the golden file."""
    engine: engines.Engine = engines.Engine.AUTO
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """How the check of one model ended."""

    model: Model
    record: Path
    """The directory with run.json and junit.xml."""
    report: CheckReport | None = None
    update: Update | None = None
    error: PipelineError | None = None

    def text(self) -> str:
        """For standard output: what was found out, or the difference."""
        if self.update is not None:
            return _told_update(self.update)
        if self.report is None:
            return f"{self.model.name}: not checked: {self.error}"
        rungs = [f"  {_mark(rung)} {rung.name:<9} {rung.summary()}" for rung in self.report.rungs]
        head = f"{self.model.name}: {'FAILED' if self.report.failed else 'ok'}"
        reached = self.report.reached or "nothing"
        return "\n".join([f"{head} (reached: {reached})", *rungs])

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        update = self.update
        return {
            "model": self.model.name,
            "record": str(self.record / "run.json"),
            "check": self.report.to_json() if self.report else None,
            "update": None
            if update is None
            else {
                "file": str(update.file),
                "updated": list(update.updated),
                "refused": list(update.refused),
                "difference": update.difference(),
            },
            "error": error_json(self.error) if self.error else None,
        }


def _mark(rung: object) -> str:
    return "-" if getattr(rung, "skipped", False) else "✓" if getattr(rung, "ok", False) else "✗"


def _told_update(update: Update) -> str:
    lines = [f"recorded: {one}" for one in update.updated]
    lines += [f"NOT recorded: {one}" for one in update.refused]
    return "\n".join(lines) or "every answer is as the golden file says"


async def check_command(options: CheckOptions, environ: Mapping[str, str]) -> list[Checked]:
    """Check every model at ``options.where``, one after the other; a failed one is in its ``error``.

    With ``update`` the difference is told on standard error, then the file is written; nothing is asked.

    Raises:
        PipelineError: before any model was built: configuration, usage, engine.
    """
    models = [load(file, environ) for file in find_models(options.where)]
    if (options.case or options.update) and len(models) > 1:
        names = ", ".join(model.name for model in models)
        raise UsageError(
            f"--case and --update are for one model, and here are {names}", hint="name its directory"
        )
    lines = lines_of(models[0], options.case) if options.case or options.update else ()
    for model in models:
        plan_check(model)  # a wrong line is told before anything is started
    state = state_directory(repository_root(models[0].directory))
    choice = await engines.choose(options.engine, environ)
    Console().line(f"{models[0].name if len(models) == 1 else f'{len(models)} models'}   engine: {choice}")
    root = repository_root(state)
    async with command_session("check", choice, state, root, debug=options.debug) as events:
        place = _Place(state, events, environ)
        return [await _checked(model, options, lines, place) for model in models]


@dataclass(frozen=True, slots=True)
class _Place:
    """What all models of one command share."""

    state: Path
    events: Path
    environ: Mapping[str, str] = field(repr=False)


async def _checked(model: Model, options: CheckOptions, lines: tuple[int, ...], place: _Place) -> Checked:
    from pipelines import check_steps  # noqa: PLC0415  # the SDK: imported while the engine starts

    console = Console()
    directory = new_run_directory(place.state, model.name)
    run = Run(model.name, directory, place.events, tell=console.stage)
    steps = check_steps.Steps(model, run, place.state, place.environ)
    try:
        if options.update:
            update = await steps.updated(lines, console.line)
            return Checked(model, run.directory, update=update)
        report = await (steps.one_case(lines) if lines else steps.whole())
        return Checked(model, run.directory, report)
    except PipelineError as err:
        console.error(err)
        return Checked(model, run.directory, _report_of(err), error=err)
    finally:
        run.save()


def _report_of(err: PipelineError) -> CheckReport | None:
    from pipelines.stages.check_report import CheckReport  # noqa: PLC0415  # see above

    return err.report if isinstance(err.report, CheckReport) else None
