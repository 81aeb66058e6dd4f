"""The graph: build → check ‖ scan ‖ inventory → tag → push → record, for one model. Preflight came before."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipelines.documents import with_documents
from pipelines.git_history import GitHistory
from pipelines.parallel import Awaited, together
from pipelines.plan import Plan
from pipelines.published import published_source
from pipelines.push_journal import Journal
from pipelines.record import Run
from pipelines.release_image import BuiltImage
from pipelines.stages.attest import attest
from pipelines.stages.build import build
from pipelines.stages.check import check
from pipelines.stages.export import export
from pipelines.stages.inventory import inventory
from pipelines.stages.push import push
from pipelines.stages.scan import scan

if TYPE_CHECKING:
    from pipelines.receipt import Receipt

T = TypeVar("T")


async def release(plan: Plan, run: Run, state: Path, environ: Mapping[str, str]) -> Receipt | None:
    """Take one model from its commit to its registries.

    Nothing is named before the image was built, checked, scanned and inventoried. Its export is no name, and
    goes on beside the gates. Returns None when the commit is not one that is pushed.

    Raises:
        PipelineError: of the stage that failed; the other gates still ran to their end.
    """
    model = plan.model
    image = await run.stage("build", build(model))
    published, exported = published_source(plan, environ), Awaited[BuiltImage]()

    async def gate(name: str, work: Awaitable[T]) -> T:
        return await run.stage(name, with_documents(work, run.directory, model))

    checked, scanned, listed, built = await together(
        gate("check", check(image, model, published, exported.result)),
        gate("scan", scan(image, model, published, exported.result)),
        gate("inventory", inventory(image, model, plan.source, published)),
        run.stage("export", exported.of(export(image, plan.layout))),
    )
    with run.recorded("tag"):
        release_image = built.release(plan.names, plan.source.committed_at)
    with run.recorded("attest") as stage:
        statements = attest(release_image, checked, scanned, listed, model)
        stage.result = {"referrers": [one.digest for one in statements]}
    if plan.held_back:
        with run.recorded("push") as stage:
            stage.status, stage.summary = "skipped", plan.held_back
        return None
    work = push(
        release_image,
        plan.names,
        plan.targets,
        referrers=statements,
        enough=plan.enough,
        journal=Journal.open(state, model.name),
        history=GitHistory(plan.source.root, environ),
    )
    return await run.stage("push", work)
