"""The examples without a container: their files parse, their servers' logic passes its own tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.config import load
from pipelines.quality_plan import plan_quality
from pipelines.stages.check_golden import read_golden
from pipelines.stages.check_plan import plan_check

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("embeddings", "filetype", "langid")


def test_these_are_all() -> None:
    assert tuple(sorted(path.parent.name for path in EXAMPLES.glob("*/modelport.yaml"))) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_check_is_readable(name: str) -> None:
    model = load(EXAMPLES / name / "modelport.yaml", {})
    plan = plan_check(model)
    assert len(read_golden(model)[0]) >= 18
    assert len(plan_quality(model).data.rows) >= 75
    assert plan.check.quality is not None
    assert plan.check.unit is not None


@pytest.mark.parametrize("name", NAMES)
def test_the_servers_own_tests_pass(name: str) -> None:
    """Those that need no model; the others run in the image."""
    command = [sys.executable, "-m", "unittest", "tests/test_server.py", "tests/test_serve.py"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=EXAMPLES / name, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_server_is_one_and_the_same() -> None:
    for file in ("server.py", "tests/test_server.py"):
        assert len({(EXAMPLES / name / file).read_bytes() for name in NAMES}) == 1, file


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_tells_the_licence_and_true_numbers(name: str) -> None:
    text = (EXAMPLES / name / "README.md").read_text()
    model = load(EXAMPLES / name / "modelport.yaml", {})
    rows = len(plan_quality(model).data.rows)
    assert "**Licence:**" in text
    assert f"{len(read_golden(model)[0])} requests" in text
    assert any(f"{rows} {what}" in text for what in ("sentences", "files", "pairs"))
    assert model.check.quality is not None
    assert f"at least {model.check.quality.limit:g} asked" in text


def test_every_evaluation_file_has_its_origin() -> None:
    directory = EXAMPLES / "filetype/evaluation"
    lines = (directory / "ORIGINS.tsv").read_text().splitlines()[1:]
    rows = [json.loads(line) for line in (directory / "files.jsonl").read_text().splitlines()]
    files = sorted(path.name for path in (directory / "files").iterdir())
    assert sorted(line.split("\t")[0] for line in lines) == files
    assert sorted(row["name"] for row in rows) == files
    assert all("PSF-2.0" in line or "BSD-3-Clause" in line for line in lines)
    assert sum(path.stat().st_size for path in (directory / "files").iterdir()) < 500_000


@pytest.mark.parametrize("name", NAMES)
def test_every_dependency_is_pinned_with_hashes_and_without_an_index(name: str) -> None:
    text = (EXAMPLES / name / "requirements.txt").read_text()
    pins = [line for line in text.splitlines() if line and not line.startswith(("#", " "))]
    assert all("==" in line and line.endswith("\\") for line in pins)
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text
