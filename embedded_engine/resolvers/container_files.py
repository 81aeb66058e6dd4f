"""Container fields about files in its file system, as an exec would see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from embedded_engine import reading
from embedded_engine.content import by_content
from embedded_engine.directories import edited as changed
from embedded_engine.directories import filtered
from embedded_engine.elements import Stat
from embedded_engine.op_edit import CopyOf, edited
from embedded_engine.resolvers.registry import ApiError, Call, Fields
from embedded_engine.runtime.port import Link, Remove, Write
from embedded_engine.tree_changes import Change as TreeChange
from embedded_engine.tree_changes import CopiedFiles, Linked, Merged, NewFile, Stamped, Without
from embedded_engine.values import (
    CacheMount,
    Container,
    ContainerMount,
    Directory,
    DirectoryMount,
    File,
    SecretMount,
)

fields = Fields()
ROOTFS_KINDS = ("exec", "copy", "from", "import", "docker-build")  # operations that give a file system


def path_in(container: Container, path: str, *, expand: bool) -> str:
    """``path`` as the container's execs would read it, made absolute."""
    return container.config.path(container.config.expanded(path) if expand else path)


@fields("Container.withDirectory")
async def with_directory(
    call: Call,
    container: Container,
    *,
    path: str,
    source: str,
    exclude: list[str],
    include: list[str],
    gitignore: bool,
    owner: str,
    expand: bool,
    permissions: int | None = None,
) -> Container:
    """Merge a directory's content into ``path``, as a layer of its own."""
    directory = call.session.objects.get(Directory, source)
    if exclude or include or gitignore:
        directory = filtered(directory, include=include, exclude=exclude, gitignore=gitignore)
    if permissions is not None:  # for all that is in it too
        directory = changed(directory, Stamped("/", mode=permissions))
    directory = await by_content(call.session.evaluator, directory)
    target = path_in(container, path, expand=expand)
    return _in_mount(container, target, lambda inner: Merged(inner, directory, permissions, owner)) or edited(
        container, CopyOf(directory, target, owner, permissions)
    )


@fields("Container.withFile")
async def with_file(
    call: Call,
    container: Container,
    *,
    path: str,
    source: str,
    owner: str,
    expand: bool,
    permissions: int | None = None,
) -> Container:
    """Put a file at ``path``, or into it under its own name if that is a directory."""
    file = await file_of(call, source)
    target = path_in(container, path, expand=expand)
    return _in_mount(
        container, target, lambda inner: CopiedFiles(inner, (file,), permissions, owner)
    ) or edited(container, CopyOf(file, target, owner, permissions))


@fields("Container.withFiles")
async def with_files(
    call: Call,
    container: Container,
    *,
    path: str,
    sources: list[str],
    owner: str,
    expand: bool,
    permissions: int | None = None,
) -> Container:
    """Put files into the directory ``path``, as one layer."""
    folder = path_in(container, path, expand=expand).rstrip("/")
    files = [await file_of(call, source) for source in sources]
    return edited(container, *(CopyOf(file, f"{folder}/{_base(file)}", owner, permissions) for file in files))


async def file_of(call: Call, identity: str) -> File:
    """The file with this id, by content if that is known without a container."""
    return await by_content(call.session.evaluator, call.session.objects.get(File, identity))


def _base(file: File) -> str:
    return file.path.rsplit("/", 1)[-1]


@fields("Container.withNewFile")
def with_new_file(
    _: Call, container: Container, *, path: str, contents: str, permissions: int, owner: str, expand: bool
) -> Container:
    """Write a file."""
    target = path_in(container, path, expand=expand)
    return _in_mount(
        container, target, lambda inner: NewFile(inner, contents.encode(), permissions)
    ) or edited(container, Write(target, contents.encode(), owner, permissions))


@fields("Container.withSymlink")
def with_symlink(_: Call, container: Container, *, target: str, link_name: str, expand: bool) -> Container:
    """Make a symbolic link."""
    to = container.config.expanded(target) if expand else target
    link = path_in(container, link_name, expand=expand)
    return _in_mount(container, link, lambda inner: Linked(inner, to)) or edited(container, Link(link, to))


@fields("Container.withoutDirectory", "Container.withoutFile")
def without_path(_: Call, container: Container, *, path: str, expand: bool) -> Container:
    """Remove a path; a missing one is no error."""
    target = path_in(container, path, expand=expand)
    return _in_mount(container, target, lambda inner: Without((inner,))) or edited(container, Remove(target))


@fields("Container.withoutFiles")
def without_files(_: Call, container: Container, *, paths: list[str], expand: bool) -> Container:
    """Remove paths."""
    return edited(container, *(Remove(path_in(container, path, expand=expand)) for path in paths))


@fields("Container.withRootfs")
def with_rootfs(call: Call, container: Container, *, directory: str) -> Container:
    """Another file system under the same config."""
    source = call.session.objects.get(Directory, directory)
    if source.path == "/" and source.source is not None and source.source.kind in ROOTFS_KINDS:
        return container.having(rootfs=source.source)  # its layers stay as they are
    return edited(container.having(rootfs=None), CopyOf(source, "/"))


@fields("Container.rootfs")
def rootfs(_: Call, container: Container) -> Directory:
    """The file system without mounts."""
    return Directory(container.rootfs)


@fields("Container.directory")
def directory(call: Call, container: Container, *, path: str, expand: bool = False) -> Directory:
    """A directory as an exec would see it, so also one of a mount."""
    source, inner = located(container, path_in(container, path, expand=expand))
    if isinstance(source, File):
        raise ApiError(f"{path}: not a directory")
    return Directory(source.source, inner)


@fields("Container.file")
def file(call: Call, container: Container, *, path: str, expand: bool = False) -> File:
    """A file as an exec would see it."""
    source, inner = located(container, path_in(container, path, expand=expand))
    return File(source.source, inner)


@fields("Container.exists")
async def exists(
    call: Call,
    container: Container,
    *,
    path: str,
    do_not_follow_symlinks: bool,
    expand: bool,
    expected_type: str | None = None,
) -> bool:
    """Whether ``path`` is there, and is of that type."""
    root, inner = _root_of(container, path_in(container, path, expand=expand))
    follow = not do_not_follow_symlinks
    return await reading.exists(call.session.evaluator, root, inner, expected_type, follow=follow)


@fields("Container.stat")
async def stat(call: Call, container: Container, *, path: str, do_not_follow_symlinks: bool) -> Stat:
    """What is at ``path``."""
    root, inner = _root_of(container, path_in(container, path, expand=False))
    return await reading.stat_of(call.session.evaluator, root, inner, follow=not do_not_follow_symlinks)


def _in_mount(container: Container, path: str, change: Callable[[str], TreeChange]) -> Container | None:
    """The container with a change made to the mounted directory that ``path`` lies in; None if none does."""
    mount = _mount_over(container, path)
    if not isinstance(mount, DirectoryMount) or isinstance(mount.source, File) or path == mount.target:
        return None
    after = replace(mount, source=changed(mount.source, change(path[len(mount.target.rstrip("/")) :])))
    return container.having(mounts=tuple(after if one is mount else one for one in container.mounts))


def _mount_over(container: Container, path: str) -> ContainerMount | None:
    """The innermost mount that ``path`` lies in. Secrets do not count: they are there for commands only."""
    over = [
        mount
        for mount in container.mounts
        if _under(path, mount.target) and not isinstance(mount, SecretMount)
    ]
    return max(over, key=lambda one: len(one.target)) if over else None


def _root_of(container: Container, path: str) -> tuple[Directory, str]:
    source, inner = located(container, path)
    return Directory(source.source), inner


def located(container: Container, path: str) -> tuple[Directory | File, str]:
    """What holds ``path`` (the file system or the innermost mount over it), and the path inside that."""
    mount = _mount_over(container, path)
    if mount is None:
        return Directory(container.rootfs), path
    if not isinstance(mount, DirectoryMount):
        kind = "cache" if isinstance(mount, CacheMount) else "tmpfs"
        raise ApiError(f"{path}: cannot retrieve path from {kind}")
    rest = path[len(mount.target) :] if mount.target != "/" else path
    inner = f"{mount.source.path.rstrip('/')}/{rest.lstrip('/')}" if rest.strip("/") else mount.source.path
    return mount.source, inner


def _under(path: str, target: str) -> bool:
    return target in ("/", path) or path.startswith(target + "/")
