"""Directories and files made from others, as operations: the edits happen when something asks for the result.

They are cheap and follow from their inputs alone, so nothing of them is stored but the tree they end in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from embedded_engine.entries import DirEntry, TreeError
from embedded_engine.filters import Filter
from embedded_engine.operations import Outcome, Work, digest_of
from embedded_engine.tree_changes import Change, Filtered
from embedded_engine.tree_edits import parts_of
from embedded_engine.tree_sources import base_name, entry_of, in_thread, tree_of
from embedded_engine.values import Directory, File


@dataclass(frozen=True, slots=True)
class Edited:
    """A directory with one change made; the result's root is the directory itself."""

    keep: ClassVar[bool] = False
    kind: ClassVar[str] = "directory"
    base: Directory
    change: Change
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of("edited", self.base.digest, self.change.recipe()))

    @property
    def name(self) -> str:
        """The change's name."""
        return type(self.change).__name__

    async def run(self, work: Work) -> Outcome:
        """The tree with this and all changes before it, in a loop: chains are long. Raises TreeError."""
        known = work.trees.derived
        if self.digest in known:
            return Outcome(tree=known[self.digest])
        todo: list[Edited] = [self]
        while isinstance(before := todo[-1].base.source, Edited) and todo[-1].base.path == "/":
            if before.digest in known:
                break
            todo.append(before)
        first = todo[-1]
        if isinstance(first.change, Filtered):
            tree = await tree_of(work, todo.pop().base, first.change.wanted)
        else:
            tree = await tree_of(work, first.base)
        for one in reversed(todo):
            tree = await one.change.apply(work, tree)
        result = known[self.digest] = await in_thread(lambda: work.trees.put(tree))
        return Outcome(tree=result)


@dataclass(frozen=True, slots=True)
class EditedFile:
    """A tree of one file, made from another file."""

    keep: ClassVar[bool] = False
    kind: ClassVar[str] = "file"
    base: File
    called: str
    change: Change | None = None
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        recipe = self.change.recipe() if self.change else None
        object.__setattr__(self, "digest", digest_of("edited-file", self.base.digest, self.called, recipe))

    @property
    def name(self) -> str:
        """The file's name."""
        return self.called

    async def run(self, work: Work) -> Outcome:
        """Make it. Raises TreeError."""
        tree = DirEntry({self.called: await entry_of(work, self.base)})
        if self.change is not None:
            tree = await self.change.apply(work, tree)
        return Outcome(tree=await in_thread(lambda: work.trees.put(tree)))


def edited(directory: Directory, change: Change) -> Directory:
    """``directory`` with ``change`` made."""
    return Directory(Edited(directory, change))


def edited_file(file: File, *, change: Change | None = None, name: str = "") -> File:
    """``file`` (a tree of its own now) under ``name``, with ``change`` made."""
    called = name or base_name(file.path)
    return File(EditedFile(file, called, change), f"/{called}")


def filtered(
    directory: Directory,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    gitignore: bool = False,
) -> Directory:
    """``directory`` with only what the patterns take. Raises PatternError."""
    wanted = Filter(tuple(include), tuple(exclude), gitignore)
    if not wanted:
        return directory
    wanted.compiled()  # a bad pattern is told at once
    return edited(directory, Filtered(wanted))


def renamed(file: File, name: str) -> File:
    """``file`` called ``name``. Raises TreeError."""
    if "/" in name or name in ("", ".", ".."):
        raise TreeError(f'file name "{name}" must not contain a directory')
    return edited_file(file, name=name)


def with_path(directory: Directory, path: str) -> Directory:
    """The directory at ``path`` inside ``directory``; whether it is there shows when it is used."""
    inner = "/".join(parts_of(path))
    return replace(directory, path=f"{directory.path.rstrip('/')}/{inner}" if inner else directory.path)
