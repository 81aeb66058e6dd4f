"""A disk that is full or read-only, told as such: where, and what to do."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from pathlib import Path

from embedded_engine.damage import is_damage, suspect
from embedded_engine.state import state_directory

_LITTLE = 64 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SAID_FULL = ("no space left on device", "disk quota exceeded", "database or disk is full")
_CRASHED = ".go:"  # Buildah 1.28 stumbles over its own error when it cannot write: a Go trace is all it says
_SAID_READ_ONLY = ("read-only file system", "attempt to write a readonly database")


def advice(error: BaseException, text: str = "") -> str:
    """What a failure of the disk under the state directory means for the user; "" if it was none.

    ``text`` is what a tool said of it. A damaged database is marked, so that the next session looks at it.
    """
    state = state_directory()
    code = error.errno if isinstance(error, OSError) else None
    said = f"{error}\n{text}".lower()
    # the same may be said of a container's own disk, or of where an export goes: then nothing points at ours
    named = error.filename is not None if isinstance(error, OSError) else True
    ours = str(state).lower() in said or not named or isinstance(error, sqlite3.Error)
    full = code in _FULL or any(sign in said for sign in _SAID_FULL)
    if (full and ours) or ((full or _CRASHED in said) and _is_nearly_full(state)):
        return (
            f"the disk of {state} is full ({_free(state)}): free space there, or run `embedded-engine gc "
            "--max-size SIZE`, or set EMBEDDED_ENGINE_STATE to a directory on another disk; then ask again"
        )
    if code == errno.EROFS or (ours and any(sign in said for sign in _SAID_READ_ONLY)):
        return (
            f"{state} cannot be written to (read-only): set EMBEDDED_ENGINE_STATE to a directory that can, "
            "and begin a new session"
        )
    if not state.exists():
        return f"{state} was removed while this session worked on it: begin a new session"
    if isinstance(error, sqlite3.DatabaseError) and is_damage(error):
        suspect(state / "engine.sqlite").touch()
        suspect(state / "trees" / "index.sqlite").touch()
        return f"a database in {state} is damaged: begin a new session, which sets it aside and makes it anew"
    return ""


def _is_nearly_full(directory: Path) -> bool:
    """What did not fit is removed again by the time this is asked, so there is some room."""
    if not directory.exists():
        return False
    usage = shutil.disk_usage(directory)
    return usage.free < min(_LITTLE, usage.total // 2)


def _free(directory: Path) -> str:
    while not directory.exists():
        directory = directory.parent
    usage = shutil.disk_usage(directory)
    return f"{usage.free >> 20} MiB free of {usage.total >> 20}"
