"""The ladder of a model with a server: one exec of the check's client, with the model as its service."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import anyio
import dagger
from dagger import dag

from pipelines.config import Model
from pipelines.errors import CheckFailed, Place
from pipelines.in_engine.check_http import ENDED
from pipelines.stages.check_plan import HOST, CheckPlan
from pipelines.stages.check_planned import FILES, as_pattern
from pipelines.stages.check_quality import quality_rung
from pipelines.stages.check_report import Rung, parse_ladder
from pipelines.stages.check_rungs import HOOKS, NONE, Judging
from pipelines.stages.engine_errors import tail

PROGRAM_DIRECTORY = "/modelport/programs"
PLAN = "/modelport/programs/plan.json"
ENGINE_S = 120.0
"""What the engine itself may take beside the client: containers to make, images to fetch."""
STOP_LIMIT_S = 15.0
ALWAYS = ("starts", "healthy")
"""The rungs that every exec of the client begins with."""
AFTER_QUALITY = ("budgets", "abuse")


async def climb(plan: CheckPlan, judging: Judging, *, fresh: str = "") -> tuple[Rung, ...]:
    """The rungs up to the first that does not hold. With ``fresh`` no kept answer is taken.

    Raises:
        ConfigError: the data of the quality rung can't be read.
        CheckFailed: the client could not run.
    """
    service = await _service(judging)
    try:
        rungs = await _climbed(plan, judging, service, fresh)
    finally:
        await _stop(service)
    return tuple([await _judged(rung, judging) for rung in rungs])


async def _climbed(
    plan: CheckPlan, judging: Judging, service: dagger.Service, fresh: str
) -> tuple[Rung, ...]:
    """Two execs of the client with the quality rung between them: what it asks changes for other reasons."""
    model = judging.model
    rungs = await _asked(plan.first, model, service, fresh)
    if all(rung.ok for rung in rungs) and plan.quality:
        rungs += (await quality_rung(service, model, judging.published, judging.exported),)
    if all(rung.ok for rung in rungs) and plan.later.climbed:
        later = await _asked(plan.later, model, service, fresh)
        rungs += later[len(ALWAYS) :] or later[-1:]
    return rungs


async def _asked(plan: CheckPlan, model: Model, service: dagger.Service, fresh: str) -> tuple[Rung, ...]:
    client = client_of(model, plan).with_service_binding(HOST, service)
    if fresh:
        client = client.with_env_variable("CHECK_FRESH", fresh)
    try:
        with anyio.fail_after(plan.longest_s + ENGINE_S):
            told = await client.with_exec(
                ["python3", "-B", "-m", "pipelines.in_engine.check_client", PLAN]
            ).stdout()
    except TimeoutError:
        limit = f"{plan.longest_s + ENGINE_S:.0f} s"
        return (Rung("starts", ok=False, detail=f"the check gave no result within {limit}"),)
    except dagger.ExecError as err:
        rungs = parse_ladder(err.stdout)
        if not rungs:
            return (not_started(err, model),)
        if not _ended(err):
            return rungs
        served = rungs[-1].name not in ALWAYS
        return (*rungs[:-1], _with_the_end(rungs[-1], err)) if served else (_never_served(err),)
    except dagger.QueryError as err:
        if (ended := ended_by_itself(err)) is None:
            raise
        return (ended,)
    rungs = parse_ladder(told)
    if rungs is None:
        raise _not_the_client(model, "the check's client said nothing that can be read", tail(told))
    return rungs


async def _judged(rung: Rung, judging: Judging) -> Rung:
    judge = HOOKS.get(rung.name, NONE).judge
    return await judge(rung, judging) if judge else rung


async def _service(judging: Judging) -> dagger.Service:
    """The model as it starts by itself. The client waits for its port: an engine would for a time of its own.

    That is ``start_timeout_s``, whatever the engine; where the process ends before, the embedded engine ends
    the client too, with what the model said.
    """
    served = judging.image
    for hooks in HOOKS.values():
        if hooks.serve is not None:
            served = await hooks.serve(served, judging)
    served = served.with_exposed_port(judging.model.check.port, experimental_skip_healthcheck=True)
    return served.as_service(use_entrypoint=True)


async def _stop(service: dagger.Service) -> None:
    """End the model now: its memory is wanted for what comes next, and not every server minds SIGTERM."""
    with anyio.move_on_after(STOP_LIMIT_S, shield=True), suppress(dagger.QueryError, dagger.TransportError):
        await service.stop(kill=True)


def client_of(model: Model, plan: CheckPlan) -> dagger.Container:
    """The tools container with the client, its plan and its files."""
    tools = with_programs(dag.container().from_(model.tools.image), plan.programs, plan.to_client())
    if plan.files:
        files = dag.host().directory(str(plan.directory), include=[as_pattern(name) for name in plan.files])
        tools = tools.with_mounted_directory(FILES, files, read_only=True)
    return tools


def with_programs(tools: dagger.Container, names: tuple[str, ...], plan: str) -> dagger.Container:
    """``tools`` with these modules of ``pipelines.in_engine`` and their plan, where they are run."""
    programs = dag.directory().with_new_file(Path(PLAN).name, plan)
    for name in names:
        programs = programs.with_new_file(f"pipelines/in_engine/{name}.py", _program_text(name))
    tools = tools.with_mounted_directory(PROGRAM_DIRECTORY, programs, read_only=True)
    return tools.with_workdir(PROGRAM_DIRECTORY)


def ended_by_itself(err: dagger.QueryError) -> Rung | None:
    """The rung for how Dagger's engine tells that the model's process ended; None for any other error.

    It ends the client then and there, without a word of what the process said.
    """
    found = re.search(r"service \S+ .*exited: exit code: (\d+)", str(err))
    if found is None:
        return None
    detail = f"the model ended with exit code {found[1]} instead of serving"
    return Rung("starts", ok=False, detail=detail)


def not_started(err: dagger.ExecError, model: Model) -> Rung:
    """The rung for an error that is not the client's: the service ended, or never opened its port.

    Raises:
        CheckFailed: it was the client itself that could not run.
    """
    log = tail(err.stderr or err.stdout, 40)
    if "check_client" in " ".join(err.command) and not _ended(err):
        message = f"the check's client ended with exit code {err.exit_code}"
        raise _not_the_client(model, message, log) from err
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


def _ended(err: dagger.ExecError) -> bool:
    """Whether it was the model that ended."""
    return re.search(r"service \S+ exited", err.message) is not None


def _never_served(err: dagger.ExecError) -> Rung:
    detail = f"the model ended with exit code {err.exit_code} instead of serving"
    return Rung("starts", ok=False, detail=detail, log=tail(err.stderr, 40))


def _with_the_end(rung: Rung, err: dagger.ExecError) -> Rung:
    """The rung in which the model ended: what was asked then, its exit code, and the end of its log."""
    end = f"the model ended during the check, with exit code {err.exit_code}"
    failures = [dict(one) for one in rung.facts.get("failures") or []]
    if failures:
        first, *more = failures[0]["messages"]
        failures[0]["messages"] = [_ended_with(first, end), *more]
    facts = {**rung.facts, "failures": failures}
    return replace(rung, detail=_ended_with(rung.detail, end), facts=facts, log=tail(err.stderr, 40))


def _ended_with(text: str, end: str) -> str:
    """``text`` with how the model ended, once: the client may have told that it did."""
    return text.replace(ENDED, end) if ENDED in text else f"{text}; {end}"


def _not_the_client(model: Model, message: str, detail: str) -> CheckFailed:
    hint = "is `tools: image:` an image with Python 3?"
    return CheckFailed(message, place=Place(model.file), hint=hint, detail=detail)


@cache
def _program_text(name: str) -> str:
    return (Path(__file__).parent.parent / "in_engine" / f"{name}.py").read_text("utf-8")
