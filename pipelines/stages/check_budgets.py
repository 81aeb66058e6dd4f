"""The rung "budgets" on the pipeline's side: what measures beside the model, and the limits.

Only measuring is the engine's work, so a changed limit re-runs nothing. A figure above its limit is measured
once more, never from the cache, and the better one counts: a busy machine alone stops no release.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipelines.budget_judgement import UNITS, better, judge_figures, recorded_figures, rounded
from pipelines.config import Model
from pipelines.config_budgets import Budgets
from pipelines.errors import CheckFailed
from pipelines.published import CouldNotTell
from pipelines.stages.check_planned import Planned
from pipelines.stages.check_samples import PROGRAMS as SAMPLES_PROGRAMS
from pipelines.stages.check_samples import SAMPLES
from pipelines.values import JSON

if TYPE_CHECKING:
    import dagger

    from pipelines.stages.check_report import Rung
    from pipelines.stages.check_rungs import Judging

PROGRAMS: Final = ("check_load", *SAMPLES_PROGRAMS)
RUNNER: Final = "/modelport/measured.py"
RUNNER_PORT: Final = 47808
FROM_CLIENT: Final = ("cold_start_s", "p50_ms", "p95_ms", "memory_mb")
FROM_RUNNER: Final = ("cold_start_s", "memory_mb")
_PLACES: Final = ("/usr/local/bin", "/usr/bin", "/bin")


def plan_budgets(model: Model) -> Planned | None:
    """The rung's plan; the limits are no part of it."""
    budgets = model.check.budgets
    if budgets is None:
        return None
    figures = [name for name in budgets.wanted if name in FROM_CLIENT]
    load = budgets.load
    section: dict[str, JSON] = {
        **load.model_dump(mode="json"),
        "figures": list(figures),
        "runner_port": RUNNER_PORT,
    }
    longest_s = load.seconds + (load.warmup + load.concurrency + 1) * model.check.request_timeout_s
    return Planned(key="load", section=section, programs=PROGRAMS, longest_s=longest_s, needs=SAMPLES)


async def with_runner(container: dagger.Container, judging: Judging) -> dagger.Container:
    """``container`` whose command is started by the program that measures it, if it has a Python for that.

    It stays as it is where nothing is wanted that only that program sees, or where it has no Python 3.
    """
    budgets = judging.model.check.budgets
    if budgets is None or not any(name in FROM_RUNNER for name in budgets.wanted):
        return container
    python = await find_python(container)
    if not python:
        return container
    check = judging.model.check
    own = await container.entrypoint()
    program = (Path(__file__).parent.parent / "in_engine" / "measured.py").read_text("utf-8")
    from dagger import dag  # noqa: PLC0415  # a plan is made without the SDK

    source = dag.directory().with_new_file("measured.py", program).file("measured.py")
    start = [python, "-B", "-I", RUNNER, str(RUNNER_PORT), str(check.port), check.health, "--", *own]
    return container.with_mounted_file(RUNNER, source).with_entrypoint(start, keep_default_args=True)


async def find_python(container: dagger.Container) -> str:
    """Where the image has Python 3; "" if it has none on its PATH."""
    path = await container.env_variable("PATH") or ":".join(_PLACES)
    for directory in dict.fromkeys(path.split(":")):
        if directory.startswith("/") and await container.exists(f"{directory}/python3"):
            return f"{directory}/python3"
    return ""


async def judge_budgets(rung: Rung, judging: Judging) -> Rung:
    """The rung by its limits. What can't be measured fails it, unless the configuration lets that pass."""
    budgets = judging.model.check.budgets
    if budgets is None or rung.facts.get("again") or not rung.ok:
        return rung
    published, why = await _published(judging, budgets)
    figures: dict[str, float] = dict(rung.facts["figures"])
    missing: dict[str, str] = dict(rung.facts["not_measured"])
    notes = []
    if "image_mb" in budgets.wanted:
        try:
            figures["image_mb"] = (await judging.exported()).size / 1e6
        except CheckFailed as err:
            notes.append(f"image: {err}")
            budgets = _without_the_image(budgets)
    judged = judge_figures(budgets, figures, missing, published)
    again = [name for name in judged.over if name in FROM_CLIENT]
    if again:
        figures = better(figures, await _measured_again(rung, judging))
        judged = judge_figures(budgets, figures, missing, published)
    notes += [f"measured twice: {', '.join(UNITS[name][0] for name in again)}"] if again else []
    notes += [f"the published version's figures are not known: {why}"] if why else []
    problems = list(judged.over.values())
    problems += judged.unknown.values() if budgets.could_not_measure == "fail" else []
    if why and budgets.worse_than_published and budgets.could_not_measure == "fail":
        problems.append(notes[-1])
    facts = {
        **{key: fact for key, fact in rung.facts.items() if key not in ("file", "failures")},
        "figures": figures,
        "recorded": {name: f"{rounded(value):g}" for name, value in figures.items()},
        "published": published,
        "limits": dict(budgets.limits),
        "notes": notes,
    }
    if not problems:
        return replace(rung, detail=" · ".join([judged.detail, *notes]), facts=facts)
    return replace(
        rung, ok=False, detail="; ".join(problems), facts={**facts, "hint": _hint(judged.over, rung)}
    )


def _without_the_image(budgets: Budgets) -> Budgets:
    """For who exports none: that is no failure to measure, and `modelport run` weighs it."""
    trends = {name: most for name, most in budgets.worse_than_published.items() if name != "image_mb"}
    return budgets.model_copy(update={"image_mb": None, "worse_than_published": trends})


def _hint(over: Mapping[Any, str], rung: Rung) -> str:
    if not over:
        return "`check: budgets: could_not_measure: warn` lets a limit pass whose figure can't be measured"
    load = rung.facts.get("load")
    under = (
        f" (measured under {load['requests']} requests, {load['concurrency']} at once)"
        if load and any(name in over for name in ("p50_ms", "p95_ms"))
        else ""
    )
    return f"the limits stand in modelport.yaml under `check: budgets:`{under}"


async def _published(judging: Judging, budgets: Budgets) -> tuple[dict[str, float], str]:
    """The recorded figures of the published version; and why they are not known, "" if there is none."""
    try:
        published = await judging.published()
    except CouldNotTell as err:
        return {}, str(err)
    if published is None:
        return {}, ""
    found = recorded_figures(published.facts("check").get("budgets"))
    if "image_mb" in budgets.wanted:
        found["image_mb"] = rounded(published.size / 1e6)
    return found, ""


async def _measured_again(rung: Rung, judging: Judging) -> dict[str, float]:
    """The figures of one more run of the load, which no cache answers."""
    # both import the hooks, and they this module
    from pipelines.stages.check_ladder import climb  # noqa: PLC0415
    from pipelines.stages.check_plan import CheckPlan  # noqa: PLC0415

    plan = CheckPlan.of(judging.model).only("load")
    rungs = tuple(
        replace(one, section={**one.section, "again": True}) if one.key == "load" else one
        for one in plan.rungs
    )
    for found in await climb(replace(plan, rungs=rungs), judging, fresh=str(time.time_ns())):
        if found.name == "budgets" and found.ok:
            return dict(found.facts["figures"])
    return {}
