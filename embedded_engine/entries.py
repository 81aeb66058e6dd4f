"""What a tree is made of: files, links and directories as immutable values with a content digest.

Modes, owners and bytes count; times only where someone set them (``withTimestamps``): all else has one
constant time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from embedded_engine.runtime.port import RuntimeFailure

EPOCH = 315_532_800
"""1980-01-01: the time of everything whose time nobody set (zip archives cannot hold an earlier one)."""


class TreeError(RuntimeFailure):
    """A path that is not there or not of the kind asked for; in the user's own paths."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A regular file; its bytes are in the store under ``sha256``."""

    sha256: str
    size: int
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = EPOCH


@dataclass(frozen=True, slots=True)
class LinkEntry:
    """A symbolic link, kept as it is: it may point nowhere or out of the tree."""

    target: str
    uid: int = 0
    gid: int = 0
    mtime: int = EPOCH


@dataclass(frozen=True, slots=True, eq=False)
class DirEntry:
    """A directory. Equal content is told by ``digest``."""

    children: Mapping[str, Entry] = field(default_factory=dict)
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = EPOCH
    _body: list[bytes] = field(default_factory=list, init=False, repr=False)
    _digest: list[str] = field(default_factory=list, init=False, repr=False)

    @property
    def body(self) -> bytes:
        """The canonical text: subdirectories by digest, everything sorted."""
        if not self._body:
            rows = [_row(name, self.children[name]) for name in sorted(self.children)]
            text = json.dumps([self.mode, self.uid, self.gid, self.mtime, rows], separators=(",", ":"))
            self._body.append(text.encode("ascii"))
        return self._body[0]

    @property
    def digest(self) -> str:
        """sha256 (64 hex digits) over the whole tree below."""
        if not self._digest:
            self._digest.append(hashlib.sha256(self.body).hexdigest())
        return self._digest[0]


Entry: TypeAlias = FileEntry | LinkEntry | DirEntry
Row: TypeAlias = "list[str | int]"

EMPTY = DirEntry()


def _row(name: str, entry: Entry) -> Row:
    if isinstance(entry, FileEntry):
        return [name, "f", entry.sha256, entry.size, entry.mode, entry.uid, entry.gid, entry.mtime]
    if isinstance(entry, LinkEntry):
        return [name, "l", entry.target, entry.uid, entry.gid, entry.mtime]
    return [name, "d", entry.digest]


def parse_directory(body: bytes, load: Callable[[str], DirEntry]) -> DirEntry:
    """The directory that ``body`` describes; ``load`` gives its subdirectories by digest."""
    mode, uid, gid, mtime, rows = json.loads(body)
    children: dict[str, Entry] = {}
    for name, kind, *rest in rows:
        if kind == "f":
            children[name] = FileEntry(*rest)
        elif kind == "l":
            children[name] = LinkEntry(*rest)
        else:
            children[name] = load(rest[0])
    return DirEntry(children, mode, uid, gid, mtime)


def file_digest(entry: FileEntry, *, metadata: bool = True) -> str:
    """``sha256:...`` of a file's bytes, or of these with mode, owner and time."""
    if not metadata:
        return f"sha256:{entry.sha256}"
    text = json.dumps(_row("", entry), separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode('ascii')).hexdigest()}"


def walk(directory: DirEntry, prefix: str = "") -> Iterator[tuple[str, Entry]]:
    """Every entry below, with its relative path; a directory comes before its content, names sorted."""
    for name in sorted(directory.children):
        entry = directory.children[name]
        path = prefix + name
        yield path, entry
        if isinstance(entry, DirEntry):
            yield from walk(entry, path + "/")
