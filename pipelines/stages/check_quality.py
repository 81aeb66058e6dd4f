"""The rung "quality": the model's answers to the data, what they are worth, and beside the published version.

The model is asked in one exec, whose key holds the requests and nothing of what would be right: the engine's
cache answers for an image and data that it knows. The published version answers the same program, after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any, Final

import anyio
import dagger
from anyio import to_thread
from dagger import dag

from pipelines.config import Model
from pipelines.errors import CheckFailed, PipelineError
from pipelines.in_engine.check_metrics import UndefinedMetricError, same
from pipelines.published import CouldNotTell, Published, PublishedSource
from pipelines.published_image import container
from pipelines.quality_data import not_fit
from pipelines.quality_judgement import Decision, Given, decide, measure, recorded, told
from pipelines.quality_metrics import MetricProblem
from pipelines.quality_plan import QualityPlan, plan_quality
from pipelines.quality_table import Answers
from pipelines.stages.check_planned import FILES, as_pattern
from pipelines.stages.check_report import Rung
from pipelines.stages.check_rungs import Exported, not_exported
from pipelines.stages.engine_errors import engine_errors, tail

PROGRAM: Final = "check_quality"
PROGRAMS: Final = (
    PROGRAM,
    "check_body",
    "check_cases",
    "check_compare",
    "check_http",
    "check_ready",
    "check_rung",
)
DIRECTORY: Final = "/modelport/programs"
REQUESTS: Final = "/modelport/requests"
HOST: Final = "model"
ENGINE_S: Final = 120.0
STOP_LIMIT_S: Final = 15.0
_SHOWN: Final = 20
_NO_ANSWERS_HINT: Final = (
    "every row needs an answer with a prediction: see `check: quality: answer:` and the model's log"
)


class NoAnswers(Exception):
    """A version has no prediction for some rows; ``failures`` has the first of them."""

    def __init__(self, message: str, failures: Sequence[Mapping[str, Any]] = (), log: str = "") -> None:
        super().__init__(message)
        self.failures = list(failures)
        self.log = log


@dataclass(frozen=True, slots=True)
class Answered:
    """What the two versions said. ``published`` is None where nothing is compared."""

    own: list[Any]  # Any: predictions, as JSON has them
    before: list[Any] | None = None
    published: Published | None = None
    nothing_published: bool = False


@dataclass(frozen=True, slots=True)
class Other:
    """The published version, and the built image as it will be pushed."""

    published: PublishedSource
    exported: Exported

    async def is_the_same(self, found: Published) -> bool:
        """Whether ``found`` is what was built now. Where nothing is exported nobody knows."""
        try:
            return found.holds(await self.exported())
        except PipelineError:  # the export's own stage tells it
            return False


async def quality_rung(
    service: dagger.Service,
    model: Model,
    published: PublishedSource,
    exported: Exported = not_exported,
) -> Rung:
    """Ask ``service``, the running model; with ``no_worse_than`` the published version too, and judge.

    A published version that is the image which is ``exported`` now needs no run: it would answer the same.

    Raises:
        ConfigError: the data can't be read, with the place.
        CheckFailed: the engine failed.
    """
    plan = await to_thread.run_sync(plan_quality, model)
    start = monotonic()
    with engine_errors(CheckFailed, f"asking {model.name} for its quality"):
        rung = await _rung(service, plan, Other(published, exported))
    return Rung(rung.name, rung.ok, rung.detail, round(monotonic() - start, 3), rung.facts, rung.log)


async def _rung(service: dagger.Service, plan: QualityPlan, other: Other) -> Rung:
    quality = plan.quality
    base: dict[str, Any] = {
        "metric": quality.metric,
        "rows": len(plan.data.rows),
        "at_least": quality.at_least,
        "at_most": quality.at_most,
        "value": None,
        "file": quality.data,
    }
    try:
        own = await _answers(service, plan)
    except NoAnswers as err:
        facts = {**base, **_first_place(err.failures), "hint": _NO_ANSWERS_HINT}
        detail = f"{quality.metric} not known: {err}"
        return Rung("quality", ok=False, detail=detail, facts=facts, log=err.log)
    try:
        answered = await _compared(own, plan, other)
    except (CouldNotTell, NoAnswers) as err:
        detail = f"{quality.metric} can't be compared with the published version: {err}"
        hint = "make it answer, or leave out `check: quality: no_worse_than:`, which asks for it"
        failures = {"failures": err.failures} if isinstance(err, NoAnswers) else {}
        return Rung("quality", ok=False, detail=detail, facts={**base, **failures, "hint": hint})
    try:
        return await to_thread.run_sync(_judged, plan, answered)
    except (MetricProblem, UndefinedMetricError) as err:
        facts = {**base, "hint": getattr(err, "hint", "")}
        return Rung("quality", ok=False, detail=str(err), facts=facts)


async def _compared(own: list[Any], plan: QualityPlan, other: Other) -> Answered:
    """With what the published version says. Raises CouldNotTell, NoAnswers."""
    if plan.quality.no_worse_than is None:
        return Answered(own)
    found = await other.published()
    if found is None:
        return Answered(own, nothing_published=True)
    if await other.is_the_same(found):
        return Answered(own, own, found)
    key = plan.key(found.manifest.digest, _programs_text())
    before = plan.memo.recall(key)
    if before is None:
        before = await _asked(found, plan)
        plan.memo.remember(key, before)
    return Answered(own, before, found)


async def _asked(published: Published, plan: QualityPlan) -> list[Any]:
    """The published version's answers. Raises CouldNotTell, NoAnswers."""
    image = await container(published)
    served = image.with_exposed_port(plan.model.check.port, experimental_skip_healthcheck=True)
    service = served.as_service(use_entrypoint=True)
    try:
        return await _answers(service, plan)
    finally:
        with anyio.move_on_after(STOP_LIMIT_S, shield=True):
            with suppress(dagger.QueryError, dagger.TransportError):
                await service.stop(kill=True)


async def _answers(service: dagger.Service, plan: QualityPlan) -> list[Any]:
    """One version's predictions, row by row. Raises NoAnswers."""
    client = _client(plan).with_service_binding(HOST, service)
    asking = client.with_exec(
        ["python3", "-B", "-m", f"pipelines.in_engine.{PROGRAM}", f"{DIRECTORY}/plan.json"]
    )
    limit_s = plan.longest_s + ENGINE_S
    try:
        with anyio.fail_after(limit_s):
            said = await asking.stdout()
    except TimeoutError:
        raise NoAnswers(f"there was no result within {limit_s:.0f} s") from None
    except dagger.ExecError as err:
        report = _read(err.stdout)
        if report is None:
            log = tail(err.stderr or err.stdout, 40)
            raise NoAnswers(
                f"the model ended while it was asked (exit code {err.exit_code})", log=log
            ) from err
        raise _no_answers(report, plan) from err
    report = _read(said)
    if report is None or not isinstance(report.get("answers"), list):
        raise CheckFailed(
            "the program that asks the model said nothing that can be read",
            hint="is `tools: image:` an image with Python 3?",
            detail=tail(said),
        )
    return _fitting(report["answers"], plan)


def _read(text: str) -> dict[str, Any] | None:
    try:
        report = json.loads(text)
    except ValueError:
        return None
    return report if isinstance(report, dict) and "ok" in report else None


def _no_answers(report: Mapping[str, Any], plan: QualityPlan) -> NoAnswers:
    if "error" in report:
        return NoAnswers(str(report["error"]))
    return NoAnswers(_without(report["without"], plan), report["failures"])


def _without(count: int, plan: QualityPlan) -> str:
    some = "1 row" if count == 1 else f"{count} rows"
    return f"{some} of {len(plan.data.rows)} without a prediction"


def _fitting(answers: list[Any], plan: QualityPlan) -> list[Any]:
    """``answers``, if the metric can compare all of them. Raises NoAnswers."""
    quality, failures = plan.quality, []
    for row, answer in zip(plan.data.rows, answers, strict=True):
        if problem := not_fit(answer, quality.compares, expected=False):
            failures.append(_failure(row.line, row.name, f'"{quality.answer}" {problem}'))
    if failures:
        raise NoAnswers(_without(len(failures), plan), failures[:_SHOWN])
    return answers


def _failure(line: int, name: str, message: str) -> dict[str, Any]:
    return {"line": line, "name": name, "messages": [message], "more": 0}


def _first_place(failures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"failures": list(failures), **({"line": failures[0]["line"]} if failures else {})}


def _judged(plan: QualityPlan, answered: Answered) -> Rung:
    """The rung on the answers of one or both versions."""
    quality, data = plan.quality, plan.data
    slices = tuple(row.slices for row in data.rows) if quality.slices else ()
    given = Given(quality, data.expected, answered.own, slices, answered.before, data.texts_only)
    figures = measure(given, plan.memo)
    published = answered.published
    decision = decide(quality, figures, len(data.rows), published.version if published else "")
    facts: dict[str, Any] = {**recorded(quality, figures, len(data.rows)), "file": quality.data}
    if published is not None:
        facts["published"] = {**published.to_json(), **figures["before"], "margin": quality.margin}
    elif answered.nothing_published:
        facts["published"] = None
    detail = told(quality, figures, answered.nothing_published)
    if not decision.ok:
        facts |= {
            "failures": _wrong(plan, answered),
            "hint": _hint(decision, published),
            "measured": detail,
        }
        detail = "; ".join(decision.reasons)
    return Rung("quality", ok=decision.ok, detail=detail, facts=facts)


def _hint(decision: Decision, published: Published | None) -> str:
    text = "look at the rows above; the limits stand in modelport.yaml under `check: quality:`"
    if published is not None and any("worse than" in one for one in decision.reasons):
        text += f"; the published version is {published.name}:{published.tag} ({published.digest[7:19]})"
    return text


def _wrong(plan: QualityPlan, answered: Answered) -> list[dict[str, Any]]:
    """The rows that are wrong, those first that the published version had right. For classes only."""
    if plan.quality.compares is not Answers.CLASSES:
        return []
    found = []
    before = answered.before or [None] * len(answered.own)
    for row, said, earlier in zip(plan.data.rows, answered.own, before, strict=True):
        if not _same(row.expected, said, texts=plan.data.texts_only):
            lost = answered.before is not None and _same(row.expected, earlier, texts=plan.data.texts_only)
            note = "; the published version was right" if lost else ""
            message = f"predicted {_shown(said)}, expected {_shown(row.expected)}{note}"
            found.append((not lost, _failure(row.line, row.name, message)))
    return [failure for _, failure in sorted(found, key=lambda one: one[0])[:_SHOWN]]


def _same(expected: object, said: object, *, texts: bool) -> bool:
    return same(expected, said) or (texts and not isinstance(said, str) and json.dumps(said) == expected)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:119]}…"


def _client(plan: QualityPlan) -> dagger.Container:
    """The tools container with the program, its plan, the requests and the files that they send."""
    programs = dag.directory().with_new_file("plan.json", _to_client(plan))
    for name in PROGRAMS:
        programs = programs.with_new_file(f"pipelines/in_engine/{name}.py", _program_text(name))
    tools = dag.container().from_(plan.model.tools.image)
    tools = tools.with_mounted_directory(DIRECTORY, programs, read_only=True)
    requests = plan.write_requests()
    kept = dag.host().directory(str(requests.parent), include=[as_pattern(requests.name)])
    tools = tools.with_mounted_directory(REQUESTS, kept, read_only=True)
    if plan.files:
        files = dag.host().directory(
            str(plan.model.directory), include=[as_pattern(one) for one in plan.files]
        )
        tools = tools.with_mounted_directory(FILES, files, read_only=True)
    return tools.with_workdir(DIRECTORY)


def _to_client(plan: QualityPlan) -> str:
    return json.dumps(plan.to_client(HOST, FILES, REQUESTS), sort_keys=True)


def _programs_text() -> str:
    return "".join(_program_text(name) for name in PROGRAMS)


@cache
def _program_text(name: str) -> str:
    return (Path(__file__).parent.parent / "in_engine" / f"{name}.py").read_text("utf-8")
