"""Owners as the API names them: "1000", "1000:1000", or names of a tree's /etc/passwd and /etc/group."""

from __future__ import annotations

from embedded_engine.entries import DirEntry, FileEntry, TreeError
from embedded_engine.tree_edits import NO_STAMP, Stamp, find
from embedded_engine.trees import Trees


def stamp_of(trees: Trees, tree: DirEntry, owner: str, mode: int | None) -> Stamp:
    """What ``owner`` and ``mode`` mean in ``tree``; a group left out is the user. Raises TreeError."""
    if not owner:
        return NO_STAMP if mode is None else Stamp(mode=mode)
    user, colon, group = owner.partition(":")
    uid = _number(trees, tree, user, "/etc/passwd", "user")
    gid = _number(trees, tree, group, "/etc/group", "group") if colon else uid
    return Stamp(uid, gid, mode)


def _number(trees: Trees, tree: DirEntry, name: str, table: str, kind: str) -> int:
    if name.isascii() and name.isdigit():
        return int(name)
    listed = find(tree, table)
    lines = trees.text(listed).splitlines() if isinstance(listed, FileEntry) else []
    for line in lines:
        fields = line.split(":")
        if len(fields) > 2 and fields[0] == name and fields[2].isdigit():
            return int(fields[2])
    reason = f"{table} does not name it" if lines else f"the directory has no {table}: use a number"
    raise TreeError(f'unable to find {kind} "{name}": {reason}')
