"""Network namespaces of this process's own, joined to the machine's like a service's (links.py).

One that nothing listens in answers for every address a service may have that has none just now: without it,
a request to a service that died would leave by the machine's default route, where a gateway may answer. Its
route is the least preferred one, and goes with its namespace when this process ends, however it ends. Others
hold listeners, for ports of this machine that containers are to see.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from embedded_engine.runtime.links import NAMESPACE, NETWORK, Link, connect
from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.runtime.process import Finished, Hooks, Runner

_CLONE_NEWNET = 0x40000000  # sched.h
_METRIC = 10_000


@dataclass(slots=True)
class Space:
    """A namespace; it lasts until it is closed."""

    runner: Runner
    link: Link | None = None
    task: asyncio.Task[Finished] | None = None
    joined: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self) -> Link:
        """Make it and join it. Raises RuntimeFailure."""
        hooks = Hooks(gate=self._join)
        argv = [*NAMESPACE, "sleep", "infinity"]
        self.task = asyncio.create_task(self.runner.run(argv, check=False, hooks=hooks))
        waiting = asyncio.create_task(self.joined.wait())
        try:
            await asyncio.wait([self.task, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            if self.link is None:
                with anyio.CancelScope(shield=True):
                    await self.close()
        if self.link is None:
            raise RuntimeFailure("a network namespace could not be made")
        return self.link

    async def answer_for_all(self) -> None:
        """Refuse connections to every address no service has. Raises RuntimeFailure."""
        link = self.link or await self.open()
        inside = ["nsenter", f"--net=/proc/{link.pid}/ns/net", "ip", "route", "add", "local", NETWORK]
        await self.runner.run([*inside, "dev", "lo"])
        # sessions side by side each have one: a route's metric tells them apart
        outside = ["ip", "route", "add", NETWORK, "dev", link.name, "metric", str(_METRIC + link.pid)]
        await self.runner.run(outside)

    async def listen(self, ports: Sequence[int]) -> list[socket.socket]:
        """Listening sockets in it. Raises OSError."""
        link = self.link or await self.open()
        return await anyio.to_thread.run_sync(_listening, link.pid, tuple(ports))

    async def close(self) -> None:
        """End it; twice is fine."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
            with contextlib.suppress(asyncio.CancelledError, RuntimeFailure):
                self.task.result()
            self.task = self.link = None

    async def _join(self, pid: int) -> None:
        self.link = await connect(self.runner, pid)
        self.joined.set()


def _listening(pid: int, ports: tuple[int, ...]) -> list[socket.socket]:
    """Sockets made in the network namespace of ``pid``: a socket stays where it was made, so a thread that
    enters the namespace, makes them and ends is enough (setns(2) changes the calling thread only)."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def make() -> None:
        try:
            _enter(Path(f"/proc/{pid}/ns/net"))
            made.extend(socket.create_server(("", port), backlog=128) for port in ports)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if failed:
        for one in made:
            one.close()
        raise failed[0]
    return made


def _enter(namespace: Path) -> None:
    import ctypes  # noqa: PLC0415  # needed here only, and a session starts quicker without it

    libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(descriptor)
