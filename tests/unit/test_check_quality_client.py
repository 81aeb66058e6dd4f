"""The program that collects predictions, against a real HTTP server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_check_client import Model, free_port, model, plan

from pipelines.in_engine.check_http import Answer
from pipelines.in_engine.check_quality import Asking, prediction
from pipelines.in_engine.check_rung import MOST_SILENT, MOST_TOLD, Context

__all__ = ["model"]
ROOT = Path(__file__).parents[2]


def report(
    tmp_path: Path, server: Model, *requests: dict[str, Any], answer: str = "value", lanes: int = 4
) -> dict[str, Any]:
    section = {"data": "rows.csv", "path": "/predict", "answer": answer, "concurrency": lanes}
    told = plan(tmp_path, server.server_port, quality=section)
    rows = [{"line": line, "name": "", "request": one} for line, one in enumerate(requests, start=2)]
    return Asking(Context.of(told)).report("".join(json.dumps(row) + "\n" for row in rows))


def ask(value: object, path: str = "/predict") -> dict[str, Any]:
    return {"path": path, "json": {"value": value}}


def test_predictions_come_in_the_order_of_the_rows(tmp_path: Path, model: Model) -> None:
    found = report(tmp_path, model, *(ask(number) for number in range(40)))
    assert found["ok"]
    assert found["answers"] == [number * 2 for number in range(40)]


def test_files_are_sent_beside_the_data(tmp_path: Path, model: Model) -> None:
    tmp_path.joinpath("cat.png").write_bytes(b"12345")
    found = report(tmp_path, model, {"path": "/echo", "body_file": "cat.png"}, answer="size")
    assert found["answers"] == [5]


def test_rows_without_a_prediction_are_told_with_their_lines(tmp_path: Path, model: Model) -> None:
    found = report(tmp_path, model, ask(1), ask(1, "/error"), ask(1, "/echo"))
    assert not found["ok"]
    assert found["without"] == 2
    assert [one["line"] for one in found["failures"]] == [3, 4]
    assert "status is 500" in found["failures"][0]["messages"][0]
    assert '"value" is missing in the answer' in found["failures"][1]["messages"][0]


def test_a_model_that_stopped_answering_is_left_alone(tmp_path: Path, model: Model) -> None:
    found = report(tmp_path, model, *(ask(1, "/closed") for _ in range(50)), lanes=1)
    assert found["without"] == 50
    assert len(found["failures"]) == MOST_TOLD
    assert model.asked == MOST_SILENT
    assert "not asked" in found["failures"][MOST_SILENT]["messages"][0]


def test_what_is_too_big_is_no_prediction(tmp_path: Path, model: Model) -> None:
    found = report(tmp_path, model, ask("x" * 40_000))
    assert "has 80002 bytes: is it the prediction?" in found["failures"][0]["messages"][0]


@pytest.mark.parametrize(
    ("path", "found"), [("a.1", 3), ("a", [2, 3]), ("b", {"x": 0.5}), ("b.x", 0.5), ("c", None)]
)
def test_the_value_at_a_path(path: str, found: object) -> None:
    assert prediction(Answer(200, b'{"a": [2, 3], "b": {"x": 0.5}, "c": null}'), path) == found


@pytest.mark.parametrize("path", ["x", "a.2", "a.x", "b.y"])
def test_nothing_at_a_path(path: str) -> None:
    with pytest.raises(ValueError, match="missing"):
        prediction(Answer(200, b'{"a": [2, 3], "b": {"x": 0.5}}'), path)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Path]:
    """The program's own files alone, as in the tools container."""
    from pipelines.stages.check_quality import PROGRAMS

    for name in PROGRAMS:
        file = tmp_path / "programs/pipelines/in_engine" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text((ROOT / "pipelines/in_engine" / f"{name}.py").read_text())
    yield tmp_path / "programs"


@pytest.mark.parametrize("alive", [True, False])
def test_the_program_by_itself(
    program: Path,
    tmp_path: Path,
    model: Model,
    alive: bool,
) -> None:
    """It needs no other file of ours; an incomplete answer ends with 1, so that no engine keeps it."""
    requests = tmp_path / "requests.jsonl"
    requests.write_text(json.dumps({"line": 1, "name": "", "request": ask(4)}) + "\n")
    section = {"data": "rows.csv", "path": "/predict", "answer": "value", "concurrency": 1}
    port = model.server_port if alive else free_port()
    told = plan(tmp_path, port, quality={**section, "requests": str(requests)})
    (tmp_path / "plan.json").write_text(json.dumps(told))
    command = [sys.executable, "-B", "-m", "pipelines.in_engine.check_quality", str(tmp_path / "plan.json")]
    done = subprocess.run(command, cwd=program, capture_output=True, text=True, check=False, timeout=20)
    said = json.loads(done.stdout)
    assert (done.returncode, said["ok"]) == ((0, True) if alive else (1, False)), done.stderr
    if alive:
        assert said["answers"] == [8]
    else:
        assert "the model is not healthy" in said["error"]
