"""The check's plan: every program that a rung imports is given to the client, and no SDK is needed for it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.config import load
from pipelines.errors import ConfigError
from pipelines.in_engine.check_client import RUNGS
from pipelines.stages import batch, check_abuse, check_budgets, check_golden, check_quality, check_schema
from pipelines.stages.check_plan import CLIENT, plan_check
from pipelines.stages.gpu import without_gpu

PROGRAMS = Path(__file__).parents[2] / "pipelines" / "in_engine"
GIVEN = {
    "check_client": CLIENT,
    "check_golden": (*CLIENT, *check_golden.PROGRAMS),
    "check_record": (*CLIENT, "check_record", *check_golden.PROGRAMS),
    "check_schema": (*CLIENT, *check_schema.PROGRAMS),
    "check_load": (*CLIENT, *check_budgets.PROGRAMS),
    "check_abuse": (*CLIENT, *check_abuse.PROGRAMS),
    "check_quality": check_quality.PROGRAMS,
    "check_batch": batch.PROGRAMS,
}


def imported(name: str) -> set[str]:
    tree = ast.parse((PROGRAMS / f"{name}.py").read_text())
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {one.rpartition(".")[2] for one in modules if one.startswith("pipelines.in_engine.")}


@pytest.mark.parametrize("name", GIVEN)
def test_what_a_program_imports_is_given_with_it(name: str) -> None:
    seen, waiting = set[str](), {name}
    while waiting:
        seen |= waiting
        waiting = {other for one in waiting for other in imported(one)} - seen
    assert seen <= set(GIVEN[name]), seen - set(GIVEN[name])


def test_every_rung_of_the_ladder_is_there_in_its_order() -> None:
    assert [name for _, name, _ in RUNGS] == [
        "starts",
        "healthy",
        "schema",
        "golden",
        "record",
        "budgets",
        "abuse",
    ]
    for _, _, function in RUNGS:
        module, _, own = function.partition(".")
        assert f"def {own}(context: Context)" in (PROGRAMS / f"{module}.py").read_text()


def test_quality_stands_between_what_is_climbed_first_and_what_comes_later(tmp_path: Path) -> None:
    tmp_path.joinpath("Dockerfile").write_text("FROM scratch\n")
    tmp_path.joinpath("golden.jsonl").write_text('{"request": {"json": 1}, "expected": {"json": 1}}\n')
    check = {"golden": "golden.jsonl", "budgets": {"p95_ms": 5}}
    tmp_path.joinpath("modelport.yaml").write_text(json.dumps({"name": "m", "check": check}))
    plan = plan_check(load(tmp_path / "modelport.yaml", {}))
    assert json.loads(plan.first.to_client())["climb"] == ["golden"]
    later = json.loads(plan.later.to_client())
    assert later["climb"] == ["load", "abuse"]
    assert later["golden"]["file"] == "golden.jsonl"  # for its requests
    assert plan.later.files == ("golden.jsonl",)
    assert "check_abuse" in plan.later.programs
    assert "check_abuse" not in plan.first.programs


def test_a_plan_is_made_without_the_sdk() -> None:
    """It takes a second to import, and a run makes its plan meanwhile."""
    text = "import pipelines.plan, sys; sys.exit('dagger' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], timeout=30, check=False).returncode == 0


def test_no_gpu_is_skipped_aloud_and_never_a_pass() -> None:
    rung = without_gpu("", required=False)
    assert (rung.detail, rung.skipped, rung.passed) == ("gpu skipped: no GPU here", True, False)
    asked = without_gpu("GPU support is not enabled", required=True)
    assert (asked.ok, asked.skipped) == (False, False)
    assert "GPU support is not enabled" in asked.detail


def climbed(directory: Path, **check: object) -> list[str]:
    directory.joinpath("Dockerfile").write_text("FROM scratch\n")
    directory.joinpath("modelport.yaml").write_text(json.dumps({"name": "m", "check": check}))
    climb: list[str] = json.loads(plan_check(load(directory / "modelport.yaml", {})).to_client())["climb"]
    return climb


def test_every_model_with_a_server_is_sent_hostile_requests_unless_it_says_no(tmp_path: Path) -> None:
    assert climbed(tmp_path) == ["abuse"]
    assert climbed(tmp_path, abuse=False) == []
    tmp_path.joinpath("in").write_text("x")
    tmp_path.joinpath("out").mkdir()
    tmp_path.joinpath("out/x").write_text("x")
    batch = {"command": ["run"], "cases": [{"input": "in", "expected": "out"}]}
    assert climbed(tmp_path, batch=batch) == []
    with pytest.raises(ConfigError, match='"abuse" asks one'):
        climbed(tmp_path, batch=batch, abuse=True)
