"""Looking into directories and files: in the tree store, or straight in a container's mounted file system."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal, TypeVar

from embedded_engine import tree_edits
from embedded_engine.elements import Stat
from embedded_engine.entries import DirEntry, Entry, FileEntry, TreeError, file_digest
from embedded_engine.filters import Glob
from embedded_engine.host_import import told
from embedded_engine.operations import Work
from embedded_engine.paths import inside
from embedded_engine.tree_sources import base_name, entry_of, in_thread, told_path, tree_of
from embedded_engine.values import Directory, File

T = TypeVar("T")
FileType = Literal["REGULAR", "DIRECTORY", "SYMLINK", "UNKNOWN"]
CONTENTS_LIMIT = 128 << 20


async def entries(work: Work, directory: Directory, path: str = ".") -> list[str]:
    """The names in ``path``, sorted, directories with a trailing "/". Raises TreeError."""
    return await _look(
        work,
        directory,
        lambda tree: tree_edits.listing(tree_edits.find_directory(tree, path)),
        lambda root: _host_listing(
            inside(root, f"{directory.path}/{path}"), directory.path if path == "." else path
        ),
    )


async def glob(work: Work, directory: Directory, pattern: str) -> list[str]:
    """The relative paths that match, sorted, directories with a trailing "/". Raises PatternError."""
    return await _look(
        work,
        directory,
        lambda tree: tree_edits.glob(tree, pattern),
        lambda root: _host_glob(inside(root, directory.path), Glob(pattern)),
    )


async def stat_of(work: Work, directory: Directory, path: str, *, follow: bool = True) -> Stat:
    """What is at ``path``. Raises TreeError if nothing is."""
    found = await find(work, directory, path, follow=follow)
    if found is None:
        raise TreeError(f"stat {path}: no such file or directory")
    return found


async def find(work: Work, directory: Directory, path: str, *, follow: bool = True) -> Stat | None:
    """What is at ``path``, or None; behind a link that is followed, under the name that it leads to."""
    return await _look(
        work,
        directory,
        lambda tree: _tree_stat(
            tree_edits.find(tree, path, follow=follow),
            "/".join(tree_edits.resolve(tree, path, follow=follow)),
        ),
        lambda root: _host_stat(root, inside(root, f"{directory.path}/{path}", follow=follow)),
    )


async def _look(
    work: Work, directory: Directory, in_tree: Callable[[DirEntry], T], on_host: Callable[[Path], T]
) -> T:
    outcome = await work.result(directory.source) if directory.source else None
    if outcome is None or outcome.tree is not None or not outcome.snapshot:
        tree = await tree_of(work, directory)
        return await in_thread(lambda: in_tree(tree))
    async with work.view(directory.source) as root:
        return await in_thread(lambda: on_host(root))


async def digest_of_directory(work: Work, directory: Directory) -> str:
    """``sha256:...`` of the content, modes and owners included."""
    return f"sha256:{(await tree_of(work, directory)).digest}"


async def digest_of_file(work: Work, file: File, *, metadata: bool) -> str:
    """``sha256:...`` of the bytes, with metadata or without; an image archive's comes of its manifest."""
    if file.source is not None and file.source.kind == "tarball":
        return f"sha256:{file.source.digest}"
    return file_digest(await entry_of(work, file), metadata=metadata)


async def size_of(work: Work, file: File) -> int:
    """The number of bytes. Raises TreeError."""
    return (await stat_of_file(work, file)).size


async def stat_of_file(work: Work, file: File) -> Stat:
    """What the file is. Raises TreeError."""
    found = await stat_of(work, Directory(file.source), told_path(file))
    if found.file_type != "REGULAR":
        raise TreeError(f"{told_path(file)}: is a directory, not a file")
    return found


async def contents(work: Work, file: File, *, offset: int | None = None, limit: int | None = None) -> str:
    """The text, or ``limit`` lines of it after the first ``offset``; broken UTF-8 becomes U+FFFD.

    Raises TreeError, also if the answer would be over 128 MiB.
    """
    limit = None if limit is not None and limit < 0 else limit
    size = await size_of(work, file)
    if size > CONTENTS_LIMIT and offset is None and limit is None:
        raise TreeError(f"file size {size} exceeds limit {CONTENTS_LIMIT}")
    async with host_file(work, file) as path:
        data = await in_thread(lambda: _read(path, told_path(file), offset, limit))
    return data.decode("utf-8", "replace")


@contextlib.asynccontextmanager
async def host_file(work: Work, file: File) -> AsyncIterator[Path]:
    """A host path with the bytes of ``file``, for reading only. Raises TreeError."""
    outcome = await work.result(file.source) if file.source else None
    if outcome is None or outcome.tree is not None or not outcome.snapshot:
        entry = await entry_of(work, file)
        yield await in_thread(lambda: work.trees.blobs.content(entry))
    else:
        async with work.view(file.source) as root:
            yield inside(root, file.path)


def _read(path: Path, shown: str, offset: int | None, limit: int | None) -> bytes:
    with told(shown), path.open("rb") as stream:
        if offset is None and limit is None:
            return stream.read()
        lines: list[bytes] = []
        size = 0
        for number, line in enumerate(stream):
            if limit is not None and len(lines) >= limit:
                break
            if number >= (offset or 0):
                size += len(line)
                if size > CONTENTS_LIMIT:
                    raise TreeError(f"file size {size} exceeds limit {CONTENTS_LIMIT}")
                lines.append(line)
        return b"".join(lines)


def _tree_stat(entry: Entry | None, path: str) -> Stat | None:
    name = base_name(path) or "/"
    if entry is None:
        return None
    if isinstance(entry, FileEntry):
        return Stat(name, "REGULAR", entry.size, entry.mode & 0o777)
    if isinstance(entry, DirEntry):
        return Stat(name, "DIRECTORY", 0, entry.mode & 0o777)
    return Stat(name, "SYMLINK", len(os.fsencode(entry.target)), 0o777)


def _host_stat(root: Path, path: Path) -> Stat | None:
    try:
        found = path.lstat()  # links on the way are resolved already
    except (FileNotFoundError, NotADirectoryError):
        return None
    kinds: dict[int, FileType] = {
        stat.S_IFREG: "REGULAR",
        stat.S_IFDIR: "DIRECTORY",
        stat.S_IFLNK: "SYMLINK",
    }
    kind = kinds.get(stat.S_IFMT(found.st_mode), "UNKNOWN")
    size = 0 if kind == "DIRECTORY" else found.st_size
    return Stat(path.name if path != root else "/", kind, size, found.st_mode & 0o777)


def _host_listing(directory: Path, shown: str) -> list[str]:
    with told(shown), os.scandir(directory) as scan:
        items = [(item.name, item.is_dir(follow_symlinks=False)) for item in scan]
    return [name + "/" if is_directory else name for name, is_directory in sorted(items)]


def _host_glob(directory: Path, wanted: Glob) -> list[str]:
    found: list[str] = []
    for where, directories, files in os.walk(directory):
        prefix = os.path.relpath(where, directory) + "/" if where != os.fspath(directory) else ""
        links = {name for name in directories if (Path(where) / name).is_symlink()}
        for name in (*directories, *files):
            if wanted.match(prefix + name):
                slash = "/" if name in directories and name not in links else ""
                found.append(prefix + name + slash)
    return sorted(found)


async def exists(
    work: Work, directory: Directory, path: str, expected: str | None = None, *, follow: bool = True
) -> bool:
    """Whether ``path`` is there, and is an ``expected`` (REGULAR_TYPE, DIRECTORY_TYPE, SYMLINK_TYPE)."""
    wanted = (expected or "").removesuffix("_TYPE")
    found = await find(work, directory, path, follow=follow and wanted != "SYMLINK")
    return found is not None and wanted in ("", found.file_type)


async def find_up(work: Work, directory: Directory, name: str, start: str) -> str | None:
    """The path of the nearest ``name`` from ``start`` upwards to the directory's root, or None."""
    names = tree_edits.parts_of(start)
    for length in range(len(names), -1, -1):
        path = "/".join([*names[:length], name])
        if await find(work, directory, path, follow=False) is not None:
            return path
    return None
