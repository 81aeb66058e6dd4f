"""Unix sockets of this machine in the way of an exec: mounted while it runs, in no layer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
from anyio.abc import ByteStream, SocketListener

from embedded_engine.operations import Work
from embedded_engine.runtime.forwarding import forward_all
from embedded_engine.runtime.port import Mount, SetupFailure
from embedded_engine.values import SocketMount


@contextlib.asynccontextmanager
async def host_socket(work: Work, mount: SocketMount) -> AsyncIterator[Mount]:
    """The mount for a socket. With an owner it is a socket of ours that leads to it: the machine's own keeps
    its owner. Raises SetupFailure if nothing is there."""
    path = Path(mount.socket.path)
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except OSError as error:
        raise SetupFailure(f"unix socket {path}: {error.strerror}") from error
    if not is_socket:
        raise SetupFailure(f"unix socket {path}: it is no socket")
    if not mount.owner:
        yield Mount(mount.target, source=path)
        return
    async with work.scratch() as scratch, _leading_to(path, scratch):
        yield Mount(mount.target, source=scratch / "socket", owner=mount.owner)


@contextlib.asynccontextmanager
async def _leading_to(path: Path, directory: Path) -> AsyncIterator[None]:
    async def connect() -> ByteStream:
        return await anyio.connect_unix(path)

    listener = await SocketListener.from_socket(_listening(directory))
    serving = asyncio.create_task(forward_all(listener, connect))
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await listener.aclose()
            await asyncio.wait([serving])


def _listening(directory: Path) -> socket.socket:
    """A listening socket in ``directory``, whose path may be longer than the 107 bytes that bind(2) takes."""
    one = socket.socket(socket.AF_UNIX)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        one.bind(f"/proc/self/fd/{descriptor}/socket")
    finally:
        os.close(descriptor)
    (directory / "socket").chmod(0o600)
    one.listen(128)
    return one
