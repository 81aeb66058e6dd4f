"""Services: commands that go on in the background until they are stopped, ready when their ports accept.

A service is a `buildah run` like an exec's, in namespaces that die with it: there is no daemon and no
detached container that could outlive the session. Its network is one of its own where this process may make
one (links.py), else the host's: then its address is 127.0.0.1, and a port that is taken already is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import anyio.to_thread

from embedded_engine.runtime.buildah import Isolation, prepare, run_argv
from embedded_engine.runtime.enclosure import Enclosures
from embedded_engine.runtime.host_settings import HostSettings
from embedded_engine.runtime.links import LOOPBACK, NAMESPACE, START_WHEN_TOLD, can_connect, connect
from embedded_engine.runtime.logins import private_directory
from embedded_engine.runtime.machine import machine_key
from embedded_engine.runtime.outcome import ending
from embedded_engine.runtime.port import (
    ExecStep,
    Facts,
    RunningService,
    RuntimeFailure,
    ServiceFailed,
    ServicePort,
)
from embedded_engine.runtime.process import Finished, Hooks, Runner
from embedded_engine.runtime.said import Said
from embedded_engine.runtime.working import Working

FACT = "service-network"
STOP_LIMIT_S = 10
_TAIL_BYTES = 100_000


@dataclass(slots=True)
class Tail:
    """The last bytes of a stream."""

    pieces: deque[bytes] = field(default_factory=deque)
    size: int = 0

    def add(self, piece: bytes) -> None:
        """Take in a piece; old ones go."""
        self.pieces.append(piece)
        self.size += len(piece)
        while self.size - len(self.pieces[0]) >= _TAIL_BYTES:
            self.size -= len(self.pieces.popleft())

    def data(self) -> bytes:
        """What is left."""
        return b"".join(self.pieces)[-_TAIL_BYTES:]


@dataclass(slots=True)
class Service:
    """Implements port.RunningService."""

    hostname: str
    address: str = LOOPBACK
    pid: int = 0  # of the process that holds its namespaces
    finished: Finished | None = None
    failure: RuntimeFailure | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    out: Tail = field(default_factory=Tail)
    err: Tail = field(default_factory=Tail)

    def reach(self, port: int) -> tuple[str, int]:
        """See port.RunningService."""
        return self.address, port

    def exit_code(self) -> int | None:
        """See port.RunningService."""
        if self.failure is not None:
            return -1
        return None if self.finished is None else self._ended()[0]

    def logs(self) -> tuple[str, str]:
        """See port.RunningService."""
        stderr = self.err.data() if self.finished is None else self._ended()[1]
        return self.out.data().decode("utf-8", "replace"), stderr.decode("utf-8", "replace")

    def take(self, stream: int, piece: bytes) -> None:
        """What the process just said, masked."""
        (self.out if stream == 1 else self.err).add(piece)

    async def stop(self, *, kill: bool = False) -> None:
        """See port.RunningService."""
        if self.task is None:
            return
        if not kill and self.finished is None:
            told = terminate(self.pid)
            await asyncio.wait([self.task], timeout=STOP_LIMIT_S if told else 0)
        self.scope.cancel()  # not the task: that would break into its clearing away
        await asyncio.wait([self.task])
        self.task = None
        if self.finished is None and self.failure is None:
            self.finished = Finished(128 + signal.SIGKILL, b"", b"")

    def _ended(self) -> tuple[int, bytes]:
        assert self.finished is not None  # noqa: S101  # asked by the callers
        if self.finished.exit_code == 128 + signal.SIGKILL:
            return self.finished.exit_code, self.err.data()
        try:
            end = ending(replace(self.finished, stderr=self.err.data()))
        except RuntimeFailure:
            return self.finished.exit_code, self.err.data()
        return end.exit_code, end.stderr


@dataclass(slots=True)
class ServiceHost:
    """Starts services and stops what is left of them."""

    runner: Runner
    working: Working
    enclosures: Enclosures
    facts: Facts
    temp: Path
    running: list[Service] = field(default_factory=list)

    async def start(
        self,
        step: ExecStep,
        hostname: str,
        ports: Sequence[ServicePort],
        timeout_s: float,
        how: tuple[Isolation, HostSettings],
    ) -> RunningService:
        """Start and wait. Raises ServiceFailed, SetupFailure or RuntimeFailure."""
        service = Service(hostname)
        probed = [port.port for port in ports if port.probe and port.protocol == "TCP"]
        own_network = await self._own_network()
        if not own_network:
            _refuse_taken(probed)
        service.task = asyncio.create_task(self._run(service, step, how, own_network=own_network))
        self.running.append(service)
        try:
            await self._ready(service, step, probed, timeout_s)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await service.stop(kill=True)
            raise
        return service

    async def close(self) -> None:
        """Stop all that still runs, side by side."""
        async with anyio.create_task_group() as group:
            for service in self.running:
                group.start_soon(service.stop)
        self.running.clear()

    async def _own_network(self) -> bool:
        known = self.facts.fact(FACT, machine_key())
        if not isinstance(known, bool):
            known = await can_connect(self.runner)
            self.facts.remember(FACT, machine_key(), known)
        return known

    async def _run(
        self, service: Service, step: ExecStep, how: tuple[Isolation, HostSettings], *, own_network: bool
    ) -> None:
        """The life of a service, ended by its own end or by cancelling this task."""
        isolation, settings = how
        try:
            with service.scope, private_directory(self.temp) as private:
                async with (
                    self.working.container(step.parent) as (name, root),
                    self.enclosures.one(isolation.runtime) as box,
                ):
                    volumes = await anyio.to_thread.run_sync(prepare, step, root, private, settings)
                    # inside a namespace made here, that network is the host's as far as Buildah knows
                    options = [*replace(isolation, network="host").args(), *box.runtime_args(isolation.kind)]
                    argv = box.argv(run_argv(step, name, options, settings, volumes))
                    if own_network:
                        argv = [*NAMESPACE, *START_WHEN_TOLD, *argv]

                    async def gate(pid: int) -> None:
                        service.pid = pid
                        if own_network:
                            service.address = (await connect(self.runner, pid)).address
                        service.started.set()

                    said = Said(step.hidden, (service.take, step.watch) if step.watch else (service.take,))
                    finished = await self.runner.run(
                        argv,
                        stdin=b"\n" if own_network else b"",
                        check=False,
                        hooks=Hooks(said.take, gate, keep_output=False),
                    )
                    said.finish()
                    service.finished = finished
        except RuntimeFailure as failure:
            service.failure = failure
        finally:
            service.started.set()

    async def _ready(self, service: Service, step: ExecStep, ports: Sequence[int], timeout_s: float) -> None:
        with anyio.move_on_after(timeout_s):
            await service.started.wait()
            for port in ports:
                await _accepting(service, step, port)
            _check_alive(service, step)
            return
        stdout, stderr = service.logs()
        waited = ", ".join(str(port) for port in ports)
        raise ServiceFailed(
            f"port {waited} did not accept a connection within {timeout_s:g} s",
            exit_code=None,
            stdout=stdout,
            stderr=stderr,
            args=step.args,
        )


async def _accepting(service: Service, step: ExecStep, port: int) -> None:
    """Return when the port accepts. Raises ServiceFailed when the service ends before that."""
    pause_s = 0.01
    while True:
        _check_alive(service, step)
        with anyio.move_on_after(1):
            try:
                stream = await anyio.connect_tcp(*service.reach(port))
            except OSError:
                pass
            else:
                await stream.aclose()
                return
        await anyio.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.1)


def _check_alive(service: Service, step: ExecStep) -> None:
    if service.failure is not None:
        raise service.failure
    code = service.exit_code()
    if code is None:
        return
    stdout, stderr = service.logs()
    raise ServiceFailed(f"exit code: {code}", exit_code=code, stdout=stdout, stderr=stderr, args=step.args)


def _refuse_taken(ports: Sequence[int]) -> None:
    for port in ports:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex((LOOPBACK, port)) == 0:
                raise RuntimeFailure(
                    f"port {port} is taken on this machine, whose network services share here "
                    "(making network namespaces needs root, iproute2 and CAP_NET_ADMIN)"
                )


def terminate(pid: int) -> bool:
    """Send TERM to the service's own first process, somewhere below ``pid``: Buildah itself would kill it at
    once.

    The first process of a PID namespace is deaf to a TERM it does not handle; that one is killed, as an init
    would see to. False if it does not run yet.
    """
    for process in _descendants(pid):
        if _in_container(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM if _catches_term(process) else signal.SIGKILL)
            return True
    return False


def _catches_term(pid: int) -> bool:
    """Whether it has a handler for TERM. Without one it should die of it, but the first of a namespace does
    not."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return True


def _descendants(pid: int) -> Iterator[int]:
    """The processes below ``pid``, parents first."""
    waiting = deque([pid])
    while waiting:
        one = waiting.popleft()
        try:
            tasks = list(Path(f"/proc/{one}/task").iterdir())
            children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield from children
        waiting.extend(children)


def _in_container(pid: int) -> bool:
    """Whether a process runs the service's program: its root is the container's, and it is no part of
    Buildah."""
    try:
        program = Path(f"/proc/{pid}/cmdline").read_bytes()
        return _place(f"/proc/{pid}/root") != _place("/") and not program.startswith((b"buildah", b"runc"))
    except OSError:
        return False


def _place(path: str) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_dev, status.st_ino
