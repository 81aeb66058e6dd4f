"""``Host.tunnel``: ports of 127.0.0.1 whose connections go to a service."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import anyio
from anyio.abc import SocketAttribute, SocketListener, TaskGroup

from embedded_engine.runtime.forwarding import Connect, forward_all


class PortTaken(OSError):
    """A port of this machine that could not be listened to."""


@dataclass(slots=True)
class Tunnels:
    """The listeners of one session, by the tunnel's digest: (local port, listener) each."""

    tasks: TaskGroup
    open_ones: dict[str, list[tuple[int, SocketListener]]] = field(default_factory=dict)
    locks: dict[str, anyio.Lock] = field(default_factory=dict)

    async def open(self, digest: str, forwards: list[tuple[int, Connect]]) -> list[int]:
        """Listen for each (wanted port or 0, where to) pair; the ports got, the same ones if open already.

        Raises PortTaken; then none of them is listened to.
        """
        async with self.locks.setdefault(digest, anyio.Lock()):
            if digest not in self.open_ones:
                self.open_ones[digest] = await _listeners([wanted for wanted, _ in forwards])
                for (_, listener), (_, connect) in zip(self.open_ones[digest], forwards, strict=True):
                    self.tasks.start_soon(forward_all, listener, connect)
            return [port for port, _ in self.open_ones[digest]]

    async def shut(self, digest: str) -> None:
        """Stop listening; twice is fine."""
        for _, listener in self.open_ones.pop(digest, []):
            await listener.aclose()

    async def close(self) -> None:
        """Stop all."""
        for digest in list(self.open_ones):
            await self.shut(digest)


async def _listeners(ports: list[int]) -> list[tuple[int, SocketListener]]:
    made: list[tuple[int, SocketListener]] = []
    try:
        for wanted in ports:
            listener = await _listener(wanted)
            made.append((int(listener.extra(SocketAttribute.local_port)), listener))  # noqa: S610  # not Django's
    except OSError as error:
        for _, listener in made:
            await listener.aclose()
        reason = "it is taken" if error.errno == errno.EADDRINUSE else error.strerror
        raise PortTaken(f"cannot listen on 127.0.0.1:{wanted}: {reason}") from error
    return made


async def _listener(port: int) -> SocketListener:
    multi = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    listener = multi.listeners[0]
    assert isinstance(listener, SocketListener)  # noqa: S101  # TCP listeners are
    return listener
