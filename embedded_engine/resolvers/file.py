"""File: reading it, and new ones made from it."""

from __future__ import annotations

from embedded_engine import reading
from embedded_engine.directories import edited, edited_file, renamed
from embedded_engine.elements import Stat
from embedded_engine.exports import Export
from embedded_engine.image_out import ImageTarball
from embedded_engine.resolvers.container_image import write_archive
from embedded_engine.resolvers.registry import ApiError, Call, Fields
from embedded_engine.tree_changes import NewFile, Replaced, Stamped, Timed
from embedded_engine.tree_sources import base_name, in_thread
from embedded_engine.values import Directory, File

fields = Fields()


@fields("Query.file")
def new_file(_: Call, __: None, *, name: str, contents: str, permissions: int) -> File:
    """A file with these contents."""
    if "/" in name or name in ("", ".", ".."):
        raise ApiError(f'file name "{name}" must not contain a directory')
    made = edited(Directory(), NewFile(name, contents.encode(), permissions))
    return File(made.source, f"/{name}")


@fields("File.sync")
async def sync(call: Call, file: File) -> str:
    """Make it now."""
    await reading.stat_of_file(call.session.evaluator, file)
    return call.session.objects.put(file)


@fields("File.name")
def name(_: Call, file: File) -> str:
    """The last part of its path."""
    return base_name(file.path)


@fields("File.size")
async def size(call: Call, file: File) -> int:
    """The number of bytes."""
    return await reading.size_of(call.session.evaluator, file)


@fields("File.contents")
async def contents(
    call: Call, file: File, *, offset_lines: int | None = None, limit_lines: int | None = None
) -> str:
    """The text, or some lines of it."""
    return await reading.contents(call.session.evaluator, file, offset=offset_lines, limit=limit_lines)


@fields("File.digest")
async def digest(call: Call, file: File, *, exclude_metadata: bool) -> str:
    """The digest of its bytes, and of mode, owner and time unless these are left out."""
    return await reading.digest_of_file(call.session.evaluator, file, metadata=not exclude_metadata)


@fields("File.stat")
async def stat(call: Call, file: File) -> Stat:
    """What it is."""
    return await reading.stat_of_file(call.session.evaluator, file)


@fields("File.withName")
def with_name(_: Call, file: File, *, name: str) -> File:
    """The same file under another name."""
    return renamed(file, name)


@fields("File.withTimestamps")
def with_timestamps(_: Call, file: File, *, timestamp: int) -> File:
    """The same file with another time."""
    return edited_file(file, change=Timed(timestamp))


@fields("File.chown")
def chown(_: Call, file: File, *, owner: str) -> File:
    """The same file with another owner (numbers)."""
    return edited_file(file, change=Stamped(base_name(file.path), owner))


@fields("File.withReplaced")
def with_replaced(
    _: Call,
    file: File,
    *,
    search: str,
    replacement: str,
    all: bool = False,  # noqa: A002 - the schema's name
    first_from: int | None = None,
) -> File:
    """The same file with text replaced."""
    change = Replaced(base_name(file.path), search, replacement, all, first_from)
    return edited_file(file, change=change)


@fields("File.export")
async def export(call: Call, file: File, *, path: str, allow_parent_dir_path: bool) -> str:
    """Write it to the host; the answer is ``path``, absolute."""
    target = call.session.host.absolute(path)
    work = call.session.evaluator
    into = allow_parent_dir_path
    if isinstance(file.source, ImageTarball) and not target.is_dir():
        await write_archive(call, await file.source.image(work), target)
        return str(target)
    times = file.source is not None and (await work.result(file.source)).tree is not None
    async with reading.host_file(work, file) as source:
        await in_thread(
            lambda: Export(times=times).file(source, target, base_name(file.path), into_directory=into)
        )
    return str(target)
