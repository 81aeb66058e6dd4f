"""``host.tunnel``: a port of 127.0.0.1 whose connections go to a service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketListener, TaskGroup

Reach = Callable[[], tuple[str, int]]
_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


@dataclass(slots=True)
class Tunnels:
    """The listeners of one session, by the tunnel's digest: (local port, listener) each."""

    tasks: TaskGroup
    open_ones: dict[str, list[tuple[int, SocketListener]]] = field(default_factory=dict)

    async def open(self, digest: str, forwards: list[tuple[int, Reach]]) -> list[int]:
        """Listen for each (wanted port or 0, where to) pair; the ports got, the same ones if open already."""
        if digest not in self.open_ones:
            listeners: list[tuple[int, SocketListener]] = []
            for wanted, reach in forwards:
                listener = await _listener(wanted)
                port = int(listener.extra(SocketAttribute.local_port))  # noqa: S610  # not Django's
                listeners.append((port, listener))
                self.tasks.start_soon(_serve, listener, reach)
            self.open_ones[digest] = listeners
        return [port for port, _ in self.open_ones[digest]]

    async def shut(self, digest: str) -> None:
        """Stop listening; twice is fine."""
        for _, listener in self.open_ones.pop(digest, []):
            await listener.aclose()

    async def close(self) -> None:
        """Stop all."""
        for digest in list(self.open_ones):
            await self.shut(digest)


async def _listener(port: int) -> SocketListener:
    multi = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    listener = multi.listeners[0]
    assert isinstance(listener, SocketListener)  # noqa: S101  # TCP listeners are
    return listener


async def _serve(listener: SocketListener, reach: Reach) -> None:
    async with anyio.create_task_group() as clients:
        while True:
            try:
                client = await listener.accept()
            except _GONE:
                break  # the tunnel was shut: new clients are refused
            clients.start_soon(_forward, client, reach)
        clients.cancel_scope.cancel()


async def _forward(client: ByteStream, reach: Reach) -> None:
    host, port = reach()
    async with client:
        try:
            server = await anyio.connect_tcp(host, port)
        except OSError:
            return  # the client sees its connection closed, as with a dead server
        async with server, anyio.create_task_group() as group:
            group.start_soon(_pump, client, server)
            group.start_soon(_pump, server, client)


async def _pump(source: ByteStream, target: ByteStream) -> None:
    try:
        async for chunk in source:
            await target.send(chunk)
        await target.send_eof()
    except _GONE:
        return  # one side went away: the other side's pump ends by itself
