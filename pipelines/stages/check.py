"""The check stage: does the model work? A ladder of rungs against the built image (design, section 6).

Starts, healthy, schema, golden cases, quality, budgets, abuse: one exec of a small client with the model as
its service, so an image that was checked before is answered from the engine's cache. The unit tests and the
GPU's command run beside it, in the image. A model without a server makes files out of files instead.
"""

from __future__ import annotations

import anyio
import dagger

from pipelines.config import Model
from pipelines.errors import CheckFailed
from pipelines.parallel import together
from pipelines.published import PublishedSource, nothing_published
from pipelines.stages.batch import climb_batch
from pipelines.stages.check_failures import check_failed
from pipelines.stages.check_ladder import climb
from pipelines.stages.check_plan import plan_check
from pipelines.stages.check_report import CheckReport, Rung
from pipelines.stages.check_rungs import Exported, Judging, not_exported
from pipelines.stages.engine_errors import engine_errors
from pipelines.stages.gpu import gpu_rung
from pipelines.stages.unit_tests import unit_rung

FIRST = ("starts", "healthy")
"""What stands before the unit tests in a report; they run beside the whole ladder."""


async def check(
    image: dagger.Container,
    model: Model,
    published: PublishedSource = nothing_published,
    exported: Exported = not_exported,
) -> CheckReport:
    """Climb the ladder against ``image``.

    ``published`` and ``exported`` are asked only if the configuration compares or weighs.

    Raises:
        ConfigError: a file that the check names is wrong; with its line.
        CheckFailed: a rung does not hold; its ``report`` says everything that was found out.
    """
    judging = Judging(model, image, published, exported)
    ladder, (unit, gpu) = await together(_ladder(judging), together(_unit(judging), _gpu(judging)))
    first = tuple(rung for rung in ladder if rung.name in FIRST)
    report = CheckReport((*first, *unit, *gpu, *ladder[len(first) :]))
    if report.failed:
        raise check_failed(report, model)
    return report


async def _ladder(judging: Judging) -> tuple[Rung, ...]:
    model = judging.model
    plan = await anyio.to_thread.run_sync(plan_check, model)
    with engine_errors(CheckFailed, f"checking {model.name}"):
        if model.check.batch is not None:
            return await climb_batch(judging.image, model, model.check.batch)
        return await climb(plan, judging)


async def _unit(judging: Judging) -> tuple[Rung, ...]:
    model = judging.model
    if model.check.unit is None:
        return ()
    with engine_errors(CheckFailed, f"running the unit tests of {model.name}"):
        return (await unit_rung(judging.image, model, model.check.unit),)


async def _gpu(judging: Judging) -> tuple[Rung, ...]:
    model = judging.model
    if model.check.gpu is None:
        return ()
    with engine_errors(CheckFailed, f"running {model.name} on a GPU"):
        return (await gpu_rung(judging.image, model, model.check.gpu),)
