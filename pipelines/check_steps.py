"""The stages of ``modelport check``, in an open engine session."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import dagger

from pipelines.config import Model
from pipelines.documents import with_documents
from pipelines.errors import CheckFailed, PipelineError, Place
from pipelines.golden_update import Update, update_of
from pipelines.plan import Push, make_plan
from pipelines.published import CouldNotTell, Published, find_published, once
from pipelines.record import Run
from pipelines.registries.layout import ImageLayout
from pipelines.release_image import BuiltImage
from pipelines.source import read_source
from pipelines.stages.build import build
from pipelines.stages.check import check
from pipelines.stages.check_failures import check_failed
from pipelines.stages.check_golden import plan_golden
from pipelines.stages.check_ladder import climb
from pipelines.stages.check_plan import CheckPlan
from pipelines.stages.check_report import CheckReport
from pipelines.stages.check_rungs import Judging
from pipelines.stages.engine_errors import engine_errors
from pipelines.stages.export import export


@dataclass(frozen=True, slots=True)
class Steps:
    """Of one model."""

    model: Model
    run: Run
    state: Path
    environ: Mapping[str, str] = field(repr=False)

    async def whole(self) -> CheckReport:
        """The whole ladder, as a run climbs it. Raises CheckFailed, BuildFailed."""
        image = await self._built()
        judging = self._judging(image)
        return await self._reported(check(image, self.model, judging.published, judging.exported))

    async def one_case(self, lines: tuple[int, ...]) -> CheckReport:
        """Starts, healthy and the golden cases of these lines. Raises CheckFailed, BuildFailed."""
        judging = self._judging(await self._built())

        async def ask() -> CheckReport:
            report = await self._climbed(judging, lines, record=False)
            if report.failed:
                raise check_failed(report, self.model)
            return report

        return await self._reported(ask())

    async def updated(self, lines: tuple[int, ...], tell: Callable[[str], None]) -> Update:
        """The golden file with the answers of now (of all cases, or those of these lines), told and written.

        Raises:
            CheckFailed: the model does not start, or the file changed meanwhile.
            ConfigError: the file can't be written.
        """
        judging = self._judging(await self._built())
        with self.run.recorded("record") as stage:
            report = await self._climbed(judging, lines, record=True)
            if report.failed:
                raise check_failed(report, self.model)
            changed = report.rungs[-1].facts["changed"]
            update = await anyio.to_thread.run_sync(update_of, self.model, changed)
            if update.updated:
                tell(update.difference())
                await anyio.to_thread.run_sync(update.write)
            stage.summary = f"{len(update.updated)} recorded, {len(update.refused)} not recorded"
        return update

    async def _climbed(self, judging: Judging, lines: tuple[int, ...], *, record: bool) -> CheckReport:
        model = self.model
        planned = await anyio.to_thread.run_sync(lambda: plan_golden(model, lines, record=record))
        if planned is None:
            raise CheckFailed(
                "there are no golden cases", place=Place(model.file), hint="see `check: golden:`"
            )
        plan = CheckPlan(model.check, model.directory, (planned,), (planned.key,))
        with engine_errors(CheckFailed, f"checking {model.name}"):
            rungs = await climb(plan, judging, fresh=str(time.time_ns()) if record else "")
        return CheckReport(rungs)

    async def _built(self) -> dagger.Container:
        return await self.run.stage("build", build(self.model))

    async def _reported(self, work: Awaitable[CheckReport]) -> CheckReport:
        """The stage, with junit.xml of what was found out, whether it passed or not."""
        return await self.run.stage("check", with_documents(work, self.run.directory, self.model))

    def _judging(self, image: dagger.Container) -> Judging:
        return Judging(self.model, image, once(self._published), lambda: self._exported(image))

    async def _published(self) -> Published | None:
        """Raises CouldNotTell, also where there is no Git repository to plan with."""
        try:
            source = await read_source(self.model.directory, self.environ)
            plan = make_plan(self.model, source, self.state, self.environ, Push.NEVER)
        except PipelineError as err:
            raise CouldNotTell(str(err)) from err
        return await find_published(plan, self.model.check.published, self.environ)

    async def _exported(self, image: dagger.Container) -> BuiltImage:
        directory = self.state / "images" / self.model.name
        return await export(image, ImageLayout.create(directory))
