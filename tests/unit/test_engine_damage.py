"""Damaged databases and storage: noticed, set aside, told."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from embedded_engine.damage import mended, suspect
from embedded_engine.disk import advice
from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.state import StartFailed, hold_shared
from embedded_engine.storage_check import problem
from embedded_engine.store import Store


def filled(file: Path) -> None:
    """A store that was closed in order, with rows on several pages."""
    store = Store.open(file, hold=False)
    for number in range(200):
        store.remember("kind", f"key-{number}", "x" * 200)
    store.close()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def garbage(file: Path) -> None:
    file.write_bytes(b"\x00garbage" * 1000)


def bad_pages(file: Path) -> None:
    """Its length is right; a session that stumbled over it left a mark."""
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    file.write_bytes(data)
    suspect(file).touch()


def other_version(file: Path) -> None:
    database = sqlite3.connect(file)
    database.executescript("DROP TABLE operation; CREATE TABLE operation (digest TEXT PRIMARY KEY, was TEXT)")
    database.close()


@pytest.mark.parametrize("damage", [cut, garbage, bad_pages, other_version])
def test_a_damaged_store_is_set_aside_and_a_new_one_made(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "engine.sqlite"
    filled(file)
    damage(file)
    store = Store.open(file, hold=False)
    assert store.fact("kind", "key-1") is None
    store.remember("kind", "key-1", "new")
    store.close()
    assert (tmp_path / "engine.sqlite.damaged-1").exists()
    assert not suspect(file).exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert "engine.sqlite is damaged" in line


def test_a_store_whose_journal_was_lost_is_believed_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "engine.sqlite"
    filled(file)
    store = Store.open(file, hold=False)
    store.remember("kind", "late", 1)
    journal = file.with_name("engine.sqlite-wal")
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "engine.sqlite"
    copy.write_bytes(file.read_bytes())  # without its journal, as after a crash of the machine
    assert journal.stat().st_size
    store.close()
    again = Store.open(copy, hold=False)
    assert again.fact("kind", "key-1") == "x" * 200
    assert again.fact("kind", "late") is None
    again.close()
    assert capsys.readouterr().err == ""


def storage(root: Path) -> Path:
    """Two layers and an image, as containers-storage has them."""
    for name in ("overlay/one/diff", "overlay/two/diff", "overlay-layers", "overlay-images/image"):
        (root / name).mkdir(parents=True)
    layers = [{"id": "one"}, {"id": "two", "parent": "one"}]
    images = [{"id": "image", "layer": "two", "big-data-names": ["manifest"]}, {"id": "half", "layer": "two"}]
    (root / "overlay-layers/layers.json").write_text(json.dumps(layers))
    (root / "overlay-images/images.json").write_text(json.dumps(images))
    (root / "overlay-images/image/manifest").touch()
    return root


BROKEN: dict[str, Callable[[Path], object]] = {
    "layers.json": lambda root: (root / "overlay-layers/layers.json").write_text('[{"id": '),
    "images.json": lambda root: (root / "overlay-images/images.json").write_text("{}"),
    "directory of layer one": lambda root: (root / "overlay/one/diff").rmdir(),
    "layer two is gone": lambda root: (root / "overlay-layers/layers.json").write_text('[{"id": "one"}]'),
    "manifest of image": lambda root: (root / "overlay-images/image/manifest").unlink(),
}


@pytest.mark.parametrize("told", BROKEN)
def test_storage_that_is_not_whole_is_set_aside(
    told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = storage(tmp_path / "storage")
    assert problem(root, "overlay") == ""
    mended(tmp_path)
    assert root.exists()
    BROKEN[told](root)
    mended(tmp_path)
    assert not root.exists()
    assert (tmp_path / "storage.damaged-1").is_dir()
    assert told in capsys.readouterr().err


def test_nothing_is_moved_under_a_session_at_work(tmp_path: Path) -> None:
    root = storage(tmp_path / "storage")
    BROKEN["layers.json"](root)
    held = hold_shared(tmp_path)
    assert held is not None
    try:
        with pytest.raises(StartFailed, match="other sessions work on it"):
            mended(tmp_path)
    finally:
        os.close(held)
    assert root.exists()


def test_a_full_disk_is_told_where_it_is_the_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDED_ENGINE_STATE", str(tmp_path))
    assert f"the disk of {tmp_path} is full" in advice(OSError(28, "No space left on device"))
    assert "is full" in advice(sqlite3.OperationalError("database or disk is full"))
    tool = RuntimeFailure("buildah commit failed", detail=f"write {tmp_path}/x: no space left on device")
    assert "is full" in advice(tool, tool.detail)
    assert advice(RuntimeFailure("a service failed"), "cat: /data: No space left on device") == ""
    assert advice(OSError(28, "No space left on device", "/elsewhere/export.tar")) == ""
    assert "read-only" in advice(OSError(30, "Read-only file system"))
    assert advice(ValueError("anything else")) == ""
    monkeypatch.setenv("EMBEDDED_ENGINE_STATE", str(tmp_path / "gone"))
    assert "was removed" in advice(OSError(2, "No such file or directory"))
