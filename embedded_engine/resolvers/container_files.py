"""Container fields about files: in its file system, and mounted over it."""

from __future__ import annotations

from embedded_engine.directories import filtered
from embedded_engine.op_edit import CopyOf, edited
from embedded_engine.resolvers.registry import ApiError, Call, Fields
from embedded_engine.runtime.port import Link, Remove, Write
from embedded_engine.values import (
    CacheMount,
    CacheVolume,
    Container,
    ContainerMount,
    Directory,
    DirectoryMount,
    File,
    Secret,
    SecretMount,
    TempMount,
)

fields = Fields()


def _path(container: Container, path: str, *, expand: bool) -> str:
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
    return edited(container, CopyOf(directory, _path(container, path, expand=expand), owner, permissions))


@fields("Container.withFile")
def with_file(
    call: Call,
    container: Container,
    *,
    path: str,
    source: str,
    owner: str,
    expand: bool,
    permissions: int | None = None,
) -> Container:
    """Put a file at ``path`` (under its own name if that ends with a slash)."""
    file = call.session.objects.get(File, source)
    target = path + _base(file) if path.endswith("/") else path
    return edited(container, CopyOf(file, _path(container, target, expand=expand), owner, permissions))


@fields("Container.withFiles")
def with_files(
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
    folder = _path(container, path, expand=expand).rstrip("/")
    files = [call.session.objects.get(File, source) for source in sources]
    return edited(container, *(CopyOf(file, f"{folder}/{_base(file)}", owner, permissions) for file in files))


def _base(file: File) -> str:
    return file.path.rsplit("/", 1)[-1]


@fields("Container.withNewFile")
def with_new_file(
    _: Call, container: Container, *, path: str, contents: str, permissions: int, owner: str, expand: bool
) -> Container:
    """Write a file."""
    return edited(
        container, Write(_path(container, path, expand=expand), contents.encode(), owner, permissions)
    )


@fields("Container.withSymlink")
def with_symlink(_: Call, container: Container, *, target: str, link_name: str, expand: bool) -> Container:
    """Make a symbolic link."""
    to = container.config.expanded(target) if expand else target
    return edited(container, Link(_path(container, link_name, expand=expand), to))


@fields("Container.withoutDirectory", "Container.withoutFile")
def without_path(_: Call, container: Container, *, path: str, expand: bool) -> Container:
    """Remove a path; a missing one is no error."""
    return edited(container, Remove(_path(container, path, expand=expand)))


@fields("Container.withoutFiles")
def without_files(_: Call, container: Container, *, paths: list[str], expand: bool) -> Container:
    """Remove paths."""
    return edited(container, *(Remove(_path(container, path, expand=expand)) for path in paths))


@fields("Container.withRootfs")
def with_rootfs(call: Call, container: Container, *, directory: str) -> Container:
    """Another file system under the same config."""
    source = call.session.objects.get(Directory, directory)
    if source.path == "/" and source.source is not None and source.source.kind in ("exec", "copy", "from"):
        return container.having(rootfs=source.source)  # its layers stay as they are
    return edited(container.having(rootfs=None), CopyOf(source, "/"))


@fields("Container.rootfs")
def rootfs(_: Call, container: Container) -> Directory:
    """The file system without mounts."""
    return Directory(container.rootfs)


@fields("Container.directory")
def directory(call: Call, container: Container, *, path: str, expand: bool = False) -> Directory:
    """A directory as an exec would see it, so also one of a mount."""
    source, inner = located(container, _path(container, path, expand=expand))
    if isinstance(source, File):
        raise ApiError(f"{path}: not a directory")
    return Directory(source.source, inner)


@fields("Container.file")
def file(call: Call, container: Container, *, path: str, expand: bool = False) -> File:
    """A file as an exec would see it."""
    source, inner = located(container, _path(container, path, expand=expand))
    return File(source.source, inner)


def located(container: Container, path: str) -> tuple[Directory | File, str]:
    """What holds ``path`` (the file system or the innermost mount over it), and the path inside that."""
    over = [mount for mount in container.mounts if _under(path, mount.target)]
    if not over:
        return Directory(container.rootfs), path
    mount = max(over, key=lambda one: len(one.target))
    if not isinstance(mount, DirectoryMount):
        kind = {CacheMount: "cache", TempMount: "temporary directory", SecretMount: "secret"}[type(mount)]
        raise ApiError(f"{path}: cannot retrieve path from {kind}")
    rest = path[len(mount.target) :] if mount.target != "/" else path
    inner = f"{mount.source.path.rstrip('/')}/{rest.lstrip('/')}" if rest.strip("/") else mount.source.path
    return mount.source, inner


def _under(path: str, target: str) -> bool:
    return target in ("/", path) or path.startswith(target + "/")


def _mounted(container: Container, mount: ContainerMount) -> Container:
    others = tuple(one for one in container.mounts if one.target != mount.target)
    return container.having(mounts=(*others, mount))


@fields("Container.withMountedDirectory")
def with_mounted_directory(
    call: Call, container: Container, *, path: str, source: str, owner: str, read_only: bool, expand: bool
) -> Container:
    """A directory over ``path`` for the execs that follow; never part of the image."""
    content = call.session.objects.get(Directory, source)
    return _mounted(
        container, DirectoryMount(_path(container, path, expand=expand), content, read_only, owner)
    )


@fields("Container.withMountedFile")
def with_mounted_file(
    call: Call, container: Container, *, path: str, source: str, owner: str, expand: bool
) -> Container:
    """A file over ``path`` for the execs that follow."""
    content = call.session.objects.get(File, source)
    return _mounted(container, DirectoryMount(_path(container, path, expand=expand), content, owner=owner))


@fields("Container.withMountedCache")
def with_mounted_cache(
    call: Call,
    container: Container,
    *,
    path: str,
    cache: str,
    sharing: str,
    owner: str,
    expand: bool,
    source: str | None = None,
) -> Container:
    """A cache volume at ``path``; an argument given here wins over the volume's own."""
    volume = call.session.objects.get(CacheVolume, cache)
    seed = call.session.objects.get(Directory, source) if source else volume.source
    mode = volume.sharing if sharing == "SHARED" else sharing
    chosen = CacheVolume(volume.key, seed, mode, owner or volume.owner)  # type: ignore[arg-type]  # the enum's names
    return _mounted(container, CacheMount(_path(container, path, expand=expand), chosen, owner))


@fields("Container.withMountedSecret")
def with_mounted_secret(
    call: Call, container: Container, *, path: str, source: str, owner: str, mode: int, expand: bool
) -> Container:
    """A secret as a file in memory."""
    secret = call.session.objects.get(Secret, source)
    return _mounted(container, SecretMount(_path(container, path, expand=expand), secret, owner, mode))


@fields("Container.withMountedTemp")
def with_mounted_temp(
    _: Call, container: Container, *, path: str, expand: bool, size: int | None = None
) -> Container:
    """An empty directory in memory."""
    return _mounted(container, TempMount(_path(container, path, expand=expand), size))


@fields("Container.withoutMount")
def without_mount(_: Call, container: Container, *, path: str, expand: bool) -> Container:
    """Take a mount away."""
    target = _path(container, path, expand=expand)
    return container.having(mounts=tuple(one for one in container.mounts if one.target != target))


@fields("Container.mounts")
def mounts(_: Call, container: Container) -> list[str]:
    """Where something is mounted."""
    return [mount.target for mount in container.mounts]
