"""The graph: build → check ‖ scan ‖ inventory → tag → push → record, for one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.parallel import together
from pipelines.plan import Plan
from pipelines.record import Run
from pipelines.stages.build import build
from pipelines.stages.check import check
from pipelines.stages.export import export
from pipelines.stages.inventory import inventory
from pipelines.stages.push import push
from pipelines.stages.scan import scan

if TYPE_CHECKING:
    from pipelines.receipt import Receipt


async def release(plan: Plan, run: Run) -> Receipt | None:
    """Take one model from its commit to its registries.

    Nothing is named before the image was built, checked, scanned and inventoried. Returns None when the
    commit is not one that is pushed.

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
