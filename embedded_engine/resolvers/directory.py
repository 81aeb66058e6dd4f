"""Directory: reading it, and new ones made from it."""

from __future__ import annotations

from typing import Any

from embedded_engine import reading
from embedded_engine.directories import edited, filtered, with_path
from embedded_engine.elements import Stat
from embedded_engine.exports import Export
from embedded_engine.paths import inside
from embedded_engine.resolvers.registry import Call, Fields
from embedded_engine.tree_changes import (
    CopiedFiles,
    Difference,
    Linked,
    MadeDirectory,
    Merged,
    NewFile,
    Stamped,
    Timed,
    Without,
)
from embedded_engine.tree_sources import base_name, in_thread
from embedded_engine.values import Directory, File

fields = Fields()


@fields("Query.directory")
def empty(_: Call, __: None) -> Directory:
    """An empty directory."""
    return Directory()


@fields("Directory.sync")
async def sync(call: Call, directory: Directory) -> str:
    """Make it now."""
    await reading.entries(call.session.evaluator, directory)
    return call.session.objects.put(directory)


@fields("Directory.digest")
async def digest(call: Call, directory: Directory) -> str:
    """The digest of its content."""
    return await reading.digest_of_directory(call.session.evaluator, directory)


@fields("Directory.name")
def name(_: Call, directory: Directory) -> str:
    """The last part of its path, with a slash."""
    return f"{base_name(directory.path)}/"


@fields("Directory.entries")
async def entries(call: Call, directory: Directory, *, path: str | None = None) -> list[str]:
    """The names in it, or in a directory of it."""
    return await reading.entries(call.session.evaluator, directory, path or ".")


@fields("Directory.glob")
async def glob(call: Call, directory: Directory, *, pattern: str) -> list[str]:
    """The paths that match."""
    return await reading.glob(call.session.evaluator, directory, pattern)


@fields("Directory.file")
def file(_: Call, directory: Directory, *, path: str) -> File:
    """A file of it; whether it is there shows when it is used."""
    return File(directory.source, with_path(directory, path).path)


@fields("Directory.directory")
def directory(_: Call, directory: Directory, *, path: str) -> Directory:
    """A directory of it; whether it is there shows when it is used."""
    return with_path(directory, path)


@fields("Directory.exists")
async def exists(
    call: Call,
    directory: Directory,
    *,
    path: str,
    do_not_follow_symlinks: bool = False,
    expected_type: str | None = None,
) -> bool:
    """Whether ``path`` is there, and is of that type."""
    return await reading.exists(
        call.session.evaluator, directory, path, expected_type, follow=not do_not_follow_symlinks
    )


@fields("Directory.stat")
async def stat(call: Call, directory: Directory, *, path: str, do_not_follow_symlinks: bool = False) -> Stat:
    """What is at ``path``."""
    follow = not do_not_follow_symlinks
    return await reading.stat_of(call.session.evaluator, directory, path, follow=follow)


@fields("Directory.findUp")
async def find_up(call: Call, directory: Directory, *, name: str, start: str) -> str | None:
    """The nearest ``name`` from the directory ``start`` upwards, as a path in this directory."""
    return await reading.find_up(call.session.evaluator, directory, name, start)


@fields("Directory.withDirectory")
def with_directory(
    call: Call,
    directory: Directory,
    *,
    path: str,
    source: str,
    exclude: list[str],
    include: list[str],
    gitignore: bool,
    owner: str,
    permissions: int | None = None,
) -> Directory:
    """Merge another one into ``path``."""
    chosen = filtered(
        call.session.objects.get(Directory, source), include=include, exclude=exclude, gitignore=gitignore
    )
    return edited(directory, Merged(path, chosen, permissions, owner))


@fields("Directory.withFile")
def with_file(
    call: Call,
    directory: Directory,
    *,
    path: str,
    source: str,
    owner: str,
    permissions: int | None = None,
) -> Directory:
    """Put a file at ``path``, or into it if that is a directory or ends with a slash."""
    chosen = call.session.objects.get(File, source)
    return edited(directory, CopiedFiles(path, (chosen,), permissions, owner))


@fields("Directory.withFiles")
def with_files(
    call: Call, directory: Directory, *, path: str, sources: list[str], permissions: int | None = None
) -> Directory:
    """Put files into the directory ``path``."""
    chosen = tuple(call.session.objects.get(File, source) for source in sources)
    return edited(directory, CopiedFiles(path.rstrip("/") + "/", chosen, permissions))


@fields("Directory.withNewFile")
def with_new_file(_: Call, directory: Directory, *, path: str, contents: str, permissions: int) -> Directory:
    """Write a file. Permissions of 0 are taken for none given, as Dagger does."""
    return edited(directory, NewFile(path, contents.encode(), permissions or 0o644))


@fields("Directory.withNewDirectory")
def with_new_directory(_: Call, directory: Directory, *, path: str, permissions: int) -> Directory:
    """Make a directory. The schema's default for its mode (0644) could not be entered: 0755 is meant."""
    return edited(directory, MadeDirectory(path, 0o755 if permissions == 0o644 else permissions))


@fields("Directory.withSymlink")
def with_symlink(_: Call, directory: Directory, *, target: str, link_name: str) -> Directory:
    """Make a symbolic link."""
    return edited(directory, Linked(link_name, target))


@fields("Directory.withoutDirectory", "Directory.withoutFile")
def without(_: Call, directory: Directory, *, path: str) -> Directory:
    """Remove a path; a missing one is no error."""
    return edited(directory, Without((path,)))


@fields("Directory.withoutFiles")
def without_files(_: Call, directory: Directory, *, paths: list[str]) -> Directory:
    """Remove paths."""
    return edited(directory, Without(tuple(paths)))


@fields("Directory.withTimestamps")
def with_timestamps(_: Call, directory: Directory, *, timestamp: int) -> Directory:
    """One time for all that is in it."""
    return edited(directory, Timed(timestamp))


@fields("Directory.filter")
def filter_(_: Call, directory: Directory, **wanted: Any) -> Directory:
    """Only what the patterns take."""
    return filtered(directory, **wanted)


@fields("Directory.diff")
def diff(call: Call, directory: Directory, *, other: str) -> Directory:
    """What the other one has beyond this one."""
    return edited(directory, Difference(call.session.objects.get(Directory, other)))


@fields("Directory.chown")
def chown(_: Call, directory: Directory, *, path: str, owner: str) -> Directory:
    """Another owner for ``path`` and all in it."""
    return edited(directory, Stamped(path, owner))


@fields("Directory.export")
async def export(call: Call, directory: Directory, *, path: str, wipe: bool) -> str:
    """Write it to the host; the answer is the absolute path."""
    target = call.session.host.absolute(path)
    work = call.session.evaluator
    async with work.view(directory.source) as root:
        times = directory.source is not None and (await work.result(directory.source)).tree is not None
        source = inside(root, directory.path)
        await in_thread(lambda: Export(times=times).directory(source, target, wipe=wipe))
    return str(target)
