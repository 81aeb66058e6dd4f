"""Who owns what is copied into a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from embedded_engine.entries import DirEntry, FileEntry, LinkEntry
from embedded_engine.runtime.edits import apply_edits
from embedded_engine.runtime.port import Copy
from embedded_engine.trees import Trees

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    trees = Trees(tmp_path / "state")
    entry = trees.blobs.add_bytes(b"x")
    mine = FileEntry(entry.sha256, 1, 0o4755, 5, 6)
    tree = DirEntry({"d": DirEntry({"f": mine}, uid=5, gid=6), "l": LinkEntry("d", 5, 6), "r": entry})
    path = trees.path(trees.put(tree))
    trees.close()
    return path


def owners(root: Path) -> dict[str, tuple[int, int]]:
    return {os.fspath(p.relative_to(root)): (p.lstat().st_uid, p.lstat().st_gid) for p in root.rglob("*")}


def test_a_copy_keeps_the_owners_of_its_source(checkout: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    apply_edits(root, [Copy(checkout, "/")])
    assert owners(root) == {"d": (5, 6), "d/f": (5, 6), "l": (5, 6), "r": (0, 0)}
    assert (root / "d" / "f").stat().st_mode & 0o7777 == 0o4755


def test_an_owner_that_is_named_is_for_everything(checkout: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    apply_edits(root, [Copy(checkout, "/x", "7:8")])
    assert set(owners(root / "x").values()) == {(7, 8)}
    assert owners(checkout)["d/f"] == (5, 6)
