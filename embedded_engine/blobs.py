"""The bytes of files: one inode for each combination of content, mode, owner and time, shared by hard links.

A blob is never changed after it got its name. One that does not look as it was left (size or time) is not
believed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from embedded_engine.entries import FileEntry, TreeError

CHUNK = 1 << 20
_FICLONE = 0x40049409  # ioctl: share the blocks of another file (Btrfs, XFS)


@dataclass(slots=True)
class Blobs:
    """A directory of blobs; ``temp`` is a directory of this process on the same file system."""

    root: Path
    temp: Path
    _seen: dict[str, set[str]] = field(default_factory=dict)
    _serial: Iterator[int] = field(default_factory=itertools.count)

    def path(self, entry: FileEntry) -> Path:
        """Where the blob of ``entry`` is, if it is there."""
        return self.root / entry.sha256[:2] / _name(entry)

    def has(self, sha256: str) -> bool:
        """Whether this content is there, by its bucket's listing: cheap, and checked again at its use."""
        bucket = sha256[:2]
        if bucket not in self._seen:
            self._seen[bucket] = _contents(self.root / bucket)
        return sha256 in self._seen[bucket]

    def add_bytes(self, data: bytes, *, mode: int = 0o644) -> FileEntry:
        """Store ``data``."""
        entry = FileEntry(hashlib.sha256(data).hexdigest(), len(data), _readable(mode))
        if not self.has(entry.sha256):
            with self._fresh() as (target, descriptor):
                _write_all(descriptor, data)
                self._keep(target, descriptor, entry)
        return replace(entry, mode=mode)

    def add_stream(self, source: int, *, mode: int = 0o644) -> FileEntry:
        """Store what the open file ``source`` holds, in bounded memory."""
        first = os.read(source, CHUNK)
        if len(first) < CHUNK:
            rest = os.read(source, CHUNK)
            if not rest:
                return self.add_bytes(first, mode=mode)
            first += rest
        with self._fresh() as (target, descriptor):
            sha256, size = _copy_hashed(first, source, descriptor)
            entry = FileEntry(sha256, size, _readable(mode))
            if not self.has(entry.sha256):
                self._keep(target, descriptor, entry)
        return replace(entry, mode=mode)

    def content(self, entry: FileEntry) -> Path:
        """A readable file with the content of ``entry``, whatever its mode and owner. Raises TreeError."""
        plain = (entry, replace(entry, mode=_readable(entry.mode)))
        stored = (FileEntry(entry.sha256, entry.size, mode) for mode in (0o644, 0o755))
        for candidate in (*plain, *stored):
            path = self.path(candidate)
            if intact(path, candidate) and os.access(path, os.R_OK):
                return path
        for path in sorted((self.root / entry.sha256[:2]).glob(f"{entry.sha256}.*")):
            if path.stat().st_size == entry.size and os.access(path, os.R_OK):
                return path
        self._seen.pop(entry.sha256[:2], None)
        raise TreeError(
            "a stored file is missing or damaged: run again with a new session, it is loaded anew"
        )

    def exact(self, entry: FileEntry) -> Path:
        """The blob with exactly the mode, owner and time of ``entry``, made from another one if need be."""
        path = self.path(entry)
        if intact(path, entry):
            return path
        path.unlink(missing_ok=True)
        source = self.content(entry)
        with self._fresh() as (target, descriptor):
            copy_bytes(source, descriptor)
            self._keep(target, descriptor, entry)
        return path

    def drop_all_but(self, contents: set[str]) -> None:
        """Remove every blob whose content is not among ``contents``."""
        self._seen.clear()
        for bucket in self.root.iterdir() if self.root.is_dir() else ():
            for blob in bucket.iterdir():
                if blob.name[:64] not in contents:
                    blob.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _fresh(self) -> Iterator[tuple[str, int]]:
        target = f"{self.temp}/blob-{next(self._serial)}"  # text: paths as objects cost more than the files
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield target, descriptor
        finally:
            os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target)  # noqa: PTH108

    def _keep(self, target: str, descriptor: int, entry: FileEntry) -> None:
        set_metadata(descriptor, entry)
        bucket = entry.sha256[:2]
        path = f"{self.root}/{bucket}/{_name(entry)}"
        try:
            os.rename(target, path)  # noqa: PTH104
        except FileNotFoundError:
            self.path(entry).parent.mkdir(parents=True, exist_ok=True)
            os.rename(target, path)  # noqa: PTH104
        if not self.has(entry.sha256):
            self._seen[bucket].add(entry.sha256)


def intact(path: Path, entry: FileEntry) -> bool:
    """Whether the file looks as it was stored: a write in place or a lost block shows in time or size."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return found.st_size == entry.size and found.st_mtime_ns == entry.mtime * 1_000_000_000


def set_metadata(target: int | Path, entry: FileEntry) -> None:
    """Owner, mode and time of ``entry``; in this order setuid bits survive. Raises TreeError."""
    own(target, entry.uid, entry.gid)
    os.chmod(target, entry.mode)  # noqa: PTH101 - an open file
    os.utime(target, (entry.mtime, entry.mtime))


def own(target: int | Path, uid: int, gid: int) -> None:
    """Give ``target`` an owner. Without root's rights root's files are ours: rootless containers map us so.

    Raises TreeError.
    """
    if os.geteuid() and not (uid or gid):
        return
    try:
        os.chown(target, uid, gid, follow_symlinks=False) if isinstance(target, Path) else os.chown(
            target, uid, gid
        )
    except PermissionError as error:
        raise TreeError(f"owner {uid}:{gid} needs root or a user namespace with these ids") from error


def link_or_copy(blob: Path, target: Path, entry: FileEntry) -> None:
    """``target`` as a hard link to ``blob``, or a copy where the file system takes no more links."""
    try:
        os.link(blob, target)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EPERM, errno.EXDEV, errno.ENOTSUP):
            raise
        copy_file(blob, target)
        set_metadata(target, entry)


def copy_file(source: Path, target: Path) -> None:
    """A new file with the bytes of ``source``: blocks are shared where the file system can."""
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        copy_bytes(source, descriptor)
    finally:
        os.close(descriptor)


def copy_bytes(source: Path, descriptor: int) -> None:
    """The bytes of ``source`` into the empty open file."""
    with source.open("rb") as stream:
        try:
            fcntl.ioctl(descriptor, _FICLONE, stream.fileno())
        except OSError:
            with os.fdopen(os.dup(descriptor), "wb") as out:
                shutil.copyfileobj(stream, out, CHUNK)


def _copy_hashed(first: bytes, source: int, target: int) -> tuple[str, int]:
    digest, size, chunk = hashlib.sha256(), 0, first
    while chunk:
        digest.update(chunk)
        _write_all(target, chunk)
        size += len(chunk)
        chunk = os.read(source, CHUNK)
    return digest.hexdigest(), size


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _readable(mode: int) -> int:
    return mode | 0o400  # what is stored can be read again, without root too


def _name(entry: FileEntry) -> str:
    return f"{entry.sha256}.{entry.mode:o}.{entry.uid}.{entry.gid}.{entry.mtime}"


def _contents(bucket: Path) -> set[str]:
    try:
        return {name[:64] for name in os.listdir(bucket)}  # noqa: PTH208 - only names, ten times faster
    except FileNotFoundError:
        return set()
