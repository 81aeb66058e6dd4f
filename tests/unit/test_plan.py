"""What a run would do: names, targets, and what is held back and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.config import load
from pipelines.errors import SourceError
from pipelines.plan import Push, make_plan, told
from pipelines.source import SourceRevision

SOURCE = SourceRevision(
    commit="8f3c2a1b9d04" + "0" * 28,
    head_commit="8f3c2a1b9d04" + "0" * 28,
    committed_at=datetime(2026, 11, 22, tzinfo=UTC),
    branch="main",
    version=None,
    remote="https://example.com/team/models",
    dirty=(),
    shallow=False,
    root=Path("/"),
)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    (tmp_path / "iris").mkdir()
    (tmp_path / "iris" / "Dockerfile").write_text("FROM scratch\n")
    file = tmp_path / "iris" / "modelport.yaml"
    file.write_text("registries: [registry.example.com/models]\n")
    return file


def test_a_clean_commit_on_main_goes_to_every_registry(model_file: Path, tmp_path: Path) -> None:
    plan = make_plan(load(model_file, {}), SOURCE, tmp_path, {}, Push.AUTO)
    assert [target.name for target in plan.targets] == ["registry.example.com/models/iris"]
    assert plan.names.tags == ("8f3c2a1b9d04", "latest")
    assert "registry.example.com/models/iris" in told(plan)


def test_how_many_registries_are_enough_is_told(model_file: Path, tmp_path: Path) -> None:
    model_file.write_text(
        "registries: [a.example.com/m, b.example.com/m]\nrelease: {push_to: {at_least: 1}}\n"
    )
    plan = make_plan(load(model_file, {}), SOURCE, tmp_path, {}, Push.AUTO)
    assert "named as soon as 1 of 2 hold it" in told(plan)
    assert plan.to_json()["registries_asked"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dirty": ("serve.py",)}, "uncommitted changes: serve.py"),
        ({"branch": "topic"}, "branch topic is not in release.branches"),
        ({"pull_request": "7"}, "pull request 7"),
        ({"shallow": True}, "shallow"),
    ],
)
def test_any_other_commit_is_held_back_and_asking_for_its_push_is_an_error(
    model_file: Path, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    source = replace(SOURCE, **change)  # type: ignore[arg-type]  # the fields of the case
    model = load(model_file, {})
    plan = make_plan(model, source, tmp_path, {}, Push.AUTO)
    assert plan.targets == ()
    assert reason in plan.held_back
    assert reason in told(plan)
    with pytest.raises(SourceError, match=r"iris can't be pushed") as caught:
        make_plan(model, source, tmp_path, {}, Push.ALWAYS)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("registry", ["127.0.0.1:5000/models", ""])
def test_this_machines_registries_and_layouts_take_any_commit(
    model_file: Path, tmp_path: Path, registry: str
) -> None:
    model_file.write_text(f"registries: [{registry}]\n")
    plan = make_plan(load(model_file, {}), replace(SOURCE, dirty=("serve.py",)), tmp_path, {}, Push.AUTO)
    assert plan.held_back == ""
    assert plan.names.tags == ("8f3c2a1b9d04-dirty",)


def test_no_push_says_so(model_file: Path, tmp_path: Path) -> None:
    plan = make_plan(load(model_file, {}), SOURCE, tmp_path, {}, Push.NEVER)
    assert (plan.targets, plan.held_back) == ((), "--no-push")
