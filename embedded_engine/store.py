"""What the engine remembers between sessions: one SQLite file (WAL), safe for many sessions at once.

A row is written in one transaction after its snapshot or tree is complete, so a crash leaves none half true;
it is believed only while that snapshot or tree exists. Rows hold no secret's value: outputs come masked.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from embedded_engine.operations import Operation, Outcome, TreeId
from embedded_engine.runtime.port import JSON, Snapshot

_SCHEMA = """
CREATE TABLE IF NOT EXISTS operation (
    digest TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, snapshot TEXT, tree TEXT, config TEXT,
    exit_code INTEGER NOT NULL, stdout BLOB NOT NULL, stderr BLOB NOT NULL, combined BLOB NOT NULL,
    mounts TEXT NOT NULL, data TEXT, seconds REAL NOT NULL, made REAL NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fact (
    kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
"""
_COLUMNS = "snapshot, tree, config, exit_code, stdout, stderr, combined, mounts, data"
_SELECT = f"SELECT {_COLUMNS} FROM operation WHERE digest = ?"  # noqa: S608  # only our own names


@dataclass(slots=True)
class Store:
    """Outcomes by operation digest, and facts by (kind, key). Used from one thread."""

    database: sqlite3.Connection
    used: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, file: Path) -> Store:
        """Open or make the file. Raises sqlite3.Error."""
        file.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(file, timeout=30, isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
        return cls(database)

    def find(self, digest: str, exists: Callable[[Outcome], bool]) -> Outcome | None:
        """The stored outcome, if what it names still exists."""
        row = self.database.execute(_SELECT, (digest,)).fetchone()
        if row is None:
            return None
        snapshot, tree, config, exit_code, stdout, stderr, combined, mounts, data = row
        outcome = Outcome(
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
        if not exists(outcome):
            return None
        self.used.add(digest)
        return outcome

    def keep(self, operation: Operation, name: str, outcome: Outcome, seconds: float) -> None:
        """Store a complete outcome under a (masked) name. Another session's row for the digest is as good."""
        now = time.time()
        row = (
            operation.digest,
            operation.kind,
            name,
            outcome.snapshot,
            outcome.tree,
            None if outcome.config is None else json.dumps(outcome.config),
            outcome.exit_code,
            outcome.stdout,
            outcome.stderr,
            outcome.combined,
            json.dumps(outcome.mounts),
            None if outcome.data is None else json.dumps(outcome.data),
            seconds,
            now,
            now,
        )
        marks = ", ".join("?" * len(row))
        self.database.execute(f"INSERT OR REPLACE INTO operation VALUES ({marks})", row)  # noqa: S608  # only marks

    def fact(self, kind: str, key: str) -> JSON:
        """What was remembered under (kind, key), or None."""
        row = self.database.execute(
            "SELECT value FROM fact WHERE kind = ? AND key = ?", (kind, key)
        ).fetchone()
        return None if row is None else cast(JSON, json.loads(row[0]))

    def remember(self, kind: str, key: str, value: JSON) -> None:
        """Store a fact, at once and for good."""
        self.database.execute("INSERT OR REPLACE INTO fact VALUES (?, ?, ?)", (kind, key, json.dumps(value)))

    def remember_once(self, kind: str, key: str, value: JSON) -> JSON:
        """Store a fact unless there is one; the one that stands is returned (two sessions agree)."""
        self.database.execute("INSERT OR IGNORE INTO fact VALUES (?, ?, ?)", (kind, key, json.dumps(value)))
        return self.fact(kind, key)

    def close(self) -> None:
        """Note what was used (for least-recent-use) and close."""
        now = time.time()
        self.database.execute("BEGIN IMMEDIATE")
        self.database.executemany(
            "UPDATE operation SET used = ? WHERE digest = ?", [(now, d) for d in self.used]
        )
        self.database.execute("COMMIT")
        self.database.close()
