"""Damage to what the engine keeps: noticed where that is cheap, set aside under another name, told on stderr.

What is set aside is not read again; whoever wants nothing of it may delete it. All of it can be made anew.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from embedded_engine.state import StartFailed, hold_alone
from embedded_engine.storage_check import problem

T = TypeVar("T")
_HEADER = 100  # bytes: https://www.sqlite.org/fileformat.html#the_database_header
_WRONG_FILE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_OTHER_TABLES = ("no such column", "no such table", "columns but", "has no column")
_DRIVERS = ("overlay", "vfs")
_SETTLES_S = 0.3


def set_aside(path: Path, reason: str) -> Path:
    """Rename ``path`` so that it is not found again, and say so. Raises OSError."""
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(target)
    tell(
        f"{path} is damaged ({reason}): set aside as {target.name}, which may be "
        "deleted; what was lost is made anew"
    )
    return target


def tell(text: str) -> None:
    """A warning for people."""
    print(f"embedded-engine: {text}", file=sys.stderr, flush=True)  # noqa: T201  # told to people


def mended(state: Path) -> None:
    """Set container storage that is not whole aside. To be called before the state directory is held.

    Raises StartFailed if other sessions work on it: under them nothing can be moved.
    """
    found = _storage_problem(state / "storage")
    if not found:
        return
    alone = hold_alone(state)
    try:
        if alone is None:  # what another session changes just now may look so for a moment
            time.sleep(_SETTLES_S)
        if not (found := _storage_problem(state / "storage")):
            return
        if alone is None:
            raise StartFailed(
                f"container storage in {state} is damaged ({found}), and other sessions work on it: "
                "end them and start again, it is then set aside and made anew"
            )
        set_aside(state / "storage", found)
    finally:
        if alone is not None:
            os.close(alone)


def _storage_problem(storage: Path) -> str:
    kinds = (driver for driver in _DRIVERS if (storage / f"{driver}-layers").is_dir())
    return next((found for driver in kinds if (found := problem(storage, driver))), "")


def opened(file: Path, open_file: Callable[[Path], T]) -> T:
    """Open a SQLite file; one that is damaged, or of a version with other tables, is set aside first.

    Raises sqlite3.Error or OSError for what is no damage: no rights, a full disk, a lock.
    """
    reason = wrong_with(file)
    if not reason:
        try:
            return open_file(file)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            reason = f"of another version: {error}" if has_other_tables(error) else str(error)
    set_database_aside(file, reason)
    return open_file(file)


def set_database_aside(file: Path, reason: str) -> None:
    """A database with its journal: one without the other would be another database."""
    target = set_aside(file, reason)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{file}{suffix}").rename(f"{target}{suffix}")


def suspect(file: Path) -> Path:
    """A mark beside a database that gave a wrong answer: who opens it next looks at all of it."""
    return file.with_name(f"{file.name}.suspect")


def is_damage(error: Exception) -> bool:
    """Whether an error says that a database is not what it should be."""
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in _WRONG_FILE or has_other_tables(error)


def has_other_tables(error: Exception) -> bool:
    """Whether an error says that a database is of another version."""
    return any(sign in str(error) for sign in _OTHER_TABLES)


def wrong_with(file: Path) -> str:
    """What is wrong with a SQLite file, "" if nothing is seen.

    Its length is compared with what its header says. All of it is read only where there is a reason: a
    journal that nobody put away, which is what a killed session leaves, or a mark (``suspect``).
    """
    try:
        with file.open("rb") as stream:
            header = stream.read(_HEADER)
        size = file.stat().st_size
    except FileNotFoundError:
        return ""
    journal = Path(f"{file}-wal")
    unclean = journal.exists() and journal.stat().st_size > 0
    if size == 0:
        return ""  # as SQLite makes it
    if not unclean and (lacking := _lacking(header, size)):
        return lacking
    mark = suspect(file)
    if not unclean and not mark.exists():
        return ""
    found = _checked(file)
    mark.unlink(missing_ok=True)
    return found


def _lacking(header: bytes, size: int) -> str:
    if len(header) < _HEADER or not header.startswith(b"SQLite format 3\0"):
        return "it is no SQLite file"
    page = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    counted = header[24:28] == header[92:96]  # else the count is of an older version
    whole = pages * (65_536 if page == 1 else page)
    return f"it has {size} of {whole} bytes" if counted and size < whole else ""


def _checked(file: Path) -> str:
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=30)) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error) if is_damage(error) else ""
    return "" if answer == "ok" else str(answer).splitlines()[0]
