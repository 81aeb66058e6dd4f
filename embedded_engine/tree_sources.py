"""From a directory or file of the API to what it is in the tree store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

import anyio.to_thread

from embedded_engine.entries import EMPTY, DirEntry, FileEntry, TreeError
from embedded_engine.filters import Filter
from embedded_engine.host_import import Origin
from embedded_engine.operations import Outcome, Work, digest_of
from embedded_engine.paths import inside
from embedded_engine.tree_edits import filtered, find_directory, find_file
from embedded_engine.values import Directory, File

T = TypeVar("T")
_MADE_HERE = ("tree", "directory", "file")


@dataclass(frozen=True, slots=True)
class TakenIn:
    """A directory of a container's file system, or what ``wanted`` takes of it, as a tree of the store."""

    keep: ClassVar[bool] = True
    kind: ClassVar[str] = "take-in"
    base: Directory
    wanted: Filter = field(default_factory=Filter)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of("taken-in", self.base.digest, self.wanted.recipe()))

    @property
    def name(self) -> str:
        """The path."""
        return f"directory {self.base.path}"

    async def run(self, work: Work) -> Outcome:
        """Read it into the store. Raises TreeError."""
        origin = Origin(self.base.path, "container")
        async with work.view(self.base.source) as root, work.slot():
            entry = await in_thread(
                lambda: work.trees.read_directory(inside(root, self.base.path), origin, self.wanted)
            )
        return Outcome(tree=work.trees.put(entry))


async def in_thread(call: Callable[[], T]) -> T:
    """``call`` where it does not hold up other requests."""
    return await anyio.to_thread.run_sync(call)


async def tree_of(work: Work, directory: Directory, wanted: Filter | None = None) -> DirEntry:
    """The content of ``directory``, or what ``wanted`` takes of it; the rest of a container is not read.

    Raises TreeError, or what the source's evaluation raises.
    """
    if directory.source is None:
        return find_directory(EMPTY, directory.path)
    return await work.recovering(lambda: _tree_of(work, directory, wanted or Filter()))


async def _tree_of(work: Work, directory: Directory, wanted: Filter) -> DirEntry:
    assert directory.source is not None  # noqa: S101  # tree_of looked
    outcome = await work.result(directory.source)
    tree, path = outcome.tree, directory.path
    if tree is None:
        tree, path = (await work.result(TakenIn(directory, wanted))).tree, "/"
        wanted = Filter()
    if tree is None:
        return EMPTY
    found, said = tree, told_path(directory) if path != "/" else "/"

    def look() -> DirEntry:
        inner = find_directory(work.trees.get(found), said)
        return filtered(inner, wanted, work.trees.text)

    return await in_thread(look)


async def entry_of(work: Work, file: File) -> FileEntry:
    """The file as it is in the store. Raises TreeError, or what its source's evaluation raises."""
    if file.source is None:
        raise TreeError(f"stat {file.path}: no such file or directory")
    return await work.recovering(lambda: _entry_of(work, file))


async def _entry_of(work: Work, file: File) -> FileEntry:
    assert file.source is not None  # noqa: S101  # entry_of looked
    tree = (await work.result(file.source)).tree
    if tree is not None:
        return await in_thread(lambda: find_file(work.trees.get(tree), told_path(file)))
    origin = Origin(file.path, "container")
    async with work.view(file.source) as root:
        return await in_thread(lambda: work.trees.read_file(inside(root, file.path), origin))


def told_path(value: Directory | File) -> str:
    """The path as the user gave it: relative in a directory, absolute in a container."""
    made_here = value.source is None or value.source.kind in _MADE_HERE
    return value.path.lstrip("/") or "/" if made_here else value.path


def base_name(path: str) -> str:
    """The last part of a path."""
    return path.rstrip("/").rpartition("/")[2]
