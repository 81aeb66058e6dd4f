"""``modelport scan``: build (from the cache where it can be) and judge the image; nothing is pushed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import engines
from pipelines.command_session import command_session
from pipelines.config import Model, find_models, load
from pipelines.console import Console
from pipelines.errors import PipelineError
from pipelines.plan import Push, make_plan
from pipelines.record import Run, error_json, new_run_directory
from pipelines.source import read_source
from pipelines.state import state_directory
from pipelines.values import JSON

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from pipelines.stages.scan_report import ScanReport


@dataclass(frozen=True, slots=True)
class Scanned:
    """How the scan of one model ended."""

    model: Model
    record: Path
    """The directory with run.json and scan.sarif."""
    report: ScanReport | None = None
    error: PipelineError | None = None

    def text(self) -> str:
        """For standard output: the verdict and the table."""
        if self.report is None:
            return f"{self.model.name}: not scanned: {self.error}"
        verdict = "BLOCKED" if self.report.verdict.blocks else "passes"
        return "\n".join(filter(None, [f"{self.model.name}: {verdict}", self.report.table()]))

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        return {
            "model": self.model.name,
            "record": str(self.record / "run.json"),
            "sarif": str(self.record / "scan.sarif") if self.report else None,
            "scan": self.report.to_json() if self.report else None,
            "error": error_json(self.error) if self.error else None,
        }


async def scan_command(
    where: Path, environ: Mapping[str, str], wish: engines.Engine = engines.Engine.AUTO
) -> list[Scanned]:
    """Scan every model at ``where``, one after the other; a blocked one is in its ``error``.

    Raises:
        PipelineError: before any model was built: configuration, source, engine.
    """
    models = [load(file, environ) for file in find_models(where)]
    source = await read_source(models[0].directory, environ)
    state = state_directory(source.root)
    plans = [make_plan(model, source, state, environ, Push.NEVER) for model in models]
    choice = await engines.choose(wish, environ)
    Console().line(f"{models[0].name if len(models) == 1 else f'{len(models)} models'}   engine: {choice}")
    async with command_session("scan", choice, state, source.root) as events:
        return [await _scanned(plan, state, events, environ) for plan in plans]


async def _scanned(plan: Plan, state: Path, events: Path, environ: Mapping[str, str]) -> Scanned:
    from pipelines.stages.scan_report import ScanReport  # noqa: PLC0415  # the SDK: while the engine starts

    console, model = Console(), plan.model
    run = Run(model.name, new_run_directory(state, model.name), events, tell=console.stage)
    try:
        return Scanned(model, run.directory, await _graph(plan, run, environ))
    except PipelineError as err:
        console.error(err)
        report = err.report if isinstance(err.report, ScanReport) else None
        return Scanned(model, run.directory, report, err)
    finally:
        run.save()


async def _graph(plan: Plan, run: Run, environ: Mapping[str, str]) -> ScanReport:
    """Build, then scan beside the export. Raises BuildFailed, ScanBlocked."""
    from pipelines.documents import with_documents  # noqa: PLC0415  # as above
    from pipelines.parallel import Awaited, together  # noqa: PLC0415
    from pipelines.published import published_source  # noqa: PLC0415
    from pipelines.release_image import BuiltImage  # noqa: PLC0415
    from pipelines.stages.build import build  # noqa: PLC0415
    from pipelines.stages.export import export  # noqa: PLC0415
    from pipelines.stages.scan import scan  # noqa: PLC0415

    image = await run.stage("build", build(plan.model))
    exported = Awaited[BuiltImage]()
    work = scan(image, plan.model, published_source(plan, environ), exported.result)
    report, _ = await together(
        run.stage("scan", with_documents(work, run.directory, plan.model)),
        run.stage("export", exported.of(export(image, plan.layout))),
    )
    return report
