"""Ports of this machine as a service: containers reach them by a host name of their own.

With network namespaces the service has an address like any other, and listens there; connections are led on
from this process. Without, execs are on this machine's network anyway: only a port under another number needs
a listener, on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field

import anyio
from anyio.abc import ByteStream, SocketListener

from embedded_engine.runtime.forwarding import Connect, forward_all
from embedded_engine.runtime.links import LOOPBACK
from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.spaces import Space


@dataclass(slots=True)
class Relay:
    """Implements port.RunningService for ports of ``host``: (port seen, port there) pairs."""

    hostname: str
    host: str
    forwards: tuple[tuple[int, int], ...]
    address: str = LOOPBACK
    space: Space | None = None
    listeners: list[SocketListener] = field(default_factory=list)
    serving: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self, runner: Runner, *, own_network: bool) -> None:
        """Listen. Raises RuntimeFailure."""
        wanted = self.forwards
        try:
            if own_network:
                self.space = Space(runner)
                self.address = (await self.space.open()).address
                sockets = await self.space.listen([seen for seen, _ in wanted])
            else:
                wanted = tuple(pair for pair in wanted if pair[0] != pair[1] or not _is_here(self.host))
                sockets = [socket.create_server((LOOPBACK, seen), backlog=128) for seen, _ in wanted]
        except OSError as error:
            await self.stop()
            ports = ", ".join(str(seen) for seen, _ in wanted)
            raise RuntimeFailure(f"Host.service: cannot listen on port {ports}: {error.strerror}") from error
        for one, (_, there) in zip(sockets, wanted, strict=True):
            listener = await SocketListener.from_socket(one)
            self.listeners.append(listener)
            self.serving.append(asyncio.create_task(forward_all(listener, _connector(self.host, there))))

    def reach(self, port: int) -> tuple[str, int]:
        """See port.RunningService."""
        return self.address, port

    def exit_code(self) -> int | None:
        """It does not end by itself."""
        return None

    def logs(self) -> tuple[str, str]:
        """It says nothing."""
        return "", ""

    async def stop(self, *, kill: bool = False) -> None:
        """See port.RunningService."""
        with anyio.CancelScope(shield=True):
            for listener in self.listeners:
                await listener.aclose()
            if self.serving:
                await asyncio.wait(self.serving)
            if self.space is not None:
                await self.space.close()
        self.listeners, self.serving, self.space = [], [], None


def _connector(host: str, port: int) -> Connect:
    async def connect() -> ByteStream:
        return await anyio.connect_tcp(host, port)

    return connect


def _is_here(host: str) -> bool:
    return host in ("localhost", LOOPBACK)
