"""A batch model: what it wrote against what is expected, by value, line or byte; and its configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import load
from pipelines.errors import ConfigError
from pipelines.in_engine.check_batch import compared
from pipelines.stages.batch import rungs_of
from pipelines.stages.batch_plan import BatchRun, plan_batch
from pipelines.stages.check_report import Rung

ROOT = Path(__file__).parents[2]


def files(directory: Path, **content: str | bytes) -> Path:
    directory.mkdir(exist_ok=True)
    for name, text in content.items():
        file = directory / name.replace("__", "/").replace("_DOT_", ".")
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return directory


def plan_of(tmp_path: Path, **more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"tolerance": {}, "ignore": [], "ignore_files": []}
    return {"expected": str(tmp_path / "expected"), "actual": str(tmp_path / "actual"), **base, **more}


def differences(
    tmp_path: Path, name: str, expected: str | bytes, actual: str | bytes, **more: Any
) -> list[str]:
    key = name.replace(".", "_DOT_")
    files(tmp_path / "expected", **{key: expected})
    files(tmp_path / "actual", **{key: actual})
    return [message for one in compared(plan_of(tmp_path, **more))["failures"] for message in one["messages"]]


@pytest.mark.parametrize(
    ("name", "expected", "actual", "messages"),
    [
        ("a.json", '{"a": 1.0}', '{"a":1.0,\n "more": 2}', []),
        ("a.json", '{"a": 1}', '{"a": 2}', ['"a" is 2, expected 1 (exact)']),
        ("a.json", '{"a": 1}', "{", None),
        ("a.jsonl", '{"a": 1}\n{"a": 2}\n', '{"a":1}\n{"a":3}\n', ['line 2: "a" is 3, expected 2 (exact)']),
        ("a.jsonl", "1\n2\n", "1\n", ["it has 1 lines, expected 2"]),
        ("a.csv", "id,score\n1,0.50\n", "score,more,id\n0.5,x,1\n", []),
        ("a.csv", "id,score\n1,0.5\n", "id,score\n1,0.6\n", ['row 1: "score" is 0.6, expected 0.5 (exact)']),
        ("a.csv", "id,score\n1,0.5\n", "id\n1\n", ['row 1: "score" is missing, expected 0.5']),
        ("a.csv", "id\nnan\n", "id\nnan \n", ['row 1: "id" is "nan ", expected "nan" (exact)']),
        ("a.txt", "a\nb\n", "a\r\nb", []),
        ("a.txt", "a\nb\n", "a\nc\n", ['line 2 is "c", expected "b" (exact)']),
        ("a.bin", b"\xff\x00", b"\xff\x01", ["differs from byte 1 on from the expected file"]),
        ("a.bin", b"\xff\x00", b"\xff", ["has 1 bytes, expected 2 as in the expected file"]),
    ],
)
def test_how_files_are_compared(
    tmp_path: Path, name: str, expected: str | bytes, actual: str | bytes, messages: list[str] | None
) -> None:
    found = differences(tmp_path, name, expected, actual)
    if messages is None:
        assert found[0].startswith("can't be read as JSON")
    else:
        assert found == messages


def test_tolerances_and_ignored_columns(tmp_path: Path) -> None:
    tolerance = {"score": [0.01, 0.0]}
    assert not differences(
        tmp_path,
        "a.csv",
        "score,took\n0.5,3\n",
        "score,took\n0.505,9\n",
        tolerance=tolerance,
        ignore=["took"],
    )


def test_files_that_are_missing_or_not_expected(tmp_path: Path) -> None:
    files(tmp_path / "expected", a_DOT_txt="a", sub__b_DOT_txt="b")
    files(tmp_path / "actual", sub__b_DOT_txt="b", new_DOT_txt="c", run_DOT_log="d")
    rung = compared(plan_of(tmp_path, ignore_files=["*.log"]))
    told = {one["name"]: one["messages"] for one in rung["failures"]}
    assert told == {"a.txt": ["is missing in the output"], "new.txt": ["is not expected"]}
    assert (rung["ok"], rung["passed"], rung["total"]) == (False, 1, 2)


def test_a_link_in_the_output_is_not_followed(tmp_path: Path) -> None:
    files(tmp_path / "expected", a_DOT_txt="secret")
    files(tmp_path / "actual")
    files(tmp_path, elsewhere="secret")
    (tmp_path / "actual" / "a.txt").symlink_to(tmp_path / "elsewhere")
    [failure] = compared(plan_of(tmp_path))["failures"]
    assert failure["messages"] == ["is not a plain file"]


def test_the_program_says_by_its_exit_code(tmp_path: Path) -> None:
    files(tmp_path / "expected", a_DOT_txt="a")
    for text, code in (("a", 0), ("b", 1)):
        files(tmp_path / "actual", a_DOT_txt=text)
        tmp_path.joinpath("plan.json").write_text(json.dumps(plan_of(tmp_path)))
        command = [sys.executable, "-m", "pipelines.in_engine.check_batch", str(tmp_path / "plan.json")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, json.loads(done.stdout)["ok"]) == (code, code == 0)


def batch_model(directory: Path, **batch: Any) -> Any:
    files(directory, Dockerfile="FROM scratch\n", in__a_DOT_txt="x", out__a_DOT_txt="y")
    section = {"command": ["run"], "cases": [{"input": "in", "expected": "out"}], **batch}
    (directory / "modelport.yaml").write_text(json.dumps({"name": "m", "check": {"batch": section}}))
    return load(directory / "modelport.yaml", {})


def test_the_runs(tmp_path: Path) -> None:
    [run] = plan_batch(batch_model(tmp_path))
    assert (run.name, run.input.name, run.expected.name) == ("out", "in", "out")
    (tmp_path / "out" / "a.txt").unlink()
    with pytest.raises(ConfigError, match="expects no file"):
        plan_batch(batch_model_again(tmp_path))


def batch_model_again(directory: Path) -> Any:
    return load(directory / "modelport.yaml", {})


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"output": "/modelport/input/x"}, "not apart"),
        ({"input": "relative"}, "not an absolute path"),
        ({"cases": []}, "batch"),
    ],
)
def test_a_wrong_section(tmp_path: Path, batch: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        batch_model(tmp_path, **batch)


def test_batch_and_a_server_are_one_too_many(tmp_path: Path) -> None:
    files(tmp_path, Dockerfile="FROM scratch\n", in__a="x", out__a="y", golden_DOT_jsonl="{}")
    batch = {"command": ["run"], "cases": [{"input": "in", "expected": "out"}]}
    check = {"batch": batch, "golden": "golden.jsonl"}
    (tmp_path / "modelport.yaml").write_text(json.dumps({"name": "m", "check": check}))
    with pytest.raises(ConfigError, match='"golden" asks one'):
        load(tmp_path / "modelport.yaml", {})


def test_the_rungs_of_several_cases(tmp_path: Path) -> None:
    batch = batch_model(tmp_path).check.batch
    good = Rung("files", ok=True, detail="", facts={"passed": 2, "total": 2, "failures": []})
    told = {"line": 0, "name": "a.txt", "messages": ["is missing in the output"], "more": 0}
    bad = Rung("files", ok=False, detail="", facts={"passed": 0, "total": 1, "failures": [told]})
    one, other = BatchRun("x", tmp_path, tmp_path), BatchRun("y", tmp_path, tmp_path)
    rungs = rungs_of([(one, good)], batch, 3.0)
    assert [rung.name for rung in rungs] == ["starts", "files", "budgets"]
    starts, wrong = rungs_of([(one, good), (other, bad)], batch, 3.0)
    assert (starts.detail, wrong.ok) == ("2 batch runs", False)
    assert wrong.detail == "y/a.txt: is missing in the output (2 of 3 output files are as expected)"
