"""The order of commits, as a real clone knows it, and what it can't know."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.git_history import GitHistory

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Clone:
    directory: Path

    def git(self, *arguments: str) -> str:
        identity = {
            f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.directory), **identity}
        command = ["git", "-C", str(self.directory), *arguments]
        return subprocess.run(
            command, env=environ, check=True, capture_output=True, text=True, timeout=30
        ).stdout.strip()

    def commit(self, *more: str) -> str:
        self.git("commit", "--quiet", "--allow-empty", "-m", "x", *more)
        return self.git("rev-parse", "HEAD")

    @property
    def history(self) -> GitHistory:
        return GitHistory(self.directory, os.environ)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    made = Clone(tmp_path / "clone")
    made.directory.mkdir()
    made.git("init", "--quiet", "--initial-branch=main")
    return made


async def test_ancestors_descendants_and_other_lines(clone: Clone) -> None:
    first = clone.commit()
    second, third = clone.commit(), clone.commit()
    clone.git("switch", "--quiet", "--create", "side", first)
    side = clone.commit("--message=side")
    history = clone.history
    assert await history.is_ancestor(first, third) is True
    assert await history.is_ancestor(third, third) is True
    assert await history.is_ancestor(third, first) is False
    assert await history.is_ancestor(third, side) is await history.is_ancestor(side, third) is False
    assert await history.distance(first, third) == 2
    assert await history.distance(second, third) == 1


async def test_a_merge_holds_both_lines(clone: Clone) -> None:
    first = clone.commit()
    clone.git("switch", "--quiet", "--create", "side")
    side = clone.commit()
    clone.git("switch", "--quiet", "main")
    clone.commit("--message=main")
    clone.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
    merge = clone.git("rev-parse", "HEAD")
    assert await clone.history.is_ancestor(side, merge) is True
    assert await clone.history.distance(first, merge) == 3


async def test_what_the_clone_can_not_know_is_not_guessed(clone: Clone, tmp_path: Path) -> None:
    first, second = clone.commit(), clone.commit()
    history = clone.history
    assert await history.is_ancestor("e" * 40, second) is None
    assert await history.is_ancestor(second, "e" * 40) is None
    assert await history.distance("e" * 40, second) is None
    assert await history.is_ancestor("--output=/tmp/x", second) is None
    assert await history.is_ancestor("HEAD", second) is None, "only full ids of commits"
    shallow = Clone(tmp_path / "shallow")
    clone.git("clone", "--quiet", "--depth=1", f"file://{clone.directory}", str(shallow.directory))
    assert await shallow.history.is_ancestor(first, second) is None
    assert await GitHistory(tmp_path, os.environ).is_ancestor(first, second) is None, "no clone at all"
    assert await GitHistory(clone.directory, {"PATH": "/nonexistent"}).is_ancestor(first, second) is None


async def test_a_shallow_clone_believes_only_what_it_sees(clone: Clone, tmp_path: Path) -> None:
    for _ in range(4):
        clone.commit()
    shallow = Clone(tmp_path / "shallow")
    clone.git("clone", "--quiet", "--depth=2", f"file://{clone.directory}", str(shallow.directory))
    head, parent = shallow.git("rev-parse", "HEAD"), shallow.git("rev-parse", "HEAD~1")
    assert await shallow.history.is_ancestor(parent, head) is True
    assert await shallow.history.is_ancestor(head, parent) is None, "history may be cut between them"
