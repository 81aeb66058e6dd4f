"""The host's directories and files as a session sees them: each set of arguments is loaded once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from embedded_engine.entries import DirEntry
from embedded_engine.filters import Filter
from embedded_engine.host_import import Origin
from embedded_engine.operations import TreeId, TreeLeaf
from embedded_engine.tree_sources import in_thread
from embedded_engine.trees import Trees
from embedded_engine.values import Directory, File

Key = tuple[str, Filter | None]


@dataclass(slots=True)
class HostFiles:
    """Paths are relative to the session's directory; ``..`` and absolute ones are allowed."""

    workdir: Path
    trees: Trees
    _loaded: dict[Key, TreeId] = field(default_factory=dict)
    _locks: dict[Key, anyio.Lock] = field(default_factory=dict)

    async def directory(self, path: str, wanted: Filter, *, fresh: bool = False) -> Directory:
        """A host directory; ``fresh`` looks again. Raises TreeError or PatternError."""
        wanted.compiled()
        where = self.absolute(path)

        def load() -> TreeId:
            return self.trees.put(self.trees.read_directory(where, Origin(path), wanted))

        return Directory(TreeLeaf(await self._once((os.fspath(where), wanted), load, fresh=fresh)))

    async def file(self, path: str, *, fresh: bool = False) -> File:
        """A host file; ``fresh`` looks again. Raises TreeError."""
        where = self.absolute(path)

        def load() -> TreeId:
            return self.trees.put(DirEntry({where.name: self.trees.read_file(where, Origin(path))}))

        return File(TreeLeaf(await self._once((os.fspath(where), None), load, fresh=fresh)), f"/{where.name}")

    async def find_up(self, name: str) -> str | None:
        """Where ``name`` is: in the session's directory or the nearest above it, relative to the former."""

        def look() -> str | None:
            for directory in (self.workdir, *self.workdir.parents):
                if os.path.lexists(directory / name):
                    return os.path.relpath(directory / name, self.workdir)
            return None

        return await in_thread(look)

    def absolute(self, path: str) -> Path:
        """The host path that ``path`` means; ``~/`` is the user's home."""
        chosen = Path(path).expanduser() if path.startswith("~/") else Path(path)
        return Path(os.path.normpath(self.workdir / chosen))

    async def _once(self, key: Key, load: Callable[[], TreeId], *, fresh: bool) -> TreeId:
        async with self._locks.setdefault(key, anyio.Lock()):
            if fresh or key not in self._loaded:
                self._loaded[key] = await in_thread(load)
            return self._loaded[key]
