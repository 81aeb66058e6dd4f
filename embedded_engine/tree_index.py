"""What the tree store remembers in SQLite: directories by digest, hashes of host files by their stat."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from embedded_engine.damage import opened

_SCHEMA = """
create table if not exists directories (digest text primary key, body blob not null) without rowid;
create table if not exists hashes (
    path blob primary key, device int, inode int, size int, mtime int, ctime int, sha256 text not null
) without rowid;
"""
_SQLITE_MAX = (1 << 63) - 1
_RACY_NS = 100_000_000
"""A file changed this shortly before it was read may change again without a new time: not remembered."""


class Fingerprint(NamedTuple):
    """What says that a host file is still the one that was hashed."""

    device: int
    inode: int
    size: int
    mtime: int
    ctime: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Fingerprint:
        """From a stat."""
        return cls(stat.st_dev, stat.st_ino & _SQLITE_MAX, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    def settled(self) -> bool:
        """Whether a later change would show in the times."""
        return time.time_ns() - max(self.mtime, self.ctime) > _RACY_NS


def _connected(file: Path) -> sqlite3.Connection:
    db = sqlite3.connect(file, timeout=60, check_same_thread=False, isolation_level=None)
    try:
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=normal")
        db.executescript(_SCHEMA)
        db.execute("explain insert into hashes values (?, ?, ?, ?, ?, ?, ?)", (None,) * 7)
    except BaseException:
        db.close()
        raise
    return db


@dataclass(slots=True)
class TreeIndex:
    """One SQLite file, used by several threads and processes."""

    _db: sqlite3.Connection
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, file: Path) -> TreeIndex:
        """Open or create; one that is damaged is set aside first."""
        return cls(opened(file, _connected))

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._db.close()

    def directory(self, digest: str) -> bytes | None:
        """The text of a directory."""
        with self._lock:
            row = self._db.execute("select body from directories where digest = ?", (digest,)).fetchone()
        return bytes(row[0]) if row else None

    def add_directories(self, bodies: Mapping[str, bytes]) -> None:
        """All of them, or none."""
        self._write("insert or ignore into directories values (?, ?)", bodies.items())

    def remove_directories(self, digests: Iterable[str]) -> None:
        """Forget these."""
        self._write("delete from directories where digest = ?", [(digest,) for digest in digests])

    def all_directories(self) -> list[str]:
        """Every digest there is."""
        with self._lock:
            return [row[0] for row in self._db.execute("select digest from directories")]

    def hashes_below(self, root: bytes) -> dict[bytes, tuple[Fingerprint, str]]:
        """What is known of the files under the directory ``root``."""
        query = "select * from hashes where path >= ? and path < ?"
        with self._lock:
            rows = self._db.execute(query, (root + b"/", root + b"0")).fetchall()
        return {row[0]: (Fingerprint(*row[1:6]), row[6]) for row in rows}

    def hash_of(self, path: bytes) -> tuple[Fingerprint, str] | None:
        """What is known of one file."""
        with self._lock:
            row = self._db.execute("select * from hashes where path = ?", (path,)).fetchone()
        return (Fingerprint(*row[1:6]), row[6]) if row else None

    def add_hashes(self, hashes: Mapping[bytes, tuple[Fingerprint, str]]) -> None:
        """Remember these."""
        rows = [(path, *fingerprint, sha256) for path, (fingerprint, sha256) in hashes.items()]
        self._write("insert or replace into hashes values (?, ?, ?, ?, ?, ?, ?)", rows)

    def _write(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        rows = list(rows)
        if not rows:
            return
        with self._lock:
            self._db.execute("begin immediate")
            try:
                self._db.executemany(statement, rows)
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")
