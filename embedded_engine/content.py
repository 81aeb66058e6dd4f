"""Directories and files that follow from the tree store alone, identified by what is in them.

A filtered host directory is another recipe whenever any file there changes, but the same content if that
file was left out. Using the content in keys lets a change that cannot matter bust nothing.
"""

from __future__ import annotations

from typing import TypeVar

from embedded_engine.directories import Edited, EditedFile
from embedded_engine.entries import DirEntry
from embedded_engine.operations import Operation, TreeLeaf, Work
from embedded_engine.tree_sources import base_name, entry_of, in_thread, tree_of
from embedded_engine.values import Directory, File

S = TypeVar("S", Directory, File)


async def by_content(work: Work, value: S) -> S:
    """``value`` by content if no container is needed to know it, else as it is. Raises TreeError."""
    if value.source is None or not stands_on_trees(value.source):
        return value
    if isinstance(value, File):
        tree = DirEntry({base_name(value.path): await entry_of(work, value)})
        path = f"/{base_name(value.path)}"
    else:
        tree, path = await tree_of(work, value), "/"
    return type(value)(TreeLeaf(await in_thread(lambda: work.trees.put(tree))), path)


def stands_on_trees(source: Operation | None) -> bool:
    """Whether all that ``source`` is made of is in the tree store."""
    todo = [source]
    while todo:
        one = todo.pop()
        if isinstance(one, Edited | EditedFile):
            todo.append(one.base.source)
            todo.extend(part.source for part in _parts(one))
        elif one is not None and not isinstance(one, TreeLeaf):
            return False
    return True


def _parts(operation: Edited | EditedFile) -> list[Directory | File]:
    change = operation.change
    found = [getattr(change, "source", None), getattr(change, "other", None), *getattr(change, "sources", ())]
    return [part for part in found if isinstance(part, Directory | File)]
