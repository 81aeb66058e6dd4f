"""What the engine remembers between sessions: one SQLite file (WAL), safe for many sessions at once.

A row is written in one transaction after its snapshot or tree is complete, so a crash leaves none half true;
it is believed only while that snapshot or tree exists. Rows hold no secret's value: outputs come masked.

``use`` says when an operation was last asked for. It is written at the first use in a session, before the
outcome is believed, so that a ``gc`` beside the session sees it: one small write for each operation.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from embedded_engine.damage import opened
from embedded_engine.operations import Operation, Outcome, TreeId
from embedded_engine.runtime.port import JSON, Snapshot
from embedded_engine.state import hold_shared

_SCHEMA = """
CREATE TABLE IF NOT EXISTS operation (
    digest TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, snapshot TEXT, tree TEXT, config TEXT,
    exit_code INTEGER NOT NULL, stdout BLOB NOT NULL, stderr BLOB NOT NULL, combined BLOB NOT NULL,
    mounts TEXT NOT NULL, data TEXT, seconds REAL NOT NULL, made REAL NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS use (digest TEXT PRIMARY KEY, used REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fact (
    kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS promise (
    kind TEXT NOT NULL, id TEXT NOT NULL, place TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, id)
) WITHOUT ROWID;
"""
_COLUMNS = "snapshot, tree, config, exit_code, stdout, stderr, combined, mounts, data"
_SELECT = f"SELECT {_COLUMNS} FROM operation WHERE digest = ?"  # noqa: S608  # only our own names
_ALL = f"""
SELECT digest, kind, name, seconds, made, max(used, coalesce((SELECT used FROM use WHERE use.digest =
operation.digest), 0)), {_COLUMNS} FROM operation"""  # noqa: S608  # only our own names
_INSERT = "INSERT OR REPLACE INTO operation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One row: an operation's outcome, how long it took, when it was made and last asked for."""

    digest: str
    kind: str
    name: str
    outcome: Outcome
    seconds: float
    made: float
    used: float

    @property
    def trees(self) -> tuple[TreeId, ...]:
        """Every tree the outcome names."""
        mounts = tuple(tree for _, tree in self.outcome.mounts)
        return mounts if self.outcome.tree is None else (self.outcome.tree, *mounts)


@dataclass(slots=True)
class Store:
    """Outcomes by operation digest, and facts by (kind, key). Used from one thread."""

    database: sqlite3.Connection
    held: int | None = None
    used: set[str] = field(default_factory=set)
    """The operations this session asked for or ran."""
    kept: int = 0
    """How many it ran."""

    @classmethod
    def open(cls, file: Path, *, hold: bool = True) -> Store:
        """Open or make the file; its directory is in use from now on (no ``reset``). Raises sqlite3.Error."""
        file.parent.mkdir(parents=True, exist_ok=True)
        held = hold_shared(file.parent) if hold else None
        try:
            return cls(opened(file, _connected), held)
        except BaseException:
            if held is not None:
                os.close(held)
            raise

    def find(self, digest: str, exists: Callable[[Outcome], bool]) -> Outcome | None:
        """The stored outcome, if what it names still exists."""
        row = self.database.execute(_SELECT, (digest,)).fetchone()
        if row is None:
            return None
        outcome = _outcome(row)
        return outcome if exists(outcome) and self._touched(digest) else None

    def took(self, digest: str) -> float:
        """How many seconds the operation took when it ran; 0 if it is not stored."""
        row = self.database.execute("SELECT seconds FROM operation WHERE digest = ?", (digest,)).fetchone()
        return 0.0 if row is None else float(row[0])

    def keep(self, operation: Operation, name: str, outcome: Outcome, seconds: float) -> None:
        """Store a complete outcome under a (masked) name. Another session's row for the digest is as good."""
        now = time.time()
        self.kept += 1
        self._use(operation.digest, now)
        row = StoredRow(operation.digest, operation.kind, name, outcome, seconds, now, now)
        self.database.execute(_INSERT, _values(row))

    def rows(self) -> Iterator[StoredRow]:
        """Every row."""
        for row in self.database.execute(_ALL):
            yield StoredRow(row[0], row[1], row[2], _outcome(row[6:]), row[3], row[4], row[5])

    def adopt(self, rows: Iterable[StoredRow], exists: Callable[[Outcome], bool]) -> int:
        """Take over rows made elsewhere, except where a row of our own stands; gives how many were taken."""
        taken = 0
        with self._transaction():
            for row in rows:
                own = self.database.execute(_SELECT, (row.digest,)).fetchone()
                if own is None or not exists(_outcome(own)):
                    self.database.execute(_INSERT, _values(row))
                    taken += 1
        return taken

    def forget(self, digests: Iterable[str], unused_since: float | None = None) -> list[str]:
        """Drop these rows, except those asked for since then; gives the ones that went."""
        gone: list[str] = []
        limit = float("inf") if unused_since is None else unused_since
        statement = """DELETE FROM operation WHERE digest = ? AND used < ? AND NOT EXISTS
            (SELECT 1 FROM use WHERE use.digest = operation.digest AND use.used >= ?)"""
        with self._transaction():
            for digest in digests:
                if self.database.execute(statement, (digest, limit, limit)).rowcount:
                    gone.append(digest)
            self.database.executemany("DELETE FROM use WHERE digest = ?", [(one,) for one in gone])
        return gone

    def fact(self, kind: str, key: str) -> JSON:
        """What was remembered under (kind, key), or None."""
        row = self.database.execute(
            "SELECT value FROM fact WHERE kind = ? AND key = ?", (kind, key)
        ).fetchone()
        return None if row is None else cast(JSON, json.loads(row[0]))

    def facts(self, kind: str) -> dict[str, JSON]:
        """All that was remembered of one kind."""
        rows = self.database.execute("SELECT key, value FROM fact WHERE kind = ?", (kind,))
        return {key: json.loads(value) for key, value in rows}

    def remember(self, kind: str, key: str, value: JSON) -> None:
        """Store a fact, at once and for good."""
        self.database.execute("INSERT OR REPLACE INTO fact VALUES (?, ?, ?)", (kind, key, json.dumps(value)))

    def remember_once(self, kind: str, key: str, value: JSON) -> JSON:
        """Store a fact unless there is one; the one that stands is returned (two sessions agree)."""
        self.database.execute("INSERT OR IGNORE INTO fact VALUES (?, ?, ?)", (kind, key, json.dumps(value)))
        return self.fact(kind, key)

    def drop_facts(self, kind: str, keys: Iterable[str]) -> None:
        """Forget facts of one kind."""
        with self._transaction():
            self.database.executemany(
                "DELETE FROM fact WHERE kind = ? AND key = ?", [(kind, key) for key in keys]
            )

    def promise(self, kind: str, identity: str) -> tuple[str, JSON] | None:
        """Where a snapshot or tree could be fetched from, and what it is there."""
        statement = "SELECT place, value FROM promise WHERE kind = ? AND id = ?"
        row = self.database.execute(statement, (kind, identity)).fetchone()
        return None if row is None else (row[0], json.loads(row[1]))

    def any_promises(self) -> bool:
        """Whether anything was ever promised."""
        return self.database.execute("SELECT 1 FROM promise LIMIT 1").fetchone() is not None

    def add_promises(self, place: str, promises: Iterable[tuple[str, str, JSON]]) -> None:
        """Note what ``place`` has: (kind, id, what it is there)."""
        rows = [(kind, identity, place, json.dumps(value)) for kind, identity, value in promises]
        with self._transaction():
            self.database.executemany("INSERT OR REPLACE INTO promise VALUES (?, ?, ?, ?)", rows)

    def drop_promise(self, kind: str, identity: str) -> None:
        """What was promised can't be had."""
        self.database.execute("DELETE FROM promise WHERE kind = ? AND id = ?", (kind, identity))

    def close(self) -> None:
        """Close; the state directory is free again."""
        self.database.close()
        if self.held is not None:
            os.close(self.held)
            self.held = None

    def _touched(self, digest: str) -> bool:
        """Note the use of a row; False if a ``gc`` took it away in that moment."""
        if digest in self.used:
            return True
        self._use(digest, time.time())
        row = self.database.execute("SELECT 1 FROM operation WHERE digest = ?", (digest,)).fetchone()
        return row is not None

    def _use(self, digest: str, now: float) -> None:
        self.used.add(digest)
        with contextlib.suppress(sqlite3.OperationalError):  # a full disk must not make a hit a failure
            self.database.execute("INSERT OR REPLACE INTO use VALUES (?, ?)", (digest, now))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")


def _connected(file: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error, also if the tables are those of another version."""
    database = sqlite3.connect(file, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
        database.execute(f"EXPLAIN {_ALL}")
        database.execute(f"EXPLAIN {_INSERT}", (None,) * 15)
    except BaseException:
        database.close()
        raise
    return database


def _outcome(row: tuple[Any, ...]) -> Outcome:  # columns of SQLite have no static types
    snapshot, tree, config, exit_code, stdout, stderr, combined, mounts, data = row
    return Outcome(
        snapshot=None if snapshot is None else Snapshot(snapshot),
        tree=None if tree is None else TreeId(tree),
        config=None if config is None else json.loads(config),
        exit_code=exit_code,
        stdout=stdout,
        stderr=stderr,
        combined=combined,
        mounts=tuple((target, TreeId(tree)) for target, tree in json.loads(mounts)),
        data=None if data is None else json.loads(data),
    )


def _values(row: StoredRow) -> tuple[object, ...]:
    outcome = row.outcome
    return (
        row.digest,
        row.kind,
        row.name,
        outcome.snapshot,
        outcome.tree,
        None if outcome.config is None else json.dumps(outcome.config),
        outcome.exit_code,
        outcome.stdout,
        outcome.stderr,
        outcome.combined,
        json.dumps(outcome.mounts),
        None if outcome.data is None else json.dumps(outcome.data),
        row.seconds,
        row.made,
        row.used,
    )
