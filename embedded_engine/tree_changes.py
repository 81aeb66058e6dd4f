"""The changes the API knows of directories: each a value with a recipe, and a pure edit of a tree."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from embedded_engine import tree_edits
from embedded_engine.entries import DirEntry, FileEntry, LinkEntry, TreeError
from embedded_engine.evaluator import gathered
from embedded_engine.filters import Filter
from embedded_engine.operations import Work
from embedded_engine.owners import stamp_of
from embedded_engine.runtime.port import JSON
from embedded_engine.tree_sources import base_name, entry_of, in_thread, tree_of
from embedded_engine.values import Directory, File


class Change(Protocol):
    """One edit of a tree."""

    def recipe(self) -> JSON:
        """What of it makes the result: all of it, sources by digest."""
        ...

    async def apply(self, work: Work, tree: DirEntry) -> DirEntry:
        """The changed tree. Raises TreeError."""
        ...


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file with these bytes."""

    path: str
    data: bytes = field(repr=False)
    mode: int = 0o644

    def recipe(self) -> JSON:
        """All of it; the bytes by their hash."""
        return ["file", self.path, hashlib.sha256(self.data).hexdigest(), self.mode]

    async def apply(self, work: Work, tree: DirEntry) -> DirEntry:
        """Write it."""
        work.secrets.warn_of(self.data, f"the new file {self.path}")
        entry = await in_thread(lambda: work.trees.blobs.add_bytes(self.data, mode=self.mode))
        return tree_edits.write(tree, self.path, entry)


@dataclass(frozen=True, slots=True)
class CopiedFiles:
    """Files put at ``path``: into it when it is a directory or ends in "/"."""

    path: str
    sources: tuple[File, ...]
    mode: int | None = None
    owner: str = ""

    def recipe(self) -> JSON:
        """All of it."""
        sources: JSON = [[source.digest, base_name(source.path)] for source in self.sources]
        return ["copy-files", self.path, sources, self.mode, self.owner]

    async def apply(self, work: Work, tree: DirEntry) -> DirEntry:
        """Copy them."""
        entries = await gathered([partial(entry_of, work, source) for source in self.sources])
        stamp = await in_thread(lambda: stamp_of(work.trees, tree, self.owner, self.mode))
        for source, entry in zip(self.sources, entries, strict=True):
            tree = tree_edits.put_file(tree, self.path, stamp.on(entry), base_name(source.path))
        return tree


@dataclass(frozen=True, slots=True)
class Merged:
    """A directory's content put into ``path``."""

    path: str
    source: Directory
    mode: int | None = None
    owner: str = ""

    def recipe(self) -> JSON:
        """All of it."""
        return ["merge", self.path, self.source.digest, self.mode, self.owner]

    async def apply(self, work: Work, tree: DirEntry) -> DirEntry:
        """Merge it."""
        source = await tree_of(work, self.source)
        stamp = await in_thread(lambda: stamp_of(work.trees, tree, self.owner, self.mode))
        return await in_thread(lambda: tree_edits.merge(tree, self.path, source, stamp))


@dataclass(frozen=True, slots=True)
class MadeDirectory:
    """An (empty) directory at ``path``."""

    path: str
    mode: int

    def recipe(self) -> JSON:
        """All of it."""
        return ["make", self.path, self.mode]

    async def apply(self, work: Work, tree: DirEntry) -> DirEntry:
        """Make it."""
        return tree_edits.make_directory(tree, self.path, self.mode)


@dataclass(frozen=True, slots=True)
class Linked:
    """A symbolic link."""

    path: str
    target: str

    def recipe(self) -> JSON:
        """All of it."""
        return ["link", self.path, self.target]

    async def apply(self, work: Work, tree: DirEntry) -> DirEntry:
        """Make it."""
        return tree_edits.link(tree, self.path, LinkEntry(self.target))


@dataclass(frozen=True, slots=True)
class Without:
    """Paths taken away."""

    paths: tuple[str, ...]

    def recipe(self) -> JSON:
        """All of it."""
        return ["without", list(self.paths)]

    async def apply(self, work: Work, tree: DirEntry) -> DirEntry:
        """Remove them."""
        for path in self.paths:
            tree = tree_edits.remove(tree, path)
        return tree


@dataclass(frozen=True, slots=True)
class Stamped:
    """Another owner or mode for ``path`` and all below it."""

    path: str
    owner: str = ""
    mode: int | None = None

    def recipe(self) -> JSON:
        """All of it."""
        return ["stamp", self.path, self.owner, self.mode]

    async def apply(self, work: Work, tree: DirEntry) -> DirEntry:
        """Set them."""
        stamp = await in_thread(lambda: stamp_of(work.trees, tree, self.owner, self.mode))
        return tree_edits.stamped_at(tree, self.path, stamp)


@dataclass(frozen=True, slots=True)
class Timed:
    """One time for everything."""

    timestamp: int

    def recipe(self) -> JSON:
        """All of it."""
        return ["time", self.timestamp]

    async def apply(self, work: Work, tree: DirEntry) -> DirEntry:
        """Set it."""
        changed = tree_edits.with_mtime(tree, self.timestamp)
        return changed if isinstance(changed, DirEntry) else tree


@dataclass(frozen=True, slots=True)
class Filtered:
    """Only what ``wanted`` takes."""

    wanted: Filter

    def recipe(self) -> JSON:
        """All of it."""
        return ["filter", self.wanted.recipe()]

    async def apply(self, work: Work, tree: DirEntry) -> DirEntry:
        """Filter it."""
        return await in_thread(lambda: tree_edits.filtered(tree, self.wanted, work.trees.text))


@dataclass(frozen=True, slots=True)
class Difference:
    """What ``other`` has that the directory has not, or has otherwise."""

    other: Directory

    def recipe(self) -> JSON:
        """All of it."""
        return ["diff", self.other.digest]

    async def apply(self, work: Work, tree: DirEntry) -> DirEntry:
        """Compare."""
        upper = await tree_of(work, self.other)
        return await in_thread(lambda: tree_edits.difference(tree, upper))


@dataclass(frozen=True, slots=True)
class Replaced:
    """Text replaced in the file ``name``: one place, or every one (``all``), from line ``first`` on."""

    name: str
    search: str
    replacement: str
    everywhere: bool = False
    first: int | None = None

    def recipe(self) -> JSON:
        """All of it."""
        return ["replace", self.name, self.search, self.replacement, self.everywhere, self.first]

    async def apply(self, work: Work, tree: DirEntry) -> DirEntry:
        """Replace. Raises TreeError if the text is not there, or more than once and none was chosen."""
        entry = tree_edits.find_file(tree, self.name)
        data = await in_thread(lambda: self._replaced(work.trees.blobs.content(entry).read_bytes()))
        new = await in_thread(lambda: work.trees.blobs.add_bytes(data))
        kept = FileEntry(new.sha256, new.size, entry.mode, entry.uid, entry.gid, entry.mtime)
        return tree_edits.put(tree, self.name, kept)

    def _replaced(self, data: bytes) -> bytes:
        lines = data.splitlines(keepends=True)
        skipped = b"".join(lines[: max(0, (self.first or 1) - 1)])
        rest, search = data[len(skipped) :], self.search.encode()
        found = rest.count(search)
        if not found and not self.everywhere:
            raise TreeError("search string not found")
        if found > 1 and not self.everywhere and self.first is None:
            raise TreeError(f"search string found multiple times: {found}")
        return skipped + rest.replace(search, self.replacement.encode(), -1 if self.everywhere else 1)
