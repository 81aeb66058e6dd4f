"""Services of one session: started once per recipe when first needed, stopped at its end at the latest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import anyio

from embedded_engine.elements import HealthcheckConfig
from embedded_engine.events import Events
from embedded_engine.failures import CommandFailure
from embedded_engine.flights import Flights
from embedded_engine.image_config import parse_duration
from embedded_engine.masking import Hidden, mask_text
from embedded_engine.operations import Work, digest_of
from embedded_engine.runtime.port import HealthCheck, Readiness, RunningService, ServiceFailed, ServicePort
from embedded_engine.steps import prepared, with_services
from embedded_engine.values import Container, Service

READY_LIMIT_S = 120.0
SETTLE_S = 0.3
_NS = 10**9


class ServiceError(CommandFailure):
    """A service did not start or did not stay; outputs are masked."""


@dataclass(slots=True)
class Services:
    """What runs, by the service's digest. ``holding`` keeps its mounts until it has stopped."""

    starting: Flights[RunningService]
    events: Events
    up: dict[str, RunningService] = field(default_factory=dict)
    holding: dict[str, contextlib.AsyncExitStack] = field(default_factory=dict)

    async def running(self, work: Work, service: Service, alias: str = "") -> RunningService:
        """The service, started if it is not up (or has ended). Raises ServiceError, which tells ``alias``."""
        one = self.up.get(service.digest)
        if one is not None and one.exit_code() is None:
            return one
        return await self.starting.join(service.digest, lambda: self._start(work, service, alias))

    async def _start(self, work: Work, service: Service, alias: str) -> RunningService:
        await self._release(service.digest)
        if service.container is None:
            forwards = tuple((frontend or backend, backend) for frontend, backend, _ in service.forwards)
            one = await work.runtime.host_service(hostname_of(service), service.host, forwards)
            self.up[service.digest] = one
            return one
        async with contextlib.AsyncExitStack() as stack:
            ready = await stack.enter_async_context(prepared(work, service.container, service.args))
            step = await with_services(work, service.container, replace(ready.step, init=service.init))
            with self.events.activity("service", " ".join((alias or hostname_of(service), *service.args))):
                try:
                    one = await work.runtime.start_service(
                        step, hostname_of(service), readiness_of(service.container)
                    )
                except ServiceFailed as failure:
                    raise _told(failure, service, ready.masks, alias) from failure
            self.holding[service.digest] = stack.pop_all()
            self.up[service.digest] = one
        return one

    async def stop(self, service: Service, *, kill: bool = False) -> None:
        """Stop it if it is up; twice is fine."""
        one = self.up.pop(service.digest, None)
        if one is not None:
            await one.stop(kill=kill)
        await self._release(service.digest)

    async def close(self) -> None:
        """Stop all, side by side."""
        async with anyio.create_task_group() as group:
            for one in self.up.values():
                group.start_soon(_stop, one)
        self.up.clear()
        for digest in list(self.holding):
            await self._release(digest)

    async def _release(self, digest: str) -> None:
        stack = self.holding.pop(digest, None)
        if stack is not None:
            await stack.aclose()


async def settled(services: Iterable[RunningService]) -> None:
    """Wait a moment for the end of one to show: a client sees a closed connection before we see the exit."""
    watched = list(services)
    with anyio.move_on_after(SETTLE_S):
        while watched and all(one.exit_code() is None for one in watched):  # noqa: ASYNC110  # it tells nobody
            await anyio.sleep(0.02)


async def _stop(service: RunningService) -> None:
    await service.stop()


def hostname_of(service: Service) -> str:
    """Stable for a recipe, and a valid host name."""
    return service.hostname or "s" + digest_of("hostname", service.digest)[:12]


def readiness_of(container: Container) -> Readiness:
    """When it is ready: by its health check, else by its exposed ports but those told to be skipped."""
    ports = tuple(
        ServicePort(p.port, p.protocol, probe=not p.skip_healthcheck) for p in container.config.ports
    )
    health = container.config.healthcheck
    return Readiness(ports, _health_check(health) if health else None, READY_LIMIT_S)


def _health_check(health: HealthcheckConfig) -> HealthCheck:
    pause = parse_duration(health.start_interval) or parse_duration(health.interval)
    return HealthCheck(
        args=("/bin/sh", "-c", *health.args) if health.shell else health.args,
        timeout_s=(parse_duration(health.timeout) or 30 * _NS) / _NS,
        start_period_s=parse_duration(health.start_period) / _NS,
        pause_s=(pause or 5 * _NS) / _NS,
        retries=health.retries or 3,
    )


def _told(failure: ServiceFailed, service: Service, masks: Hidden, alias: str) -> ServiceError:
    name = f"{hostname_of(service)} (aliased as {alias})" if alias else hostname_of(service)
    code = -1 if failure.exit_code is None else failure.exit_code
    text = mask_text(f"start {name}: {failure}", masks)
    return ServiceError(text, args=service.args, exit_code=code, stdout=failure.stdout, stderr=failure.stderr)
