"""The disk of the state directory: full, read-only, or gone under a session."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_home import EngineHome
from engine_process import COMMAND, SessionProcess, engine_session

ROOM = 40 << 20
COMMAND_TEXT = "head -c 3000000 /dev/urandom > /much; echo done"


@contextlib.contextmanager
def disk(place: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "small", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path, leave: int) -> Path:
    """A file that takes all but ``leave`` bytes."""
    file = place / "filler"
    with file.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(place).free - leave)
    return file


def error_of(session: SessionProcess, home: EngineHome, salt: str) -> str:
    """What an exec answers, "" if it went well."""
    command = f'withExec(args: ["sh", "-c", "{COMMAND_TEXT} {salt}"])'
    answer = session.ask("{ " + home.chain(command, "stdout") + " }")
    return str(answer["errors"][0]["message"]) if "errors" in answer else ""


def session_on(state: Path) -> subprocess.CompletedProcess[str]:
    """A session that nobody asks anything, to its end."""
    return subprocess.run(
        [*COMMAND, "session"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "EMBEDDED_ENGINE_STATE": str(state)},
        check=False,
    )


def test_a_disk_that_is_full(home: EngineHome, tmp_path: Path) -> None:
    """At whatever moment it fills up: the error names it and says what to do; with room all goes on."""
    with disk(tmp_path / "disk") as place:
        filler = fill(place, 0)
        done = session_on(place / "state")
        assert done.returncode == 1
        assert f"the disk of {place / 'state'} is full" in done.stderr
        assert done.stderr.count("\n") == 1
        filler.unlink()
        with engine_session(place / "state") as session:
            errors = session.errors
            for number, leave in enumerate((1 << 20, 5 << 20, 2 << 20)):
                filler = fill(place, leave)
                said = error_of(session, home, str(number))
                assert f"the disk of {place / 'state'} is full" in said, (leave, said)
                assert "EMBEDDED_ENGINE_STATE" in said
                filler.unlink()
                if number:  # at first the base image has no room; later it is there
                    assert error_of(session, home, str(number)) == ""
            assert session.end() == 0
            assert "Traceback" not in errors.read_text()
        with engine_session(place / "state") as session:
            assert error_of(session, home, "1") == ""


def test_a_disk_that_is_read_only(tmp_path: Path) -> None:
    with disk(tmp_path / "disk") as place:
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        done = session_on(place / "state")
    assert done.returncode == 1
    assert "read-only" in done.stderr
    assert "EMBEDDED_ENGINE_STATE" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_state_directory_that_is_removed_under_a_session(home: EngineHome, tmp_path: Path) -> None:
    state = tmp_path / "state"
    errors = tmp_path / "stderr"
    with engine_session(state) as session:
        assert session.leaf("version")
        session.errors.rename(errors)
        shutil.rmtree(state)
        assert "was removed while this session worked on it" in error_of(session, home, "gone")
        assert session.end() == 0
    assert "Traceback" not in errors.read_text()
    with engine_session(state) as session:
        assert session.leaf("version")
