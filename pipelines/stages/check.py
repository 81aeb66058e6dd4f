"""The check stage: does the model work? A ladder of rungs against the built image (design, section 6).

Starts, healthy, golden cases, quality: one exec of a small client with the model as its service, so an image
that was checked before is answered from the engine's cache. The unit tests run beside it, in the image.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from pathlib import Path

import anyio
import dagger
from dagger import dag

from pipelines.config import Model
from pipelines.errors import CheckFailed, Place
from pipelines.parallel import together
from pipelines.stages.check_plan import FILES, HOST, CheckPlan, as_pattern, plan_check
from pipelines.stages.check_report import CheckReport, Rung, check_failed, parse_ladder
from pipelines.stages.engine_errors import engine_errors, tail
from pipelines.stages.unit_tests import unit_rung

PROGRAMS = ("check_cases", "check_client", "check_compare", "check_http", "check_metrics")
PROGRAM_DIRECTORY = "/modelport/programs"
PLAN = "/modelport/programs/plan.json"
ENGINE_WAITS_S = 120.0
"""How long an engine waits for a service's port; where a model may take longer, the client waits."""
STOP_LIMIT_S = 15.0


async def check(image: dagger.Container, model: Model) -> CheckReport:
    """Climb the ladder against ``image``.

    Raises:
        ConfigError: a file that the check names is wrong; with its line.
        CheckFailed: a rung does not hold; its ``report`` says everything that was found out.
    """
    plan = await anyio.to_thread.run_sync(plan_check, model)
    ladder: list[Rung] = []
    unit: list[Rung] = []

    async def climb() -> None:
        with engine_errors(CheckFailed, f"checking {model.name}"):
            ladder.extend(await _climb(image, model, plan))

    async def run_unit_tests() -> None:
        if model.check.unit is not None:
            with engine_errors(CheckFailed, f"running the unit tests of {model.name}"):
                unit.append(await unit_rung(image, model, model.check.unit))

    await together(climb(), run_unit_tests())
    report = CheckReport((*ladder[:2], *unit, *ladder[2:]))
    if report.failed:
        raise check_failed(report, model)
    return report


async def _climb(image: dagger.Container, model: Model, plan: CheckPlan) -> tuple[Rung, ...]:
    service = _service(image, plan)
    client = _client(model, plan).with_service_binding(HOST, service)
    climb = client.with_exec(["python3", "-B", "-m", "pipelines.in_engine.check_client", PLAN])
    limit_s = plan.longest_s + ENGINE_WAITS_S
    try:
        with anyio.fail_after(limit_s):
            told = await climb.stdout()
    except TimeoutError:
        limit = f"{limit_s:.0f} s"
        return (
            Rung("starts", ok=False, detail=f"the model gave no result within {limit}: did its port open?"),
        )
    except dagger.ExecError as err:
        rungs = parse_ladder(err.stdout)
        return rungs if rungs is not None else (not_started(err, model),)
    finally:
        await _stop(service)
    rungs = parse_ladder(told)
    if rungs is None:
        raise CheckFailed(
            "the check's client said nothing that can be read",
            place=Place(model.file),
            hint="is `tools: image:` an image with Python 3?",
            detail=tail(told),
        )
    return rungs


def _service(image: dagger.Container, plan: CheckPlan) -> dagger.Service:
    slow = plan.check.start_timeout_s > ENGINE_WAITS_S
    served = image.with_exposed_port(plan.check.port, experimental_skip_healthcheck=slow)
    return served.as_service(use_entrypoint=True)


async def _stop(service: dagger.Service) -> None:
    """End the model now: its memory is wanted for what comes next, and not every server minds SIGTERM."""
    with anyio.move_on_after(STOP_LIMIT_S, shield=True), suppress(dagger.QueryError, dagger.TransportError):
        await service.stop(kill=True)


def _client(model: Model, plan: CheckPlan) -> dagger.Container:
    """The tools container with the client, its plan and its files."""
    programs = dag.directory().with_new_file(Path(PLAN).name, plan.to_client())
    for name in PROGRAMS:
        programs = programs.with_new_file(f"pipelines/in_engine/{name}.py", _program_text(name))
    tools = dag.container().from_(model.tools.image)
    tools = tools.with_mounted_directory(PROGRAM_DIRECTORY, programs, read_only=True)
    if plan.files:
        files = dag.host().directory(str(plan.directory), include=[as_pattern(name) for name in plan.files])
        tools = tools.with_mounted_directory(FILES, files, read_only=True)
    return tools.with_workdir(PROGRAM_DIRECTORY)


def not_started(err: dagger.ExecError, model: Model) -> Rung:
    """The rung for an error that is not the client's: the service ended, or never opened its port.

    Raises:
        CheckFailed: it was the client itself that could not run.
    """
    log = tail(err.stderr or err.stdout, 40)
    ended = re.search(r"service \S+ exited", err.message)
    if "check_client" in " ".join(err.command) and not ended:
        raise CheckFailed(
            f"the check's client ended with exit code {err.exit_code}",
            place=Place(model.file),
            hint="is `tools: image:` an image with Python 3?",
            detail=log,
        ) from err
    if "check_client" in " ".join(err.command):
        return Rung(
            "starts",
            ok=False,
            detail=f"the model ended during the check, with exit code {err.exit_code}",
            log=log,
        )
    command = f" (`{' '.join(err.command)[:120]}`)" if err.command else ""
    if err.exit_code < 0:
        detail = f"the model did not open port {model.check.port}{command}"
    else:
        detail = f"the model ended with exit code {err.exit_code} instead of serving{command}"
    return Rung("starts", ok=False, detail=detail, log=log)


@cache
def _program_text(name: str) -> str:
    return (Path(__file__).parent.parent / "in_engine" / f"{name}.py").read_text("utf-8")
