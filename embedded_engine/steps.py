"""From a container value to the step a runtime can run: mounts found on the host, secrets looked up."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio.to_thread

from embedded_engine.image_config import DEFAULT_PATH
from embedded_engine.masking import Hidden, encoded
from embedded_engine.operations import Work
from embedded_engine.paths import inside
from embedded_engine.runtime.port import SCRATCH, ExecStep, Mount, SecretFile
from embedded_engine.sockets import host_socket
from embedded_engine.tree_sources import base_name
from embedded_engine.values import (
    CacheMount,
    Container,
    ContainerMount,
    DirectoryMount,
    SecretMount,
    TempMount,
)


@dataclass(slots=True)
class Prepared:
    """A step, what is hidden in its outputs, and the writable copies of mounts it may change."""

    step: ExecStep
    masks: Hidden = field(repr=False)
    writable: tuple[tuple[str, Path], ...] = ()


@contextlib.asynccontextmanager
async def prepared(work: Work, container: Container, args: tuple[str, ...]) -> AsyncIterator[Prepared]:
    """The step that runs ``args`` in ``container``. What it stands on is evaluated if it was not."""
    async with contextlib.AsyncExitStack() as stack:
        parent = SCRATCH
        if container.rootfs is not None:
            parent = (await work.result(container.rootfs)).snapshot or SCRATCH
        mounts: list[Mount] = []
        writable: list[tuple[str, Path]] = []
        for mount in container.mounts:
            if isinstance(mount, SecretMount):
                continue
            host = await _host_mount(work, stack, mount)
            mounts.append(host)
            if isinstance(mount, DirectoryMount) and not mount.read_only and host.source is not None:
                writable.append((mount.target, host.source))
        for socket in container.sockets:
            mounts.append(await stack.enter_async_context(host_socket(work, socket)))
        secret_env, secret_files = await _secrets(work, container)
        own = (value for _, value in secret_env)
        hidden = work.secrets.hidden_in((*own, *(_text(file.value) for file in secret_files)))
        step = ExecStep(
            parent=parent,
            args=args,
            env=environment(container),
            secret_env=secret_env,
            secret_files=secret_files,
            workdir=container.config.workdir or "/",
            user=container.config.user,
            mounts=tuple(mounts),
            hidden=hidden,
        )
        yield Prepared(step, hidden, tuple(writable))


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


async def with_services(work: Work, container: Container, step: ExecStep) -> ExecStep:
    """``step`` with every bound service running and named in its /etc/hosts."""
    running = []
    hosts = []
    for alias, service in container.services:
        one = await work.services.running(work, service, alias)
        names = tuple(dict.fromkeys((alias, one.hostname)))
        hosts.append((one.address, names))
        running.append(one)
    return replace(step, hosts=tuple(hosts), services=tuple(running))


def environment(container: Container) -> tuple[tuple[str, str], ...]:
    """The image's variables, PATH if it has none, and the volatile ones."""
    names = dict(container.config.env)
    names.setdefault("PATH", DEFAULT_PATH)
    names.update(container.volatile)
    return tuple(names.items())


async def _secrets(
    work: Work, container: Container
) -> tuple[tuple[tuple[str, str], ...], tuple[SecretFile, ...]]:
    variables = [(name, await work.secrets.value(secret)) for name, secret in container.secret_env]
    files = []
    for mount in container.mounts:
        if isinstance(mount, SecretMount):
            value = await work.secrets.value(mount.secret)
            data = encoded(value)
            files.append(SecretFile(mount.target, data, mount.owner, mount.mode))
    return tuple(variables), tuple(files)


async def _host_mount(work: Work, stack: contextlib.AsyncExitStack, mount: ContainerMount) -> Mount:
    if isinstance(mount, CacheMount):
        source = await stack.enter_async_context(work.volumes.held(work, mount.volume))
        return Mount(mount.target, source=source, owner=mount.owner or mount.volume.owner)
    if isinstance(mount, TempMount):
        return Mount(mount.target, kind="tmpfs", size=mount.size)
    assert isinstance(mount, DirectoryMount)  # noqa: S101  # secrets are files of the step, not mounts
    root = await stack.enter_async_context(work.view(mount.source.source))
    source = inside(root, mount.source.path)
    origin = None
    if not mount.read_only or mount.owner:  # giving it an owner changes it, and its content is shared
        scratch = await stack.enter_async_context(work.scratch())
        origin = source
        source = await _copy(source, scratch / (base_name(mount.source.path) or "root"))
    return Mount(mount.target, source=source, read_only=mount.read_only, owner=mount.owner, origin=origin)


async def _copy(source: Path, target: Path) -> Path:
    """A private copy, since what an exec writes to a mount must not reach the content that others share."""

    def copy() -> None:
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, copy_function=_copy_owned)
            for where, _, _ in os.walk(source):
                _give(where, target / os.path.relpath(where, source))
        else:
            _copy_owned(source, target)

    await anyio.to_thread.run_sync(copy)
    return target


def _copy_owned(source: str | Path, target: str | Path) -> None:
    shutil.copy2(source, target, follow_symlinks=False)
    _give(source, target)


def _give(source: str | Path, target: str | Path) -> None:
    """The source's owner, as far as we may; the mode after it, since a new owner clears set-user-id."""
    if os.geteuid() == 0:
        found = os.lstat(source)
        os.lchown(target, found.st_uid, found.st_gid)
        if not stat.S_ISLNK(found.st_mode):
            os.chmod(target, stat.S_IMODE(found.st_mode))  # noqa: PTH101
