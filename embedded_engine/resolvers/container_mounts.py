"""Container fields about mounts: seen by execs, never part of the image."""

from __future__ import annotations

from embedded_engine.content import by_content
from embedded_engine.resolvers.container_files import file_of, path_in
from embedded_engine.resolvers.registry import Call, Fields
from embedded_engine.values import (
    CacheMount,
    CacheVolume,
    Container,
    ContainerMount,
    Directory,
    DirectoryMount,
    Secret,
    SecretMount,
    TempMount,
)

fields = Fields()


def _mounted(container: Container, mount: ContainerMount) -> Container:
    others = tuple(one for one in container.mounts if one.target != mount.target)
    return container.having(mounts=(*others, mount))


@fields("Container.withMountedDirectory")
async def with_mounted_directory(
    call: Call, container: Container, *, path: str, source: str, owner: str, read_only: bool, expand: bool
) -> Container:
    """A directory over ``path`` for the execs that follow; never part of the image."""
    content = await by_content(call.session.evaluator, call.session.objects.get(Directory, source))
    return _mounted(
        container, DirectoryMount(path_in(container, path, expand=expand), content, read_only, owner)
    )


@fields("Container.withMountedFile")
async def with_mounted_file(
    call: Call, container: Container, *, path: str, source: str, owner: str, expand: bool
) -> Container:
    """A file over ``path`` for the execs that follow."""
    content = await file_of(call, source)
    return _mounted(container, DirectoryMount(path_in(container, path, expand=expand), content, owner=owner))


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
    return _mounted(container, CacheMount(path_in(container, path, expand=expand), chosen, owner))


@fields("Container.withMountedSecret")
def with_mounted_secret(
    call: Call, container: Container, *, path: str, source: str, owner: str, mode: int, expand: bool
) -> Container:
    """A secret as a file in memory."""
    secret = call.session.objects.get(Secret, source)
    return _mounted(container, SecretMount(path_in(container, path, expand=expand), secret, owner, mode))


@fields("Container.withMountedTemp")
def with_mounted_temp(
    _: Call, container: Container, *, path: str, expand: bool, size: int | None = None
) -> Container:
    """An empty directory in memory."""
    return _mounted(container, TempMount(path_in(container, path, expand=expand), size))


@fields("Container.withoutMount")
def without_mount(_: Call, container: Container, *, path: str, expand: bool) -> Container:
    """Take a mount away."""
    target = path_in(container, path, expand=expand)
    return container.having(mounts=tuple(one for one in container.mounts if one.target != target))


@fields("Container.mounts")
def mounts(_: Call, container: Container) -> list[str]:
    """Where something is mounted; secrets are not told, as Dagger does."""
    return [mount.target for mount in container.mounts if not isinstance(mount, SecretMount)]
