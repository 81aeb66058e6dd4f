"""The ladder of a model without a server: the command runs, what it wrote is compared, its time is kept."""

from __future__ import annotations

import json
from time import monotonic

import anyio
import dagger
from dagger import dag

from pipelines.config import Model
from pipelines.config_batch import Batch
from pipelines.errors import CheckFailed, Place
from pipelines.stages.batch_plan import BatchRun, plan_batch
from pipelines.stages.check_ladder import PLAN, with_programs
from pipelines.stages.check_report import Rung, parse_ladder
from pipelines.stages.engine_errors import tail

PROGRAMS = ("check_batch", "check_body", "check_cases", "check_compare", "check_http", "check_rung")
ACTUAL, EXPECTED = "/modelport/actual", "/modelport/expected"


async def climb_batch(image: dagger.Container, model: Model, batch: Batch) -> tuple[Rung, ...]:
    """Every case's command and files, up to the first command that does not end well.

    Raises:
        CheckFailed: what compares the files could not run.
    """
    runs = await anyio.to_thread.run_sync(plan_batch, model)
    done: list[tuple[BatchRun, Rung]] = []
    slowest = 0.0
    for run in runs:
        began = monotonic()
        output = await _run(image, batch, run)
        slowest = max(slowest, monotonic() - began)
        if isinstance(output, Rung):
            return (output,)
        done.append((run, await _compared(output, model, batch, run)))
    return rungs_of(done, batch, slowest)


async def _run(image: dagger.Container, batch: Batch, run: BatchRun) -> dagger.Directory | Rung:
    """The output directory, or the rung that says why there is none."""
    host = dag.host()
    if run.input.is_dir():
        container = image.with_mounted_directory(batch.input, host.directory(str(run.input)), read_only=True)
    else:
        place = f"{batch.input}/{run.input.name}"
        container = image.with_mounted_file(place, host.file(str(run.input)))
    empty = dag.directory().with_new_directory("output", permissions=0o777).directory("output")
    container = container.with_mounted_directory(batch.output, empty, owner=await image.user() or "")
    places = {"{input}": batch.input, "{output}": batch.output}
    command = [_filled(word, places) for word in batch.command]
    try:
        with anyio.fail_after(batch.within_s):
            return await container.with_exec(command).directory(batch.output).sync()
    except TimeoutError:
        detail = f"{run.name}: the command took more than {batch.within_s:g} s"
        return Rung("budgets", ok=False, detail=detail, facts={"hint": "see `check: batch: within_s:`"})
    except dagger.ExecError as err:
        said = tail(f"{err.stdout}\n{err.stderr}".strip(), 40)
        detail = f"{run.name}: the command ended with exit code {err.exit_code}"
        hint = "the end of what it said stands above; see `check: batch: command:`"
        return Rung("starts", ok=False, detail=detail, log=said, facts={"hint": hint})


def _filled(word: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        word = word.replace(name, place)
    return word


async def _compared(output: dagger.Directory, model: Model, batch: Batch, run: BatchRun) -> Rung:
    plan = {
        "actual": ACTUAL,
        "expected": EXPECTED,
        "tolerance": {path: [one.absolute, one.relative] for path, one in batch.tolerance.items()},
        "ignore": batch.ignore,
        "ignore_files": batch.ignore_files,
    }
    tools = dag.container().from_(model.tools.image)
    tools = with_programs(tools, PROGRAMS, json.dumps(plan, sort_keys=True))
    tools = tools.with_mounted_directory(ACTUAL, output, read_only=True)
    tools = tools.with_mounted_directory(EXPECTED, dag.host().directory(str(run.expected)), read_only=True)
    command = ["python3", "-B", "-m", "pipelines.in_engine.check_batch", PLAN]
    try:
        told = await tools.with_exec(command).stdout()
    except dagger.ExecError as err:
        if (rungs := parse_ladder(err.stdout)) is None:
            raise
        return rungs[0]
    rungs = parse_ladder(told)
    if rungs is None:
        raise CheckFailed(
            "what compares the files said nothing that can be read",
            place=Place(model.file),
            hint="is `tools: image:` an image with Python 3?",
            detail=tail(told),
        )
    return rungs[0]


def rungs_of(done: list[tuple[BatchRun, Rung]], batch: Batch, slowest_s: float) -> tuple[Rung, ...]:
    """The rungs of all cases together."""
    ran = Rung("starts", ok=True, detail="1 batch run" if len(done) == 1 else f"{len(done)} batch runs")
    total = sum(rung.facts["total"] for _, rung in done)
    passed = sum(rung.facts["passed"] for _, rung in done)
    wrong = [(run, rung) for run, rung in done if not rung.ok]
    facts = {"passed": passed, "total": total, "not_asked": 0}
    if not wrong:
        files = Rung("files", ok=True, detail=f"{passed} of {total} output files", facts=facts)
        within = f"each run within {batch.within_s:g} s"
        return (ran, files, Rung("budgets", ok=True, detail=within, seconds=round(slowest_s, 3)))
    failures = [
        {**failure, "name": f"{run.name}/{failure['name']}"}
        for run, rung in wrong
        for failure in rung.facts["failures"]
    ]
    first = failures[0]
    hint = "if the new file is right, put it there; numbers that differ between machines need a `tolerance:`"
    detail = f"{first['name']}: {first['messages'][0]} ({passed} of {total} output files are as expected)"
    return (ran, Rung("files", ok=False, detail=detail, facts={**facts, "failures": failures, "hint": hint}))
