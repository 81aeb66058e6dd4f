"""What an SDK asks when it connects has the same answer in every session of a version of the engine.

So the introspection and the version are kept on disk and served at once, while GraphQL is still loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from embedded_engine import __version__

_MARK = "__schema"
_VERSION = re.compile(r"\s*(query\s*)?\{\s*(version\s*:\s*)?version\s*\}\s*")
_LIMIT = 8  # files kept


@dataclass(frozen=True, slots=True)
class IntrospectionCache:
    """Answers to what an SDK asks at its start, one file per query and schema."""

    directory: Path

    def find(self, query: str) -> bytes | None:
        """The stored answer, or None."""
        if not _is_constant(query):
            return None
        try:
            return self._file(query).read_bytes()
        except OSError:
            return None

    def offer(self, query: str, answer: bytes) -> None:
        """Keep ``answer`` if it is the same in every session; if it can't be written, nothing is lost."""
        if not _is_constant(query):
            return
        file = self._file(query)
        with contextlib.suppress(OSError):
            self.directory.mkdir(parents=True, exist_ok=True)
            others = sorted(self.directory.glob("*.json"), key=lambda one: one.stat().st_mtime)
            for old in others[: max(0, len(others) - _LIMIT + 1)]:
                old.unlink(missing_ok=True)
            draft = file.with_name(f"{file.name}.{os.getpid()}")
            draft.write_bytes(answer)
            draft.rename(file)

    def _file(self, query: str) -> Path:
        schema = resources.files("embedded_engine").joinpath("schema.graphql").read_bytes()
        key = hashlib.sha256(b"\0".join((__version__.encode(), schema, query.encode()))).hexdigest()
        return self.directory / f"{key}.json"


def _is_constant(query: str) -> bool:
    head = query.lstrip()[:200]
    introspection = head.startswith("query IntrospectionQuery") and _MARK in head
    return introspection or _VERSION.fullmatch(head) is not None
