"""The run record: every stage with its times, operations, result and error, written whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.errors import CheckFailed, Place, ScanBlocked, UsageError
from pipelines.parallel import together
from pipelines.record import Run, Stage, new_run_directory
from pipelines.state import one_run_at_a_time, state_directory
from pipelines.values import JSON

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Found:
    answer: int

    def summary(self) -> str:
        return f"answer {self.answer}"

    def to_json(self) -> dict[str, JSON]:
        return {"answer": self.answer}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run("iris", new_run_directory(tmp_path, "iris"), tmp_path / "events.jsonl")


def saved(run: Run) -> dict[str, list[dict[str, JSON]]]:
    document: dict[str, list[dict[str, JSON]]] = json.loads((run.directory / "run.json").read_text())
    return document


async def answer(value: int) -> Found:
    return Found(value)


async def test_a_stage_keeps_its_result_and_summary(run: Run) -> None:
    assert await run.stage("check", answer(42)) == Found(42)
    (stage,) = saved(run)["stages"]
    assert stage["status"] == "ok"
    assert stage["summary"] == "answer 42"
    assert stage["result"] == {"answer": 42}
    assert str(stage["started"]) <= str(stage["ended"])


async def test_a_failed_stage_keeps_the_error_with_its_place(run: Run) -> None:
    async def fails() -> None:
        raise CheckFailed("accuracy is 0.5", place=Place(Path("golden.jsonl"), 7), hint="train more")

    told: list[Stage] = []
    run.tell = told.append
    with pytest.raises(CheckFailed):
        await run.stage("check", fails())
    (stage,) = saved(run)["stages"]
    assert stage["status"] == told[0].status == "failed"
    assert isinstance(stage["error"], dict)
    assert stage["error"]["file"] == "golden.jsonl"
    assert stage["error"]["line"] == 7
    assert stage["error"]["exit_code"] == 4


async def test_operations_count_for_the_stage_whose_span_asked_for_them(run: Run) -> None:
    with run.recorded("build") as stage:
        lines = [
            {"operation": "a", "cached": True, "span": stage.span},
            {"operation": "b", "cached": False, "span": stage.span},
            {"operation": "c", "cached": False, "span": "of another stage"},
            {"operation": "d", "cached": False, "span": stage.span, "steps": 8, "cached_steps": 5},
        ]
        run.events.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"operation": "half')
    (found,) = saved(run)["stages"]
    assert found["operations"] == {"executed": 4, "cached": 6}
    assert found["cached"] is False


async def test_an_engine_that_tells_nothing_is_not_called_cached(run: Run) -> None:
    await run.stage("build", answer(1))
    (stage,) = saved(run)["stages"]
    assert stage["operations"] is None
    assert stage["cached"] is None


async def test_every_gate_runs_to_its_end_and_the_first_failure_is_raised() -> None:
    ended: list[str] = []

    async def gate(name: str, error: Exception | None) -> None:
        ended.append(name)
        if error:
            raise error

    with pytest.raises(CheckFailed) as caught:
        await together(
            gate("check", CheckFailed("wrong answer")),
            gate("scan", ScanBlocked("a secret")),
            gate("inventory", None),
        )
    assert ended == ["check", "scan", "inventory"]
    assert caught.value.__notes__ == ["a secret"]


async def test_requests_of_a_stage_carry_its_span(run: Run) -> None:
    from opentelemetry import propagate

    headers: dict[str, str] = {}
    with run.recorded("build") as stage:
        propagate.inject(headers)
    assert headers["traceparent"].split("-")[2] == stage.span


def test_two_runs_of_one_model_at_once_are_refused(tmp_path: Path) -> None:
    state = state_directory(tmp_path)
    with one_run_at_a_time(state, "iris"):
        with (
            pytest.raises(UsageError, match="another run of iris is under way"),
            one_run_at_a_time(state, "iris"),
        ):
            pass
        with one_run_at_a_time(state, "other"):
            pass
    with one_run_at_a_time(state, "iris"):
        pass


def test_git_never_sees_the_state_directory(tmp_path: Path) -> None:
    assert (state_directory(tmp_path) / ".gitignore").read_text() == "*\n"
