"""Directory trees by content: STATE/trees/<digest> is one as plain files, made when something needs it so.

Three layers: blobs (bytes), the index (what is in which directory), checkouts (hard links to blobs).
What has its name is whole: it is written aside and renamed into place. Nothing in a checkout may be
written to, as other trees share its inodes: who wants to write takes ``copy_out``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import anyio.to_thread

from embedded_engine.blobs import Blobs, copy_file, link_or_copy, own, set_metadata
from embedded_engine.entries import (
    DirEntry,
    Entry,
    FileEntry,
    LinkEntry,
    TreeError,
    parse_directory,
)
from embedded_engine.filters import Filter
from embedded_engine.host_import import Origin, Reader, rules_above, told
from embedded_engine.operations import TreeId
from embedded_engine.tree_index import TreeIndex

TREE = "tree"
_TREES_KEPT = 4096
_STARTING = "starting-"
_DIGEST_LENGTH = 64


class TreesElsewhere(Protocol):
    """Brings trees that are not in the store when something needs them (cache/promises.py)."""

    def has(self, kind: str, identity: str) -> bool:
        """Whether it could be had."""
        ...

    def restore_tree(self, tree: str) -> None:
        """Take it into the store. Raises lost.ContentLost."""
        ...


class Trees:
    """The store. Methods block (call them in a thread) and may be called from several threads."""

    def __init__(self, root: Path) -> None:
        """Open or create; what crashed sessions left half done is swept away."""
        self.root = root
        temp = root / "tmp"
        temp.mkdir(parents=True, exist_ok=True)
        self.token = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._alive = _claim(temp, self.token)
        _sweep(root, temp)
        self.blobs = Blobs(root / "files", temp / self.token)
        self.index = TreeIndex.open(root / "index.sqlite")
        self._loaded: dict[str, DirEntry] = {}
        self._stored: set[str] = set()
        self.derived: dict[str, TreeId] = {}
        """The trees that operations of this session ended in, by the operation's digest."""
        self.elsewhere: TreesElsewhere | None = None
        self._whole: set[str] = set()
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}

    @classmethod
    def open(cls, state: Path) -> Trees:
        """The store in the engine's state directory."""
        return cls(state / "trees")

    def close(self) -> None:
        """Give everything back; the content stays. Twice is fine."""
        if self._alive >= 0:
            self.index.close()
            remove_tree(self.blobs.temp)
            os.close(self._alive)
            self._alive = -1

    # --- trees by id

    def put(self, tree: DirEntry) -> TreeId:
        """Store ``tree``; its bytes are in the store already."""
        bodies: dict[str, bytes] = {}
        self._unstored(tree, bodies)
        if bodies:
            self.index.add_directories(bodies)
            self._stored.update(bodies)
        if len(self._loaded) > _TREES_KEPT:
            self._loaded.clear()
        self._loaded[tree.digest] = tree
        return TreeId(tree.digest)

    def _unstored(self, tree: DirEntry, bodies: dict[str, bytes]) -> None:
        if tree.digest in self._stored or tree.digest in bodies:
            return
        bodies[tree.digest] = tree.body
        for child in tree.children.values():
            if isinstance(child, DirEntry):
                self._unstored(child, bodies)

    def get(self, tree: TreeId) -> DirEntry:
        """The tree with this id, brought from elsewhere if need be. Raises TreeError or ContentLost."""
        self._bring(tree)
        return self._load(tree)

    def _bring(self, tree: TreeId) -> None:
        if self.elsewhere is None or tree in self._whole:
            return
        if not self.complete(tree) and self.elsewhere.has(TREE, tree):
            self.elsewhere.restore_tree(tree)
        self._whole.add(tree)

    def _load(self, digest: str) -> DirEntry:
        entry = self._loaded.get(digest)
        if entry is None:
            body = self.index.directory(digest)
            if body is None:
                raise TreeError("a stored directory is missing: run again with a new session")
            entry = parse_directory(body, self._load)
            self._loaded[digest] = entry
            self._stored.add(digest)
        return entry

    def has(self, tree: TreeId) -> bool:
        """Whether the tree and all its bytes are there, or can be had."""
        return self.complete(tree) or (self.elsewhere is not None and self.elsewhere.has(TREE, tree))

    def complete(self, tree: TreeId) -> bool:
        """Whether the tree and all its bytes are there."""
        try:
            return self._complete(self._load(tree))
        except TreeError:
            return False

    def _complete(self, tree: DirEntry) -> bool:
        for child in tree.children.values():
            if isinstance(child, FileEntry):
                if not self.blobs.has(child.sha256):
                    return False
            elif isinstance(child, DirEntry) and not self._complete(child):
                return False
        return True

    # --- into the store

    def read_directory(self, path: Path, origin: Origin, wanted: Filter = Filter()) -> DirEntry:  # noqa: B008
        """Take in a host directory (a link to one is followed). Raises TreeError or PatternError."""
        with told(origin.shown):
            real = path.resolve(strict=True)
            if not stat.S_ISDIR(real.stat().st_mode):
                raise TreeError(f"{origin.shown}: not a directory")
        rules = rules_above(real) if wanted.gitignore and origin.kind == "host" else ()
        tree = Reader(self.blobs, self.index, origin, wanted.compiled()).read(real, rules)
        self.put(tree)
        return tree

    def read_file(self, path: Path, origin: Origin) -> FileEntry:
        """Take in one host file (a link to one is followed). Raises TreeError."""
        with told(origin.shown):
            real = path.resolve(strict=True)
            found = real.stat()
        if stat.S_ISDIR(found.st_mode):
            raise TreeError(f"{origin.shown}: is a directory, not a file")
        if not stat.S_ISREG(found.st_mode):
            raise TreeError(f"{origin.shown}: not a regular file")
        return Reader(self.blobs, self.index, origin, Filter().compiled()).read_one(real, found)

    async def ingest(self, path: Path) -> TreeId:
        """Take in what an exec left in a writable mount; a file becomes a tree that holds it by its name."""
        return await anyio.to_thread.run_sync(self._ingest, path)

    def _ingest(self, path: Path) -> TreeId:
        origin = Origin("the mount", "container")
        if path.is_dir():
            return self.put(self.read_directory(path, origin))
        return self.put(DirEntry({path.name: self.read_file(path, origin)}))

    # --- out of the store

    def path(self, tree: TreeId) -> Path:
        """The tree as files, read only by agreement: its inodes are shared. Raises TreeError."""
        final = self.root / tree
        with self._lock:
            lock = self._making.setdefault(tree, threading.Lock())
        with lock:
            if final.is_dir():
                return final
            self._bring(tree)
            entry = self._load(tree)
            fresh = self.root / f".{self.token}-{tree}"
            try:
                _write_directory(entry, fresh, self._linked(set()))
                _into_place(fresh, final)
            finally:
                remove_tree(fresh)
        return final

    def copy_out(self, entry: DirEntry | FileEntry, target: Path) -> None:
        """A private copy at ``target`` (which must not exist), with modes, owners and times."""
        if isinstance(entry, DirEntry):
            _write_directory(entry, target, self._copied)
        else:
            self._copied(entry, target)

    def text(self, entry: FileEntry) -> str:
        """The content of a (small) file."""
        return self.blobs.content(entry).read_text("utf-8", "replace")

    def _linked(self, used: set[FileEntry]) -> Callable[[FileEntry, Path], None]:
        def link(entry: FileEntry, target: Path) -> None:
            if entry in used:  # two files of one tree never share an inode: they would leave as hard links
                self._copied(entry, target)
                return
            used.add(entry)
            link_or_copy(self.blobs.exact(entry), target, entry)

        return link

    def _copied(self, entry: FileEntry, target: Path) -> None:
        copy_file(self.blobs.content(entry), target)
        set_metadata(target, entry)

    # --- housekeeping

    def collect(self, keep: Iterable[TreeId]) -> int:
        """Drop all that ``keep`` does not need; gives the bytes freed. Only when no other session runs."""
        directories: set[str] = set()
        contents: set[str] = set()
        for tree in keep:
            with contextlib.suppress(TreeError):
                _mark(self._load(tree), directories, contents)
        before = _size_of(self.blobs.root)
        for checkout in self.root.iterdir():
            if len(checkout.name) == _DIGEST_LENGTH and checkout.name not in directories:
                remove_tree(checkout)
        self.index.remove_directories(set(self.index.all_directories()) - directories)
        self.blobs.drop_all_but(contents)
        self._loaded.clear()
        self._stored.clear()
        self._whole.clear()
        return before - _size_of(self.blobs.root)


def _mark(tree: DirEntry, directories: set[str], contents: set[str]) -> None:
    if tree.digest in directories:
        return
    directories.add(tree.digest)
    for child in tree.children.values():
        if isinstance(child, DirEntry):
            _mark(child, directories, contents)
        elif isinstance(child, FileEntry):
            contents.add(child.sha256)


def _write_directory(
    directory: DirEntry, target: Path, write_file: Callable[[FileEntry, Path], None]
) -> None:
    target.mkdir(mode=0o700)
    for name, child in directory.children.items():
        write_entry(child, target / name, write_file)
    own(target, directory.uid, directory.gid)
    target.chmod(directory.mode)
    os.utime(target, (directory.mtime, directory.mtime))


def write_entry(entry: Entry, target: Path, write_file: Callable[[FileEntry, Path], None]) -> None:
    """``entry`` as a new file, link or directory at ``target``."""
    if isinstance(entry, FileEntry):
        write_file(entry, target)
    elif isinstance(entry, LinkEntry):
        target.symlink_to(entry.target)
        own(target, entry.uid, entry.gid)
        os.utime(target, (entry.mtime, entry.mtime), follow_symlinks=False)
    else:
        _write_directory(entry, target, write_file)


def _into_place(fresh: Path, final: Path) -> None:
    try:
        fresh.rename(final)
    except OSError:
        if not final.is_dir():  # else another session was quicker, with the same content
            raise


def remove_tree(path: Path) -> None:
    """Remove a directory whatever its modes; one that is not there is no error."""
    if not path.is_dir():
        return
    if os.geteuid():
        for directory, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                Path(directory).chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)


def _claim(temp: Path, token: str) -> int:
    """A temporary directory for this process, locked for as long as it lives."""
    starting = temp / f"{_STARTING}{token}"
    starting.mkdir()
    alive = os.open(starting / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(alive, fcntl.LOCK_EX)
    starting.rename(temp / token)
    return alive


def _sweep(root: Path, temp: Path) -> None:
    for leftover in _dead(temp):
        for checkout in root.glob(f".{leftover.name}-*"):
            remove_tree(checkout)
        remove_tree(leftover)


def _dead(temp: Path) -> Iterator[Path]:
    """Temporary directories whose session holds its lock no more."""
    for directory in temp.iterdir():
        if directory.name.startswith(_STARTING):
            continue  # has no lock yet
        try:
            with (directory / "alive").open("r+") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        yield directory


def _size_of(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
