"""Services: commands that go on in the background until they are stopped.

A service is a `buildah run` like an exec's, in namespaces that die with it: there is no daemon and no
detached container that could outlive the session. Its network is one of its own where this process may make
one (links.py), else the host's: then its address is 127.0.0.1, and a port that is taken already is an error.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
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
from embedded_engine.runtime.port import ExecStep, Facts, Readiness, RunningService, RuntimeFailure
from embedded_engine.runtime.process import Hooks, Runner
from embedded_engine.runtime.programs import settled
from embedded_engine.runtime.readiness import Run, failed, until_ready, waited_for
from embedded_engine.runtime.relays import Relay
from embedded_engine.runtime.running import Service
from embedded_engine.runtime.said import Said
from embedded_engine.runtime.spaces import Space
from embedded_engine.runtime.working import Working

FACT = "service-network"


@dataclass(slots=True)
class ServiceHost:
    """Starts services and stops what is left of them."""

    runner: Runner
    working: Working
    enclosures: Enclosures
    facts: Facts
    temp: Path
    running: list[Service | Relay] = field(default_factory=list)
    sink: Space | None = None
    locked: anyio.Lock = field(default_factory=anyio.Lock)

    async def start(
        self, step: ExecStep, hostname: str, wanted: Readiness, how: tuple[Isolation, HostSettings]
    ) -> RunningService:
        """Start and wait. Raises ServiceFailed, SetupFailure or RuntimeFailure."""
        service = Service(hostname)
        probed = [port.port for port in wanted.ports if port.probe and port.protocol == "TCP"]
        own_network = await self.own_network()
        if own_network:
            await self._answer_for_the_dead()
        else:
            _refuse_taken(probed)
        service.task = asyncio.create_task(self._run(service, step, how, own_network=own_network))
        self.running.append(service)
        try:
            await _ready(service, step, probed, wanted)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await service.stop(kill=True)
            raise
        return service

    async def relay(self, hostname: str, host: str, forwards: tuple[tuple[int, int], ...]) -> RunningService:
        """Ports of this machine as a service. Raises RuntimeFailure."""
        relay = Relay(hostname, host, forwards)
        await relay.start(self.runner, own_network=await self.own_network())
        self.running.append(relay)
        return relay

    async def close(self) -> None:
        """Stop all that still runs, side by side."""
        async with anyio.create_task_group() as group:
            for service in self.running:
                group.start_soon(_stop, service)
        self.running.clear()
        if self.sink is not None:
            await self.sink.close()
            self.sink = None

    async def own_network(self) -> bool:
        """Whether services have namespaces and addresses of their own here; tried once on a machine."""
        known = self.facts.fact(FACT, machine_key())
        if not isinstance(known, bool):
            known = await can_connect(self.runner)
            self.facts.remember(FACT, machine_key(), known)
        return known

    async def _answer_for_the_dead(self) -> None:
        """Have connections to a service that died refused at once, from now to the session's end."""
        async with self.locked:
            if self.sink is None:
                sink = Space(self.runner)
                try:
                    await sink.answer_for_all()
                except BaseException:
                    with anyio.CancelScope(shield=True):
                        await sink.close()
                    raise
                self.sink = sink

    def _beside(
        self,
        service: Service,
        step: ExecStep,
        container: str,
        how: tuple[Isolation, HostSettings],
        volumes: Sequence[tuple[Path, str, bool]],
    ) -> Run:
        """Runs a command in the service's container and network, as its user, with its variables."""
        isolation, settings = how

        async def run(args: tuple[str, ...]) -> tuple[int, bytes]:
            async with self.enclosures.one(isolation.runtime) as box:
                options = [*replace(isolation, network="host").args(), *box.runtime_args(isolation.kind)]
                argv = box.argv(run_argv(replace(step, args=args), container, options, settings, volumes))
                if service.address != LOOPBACK:
                    argv = ["nsenter", f"--net=/proc/{service.pid}/ns/net", *argv]
                said = Said(step.hidden)
                finished = await self.runner.run(argv, check=False, hooks=Hooks(said.take))
                said.finish()
                ended = ending(finished, args[0] if step.init else None)
            return ended.exit_code, said.outputs(finished, ended)[2]

        return run

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
                    step = await anyio.to_thread.run_sync(settled, step, root, settings.init)
                    service.program = step.args[0] if step.init else None
                    volumes = await anyio.to_thread.run_sync(prepare, step, root, private, settings)
                    # inside a namespace made here, that network is the host's as far as Buildah knows
                    options = [*replace(isolation, network="host").args(), *box.runtime_args(isolation.kind)]
                    argv = box.argv(run_argv(step, name, options, settings, volumes))
                    if own_network:
                        argv = [*NAMESPACE, *START_WHEN_TOLD, *argv]

                    service.run = self._beside(service, step, name, how, volumes)

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


async def _ready(service: Service, step: ExecStep, ports: Sequence[int], wanted: Readiness) -> None:
    limit_s = wanted.timeout_s + (wanted.health.start_period_s if wanted.health else 0)
    with anyio.move_on_after(limit_s):
        await service.started.wait()
        if service.failure is not None:
            raise service.failure
        assert service.run is not None  # noqa: S101  # set before it starts
        await until_ready(service, step, ports, wanted.health, service.run)
        return
    raise failed(service, step, f"{waited_for(ports, wanted.health)} within {limit_s:g} s")


async def _stop(service: RunningService) -> None:
    await service.stop()


def _refuse_taken(ports: Sequence[int]) -> None:
    for port in ports:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex((LOOPBACK, port)) == 0:
                raise RuntimeFailure(
                    f"port {port} is taken on this machine, whose network services share here "
                    "(making network namespaces needs root, iproute2 and CAP_NET_ADMIN)"
                )
