"""The graph: build → check ‖ scan ‖ inventory → tag → push → record. One model, from its commit to its registries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.config import Model
from pipelines.parallel import together
from pipelines.record import Run
from pipelines.source import SourceRevision
from pipelines.stages.build import build
from pipelines.stages.check import check
from pipelines.stages.export import export
from pipelines.stages.inventory import inventory
from pipelines.stages.push import push
from pipelines.stages.scan import scan
from pipelines.stages.tag import Names

if TYPE_CHECKING:
    from pipelines.registries.layout import ImageLayout
    from pipelines.registries.port import Registry
    from pipelines.stages.push import Receipt


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do, decided before anything is built."""

    model: Model
    source: SourceRevision
    names: Names
    layout: ImageLayout
    targets: tuple[Registry, ...]
    held_back: str = ""
    """Why this commit is built, checked and scanned, but not pushed; "" when it is pushed."""


async def release(plan: Plan, run: Run) -> Receipt | None:
    """Take one model from its commit to its registries.

    Nothing is named before the image was built, checked, scanned and inventoried. Returns None when the commit is not
    one that is pushed.

    Raises:
        PipelineError: of the stage that failed; the other gates still ran to their end.
    """
    model = plan.model
    image = await run.stage("build", build(model))
    await together(
        run.stage("check", check(image, model)),
        run.stage("scan", scan(image, model)),
        run.stage("inventory", inventory(image, model, plan.source)),
    )
    if plan.held_back:
        with run.recorded("push") as stage:
            stage.status, stage.summary = "skipped", plan.held_back
        return None
    built = await run.stage("export", export(image, plan.layout))
    with run.recorded("tag"):
        release_image = built.release(plan.names, plan.source.committed_at)
    return await run.stage("push", push(release_image, plan.names, plan.targets))
