"""Connections taken at one place and led to another, byte for byte, each direction ended by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import ByteStream, SocketListener

Connect = Callable[[], Awaitable[ByteStream]]
GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


async def forward_all(listener: SocketListener, connect: Connect) -> None:
    """Serve until the listener is closed; connections under way then end."""
    async with anyio.create_task_group() as clients:
        while True:
            try:
                client = await listener.accept()
            except OSError:
                await anyio.sleep(0.1)  # out of descriptors, say: that passes
                continue
            except GONE:
                break  # closed: new clients are refused
            clients.start_soon(_forward, client, connect)
        clients.cancel_scope.cancel()


async def _forward(client: ByteStream, connect: Connect) -> None:
    async with client:
        try:
            server = await connect()
        except GONE:
            return  # the client sees its connection closed, as with a dead server
        async with server, anyio.create_task_group() as group:
            group.start_soon(_pump, client, server)
            group.start_soon(_pump, server, client)


async def _pump(source: ByteStream, target: ByteStream) -> None:
    try:
        async for chunk in source:
            await target.send(chunk)
        await target.send_eof()
    except GONE:
        return  # one side went away: the other side's pump ends by itself
