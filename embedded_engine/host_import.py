"""Reading a host directory into the tree store: its bytes go in once, unchanged files are not read again."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from embedded_engine.blobs import Blobs
from embedded_engine.entries import DirEntry, Entry, FileEntry, LinkEntry, TreeError
from embedded_engine.filters import IgnoreFile, Rules, Selection, ignore_file
from embedded_engine.tree_index import Fingerprint, TreeIndex

_LARGE = 4 << 20
_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
Hashes = dict[bytes, tuple[Fingerprint, str]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where files come from: how its paths are told to the user and what is kept of them.

    ``host``: ownership becomes 0:0, pipes and devices are refused. ``container``: ownership is kept, and what
    is no file, directory or link is left out.
    """

    shown: str
    kind: Literal["host", "container"] = "host"

    def path(self, relative: str) -> str:
        """A path as the user knows it."""
        if not relative:
            return self.shown
        return relative if self.shown == "." else f"{self.shown.rstrip('/')}/{relative}"


@dataclass(slots=True)
class Reader:
    """One walk over one directory. Use ``read`` once."""

    blobs: Blobs
    index: TreeIndex
    origin: Origin
    selection: Selection
    known: Hashes = field(default_factory=dict)
    learned: Hashes = field(default_factory=dict)
    _pool: ThreadPoolExecutor | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, root: Path, rules: Rules = ()) -> DirEntry:
        """The directory at ``root`` (a real path), its own mode taken as 0755. Raises TreeError."""
        self.known = self.index.hashes_below(os.fsencode(root))
        try:
            with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2)) as self._pool:
                children = self._children(os.fspath(root), "", rules)
                return DirEntry(_awaited(children))
        finally:
            self.index.add_hashes(self.learned)

    def read_one(self, file: Path, found: os.stat_result) -> FileEntry:
        """The regular file at ``file`` (a real path). Raises TreeError."""
        key = os.fsencode(file)
        remembered = self.index.hash_of(key)
        if remembered:
            self.known[key] = remembered
        entry = self._file(os.fspath(file), found, self.origin.shown)
        self.index.add_hashes(self.learned)
        return entry if isinstance(entry, FileEntry) else entry.result()

    def _children(self, directory: str, prefix: str, rules: Rules) -> dict[str, Entry | Future[FileEntry]]:
        with told(self.origin.path(prefix.rstrip("/"))), os.scandir(directory) as scan:
            items = list(scan)
        if self.selection.gitignore:
            rules = (*rules, *_own_rules(items, prefix.rstrip("/")))
        children: dict[str, Entry | Future[FileEntry]] = {}
        for item in items:
            path = prefix + item.name
            is_directory = item.is_dir(follow_symlinks=False)
            kept = self.selection.keeps(path, rules, directory=is_directory)
            if not is_directory:
                entry = self._leaf(item, path) if kept else None
            elif self.selection.enters(path, rules):
                below = () if item.name == ".git" else rules
                entry = self._directory(item, path, below, kept=kept)
            else:
                entry = None
            if entry is not None:
                children[item.name] = entry
        return children

    def _directory(self, item: os.DirEntry[str], path: str, rules: Rules, *, kept: bool) -> DirEntry | None:
        children = _awaited(self._children(item.path, path + "/", rules))
        if not kept and not children:
            return None
        with told(self.origin.path(path)):
            found = item.stat(follow_symlinks=False)
        uid, gid = self._owner(found)
        return DirEntry(children, stat.S_IMODE(found.st_mode), uid, gid)

    def _leaf(self, item: os.DirEntry[str], path: str) -> Entry | Future[FileEntry] | None:
        shown = self.origin.path(path)
        with told(shown):
            try:
                found = item.stat(follow_symlinks=False)
            except FileNotFoundError:
                return None  # gone since it was listed: an editor's or a lock file
            if stat.S_ISLNK(found.st_mode):
                return LinkEntry(os.readlink(item), *self._owner(found))  # noqa: PTH115 - as text, untouched
        if stat.S_ISREG(found.st_mode):
            return self._file(item.path, found, shown)
        if stat.S_ISSOCK(found.st_mode) or self.origin.kind == "container":
            return None  # a socket is nothing without its listener: left out, as docker does
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "not a file")
        raise TreeError(f"{shown}: {kind} cannot be loaded; leave it out with exclude")

    def _file(self, path: str, found: os.stat_result, shown: str) -> FileEntry | Future[FileEntry]:
        mode = stat.S_IMODE(found.st_mode)
        uid, gid = self._owner(found)
        remembered = self.known.get(os.fsencode(path))
        if remembered and remembered[0] == Fingerprint.of(found):
            entry = FileEntry(remembered[1], found.st_size, mode, uid, gid)
            if self.blobs.has(entry.sha256):
                return entry
        if found.st_size < _LARGE or self._pool is None:
            return self._load(path, mode, (uid, gid), shown)
        return self._pool.submit(self._load, path, mode, (uid, gid), shown)

    def _load(self, path: str, mode: int, owner: tuple[int, int], shown: str) -> FileEntry:
        with told(shown):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            before = Fingerprint.of(os.fstat(descriptor))
            stored = self.blobs.add_stream(descriptor, mode=mode)
            unchanged = before == Fingerprint.of(os.fstat(descriptor)) and before.settled()
        finally:
            os.close(descriptor)
        if unchanged:
            with self._lock:
                self.learned[os.fsencode(path)] = (before, stored.sha256)
        return FileEntry(stored.sha256, stored.size, mode, *owner)

    def _owner(self, found: os.stat_result) -> tuple[int, int]:
        if self.origin.kind == "host" or os.geteuid():
            return 0, 0
        return found.st_uid, found.st_gid


class told:  # noqa: N801 - reads as a word at its use
    """Turns an OSError into the TreeError the user gets, with the user's own path."""

    def __init__(self, shown: str, doing: str = "stat") -> None:
        self._shown = shown
        self._doing = doing

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            reason = os.strerror(error.errno or 0).lower()
            raise TreeError(f"{self._doing} {self._shown}: {reason}") from error


def _awaited(children: dict[str, Entry | Future[FileEntry]]) -> dict[str, Entry]:
    return {name: e.result() if isinstance(e, Future) else e for name, e in children.items()}


def _own_rules(items: list[os.DirEntry[str]], directory: str) -> Iterator[IgnoreFile]:
    for item in items:
        if item.name == ".gitignore" and item.is_file():
            yield ignore_file(Path(item.path).read_text("utf-8", "replace"), directory=directory)


def rules_above(root: Path) -> Rules:
    """The .gitignore files between the Git repository that ``root`` is in and ``root``, outermost first."""
    found: list[Path] = []
    for directory in (root, *root.parents):
        if directory != root:
            found.append(directory)
        if (directory / ".git").exists():
            return tuple(_rules_of(directory, root) for directory in reversed(found) if _has_rules(directory))
    return ()


def _has_rules(directory: Path) -> bool:
    return (directory / ".gitignore").is_file()


def _rules_of(directory: Path, root: Path) -> IgnoreFile:
    text = (directory / ".gitignore").read_text("utf-8", "replace")
    return ignore_file(text, above=root.relative_to(directory).as_posix())
