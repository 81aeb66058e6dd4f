"""Service fields; the host's tunnels to services and its own ports as a service."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import anyio
from anyio.abc import ByteStream

from embedded_engine.elements import Port
from embedded_engine.resolvers.container_exec import as_service
from embedded_engine.resolvers.registry import ApiError, Call, Fields
from embedded_engine.runtime.forwarding import Connect
from embedded_engine.runtime.port import RunningService
from embedded_engine.services import ServiceError, hostname_of
from embedded_engine.values import Container, Service

fields = Fields()
Ports = list[dict[str, Any]]
Forward = tuple[int, int, str]  # frontend (0: any, or as the backend), backend, protocol
_LOOK_S = 0.2


@fields("Service.hostname")
def hostname(_: Call, service: Service) -> str:
    """The stable name; a tunnel's is this machine's."""
    return "127.0.0.1" if service.target and not service.hostname else hostname_of(service)


@fields("Service.withHostname")
def with_hostname(_: Call, service: Service, *, hostname: str) -> Service:
    """The same service under another name."""
    return replace(service, hostname=hostname)


@fields("Service.ports")
async def ports(call: Call, service: Service) -> list[Port]:
    """The exposed ports; for a tunnel the local ones, for the host's service those seen by containers."""
    if service.target is not None:
        return [Port(port) for port in await _tunnel(call, service)]
    if service.container is not None:
        return list(service.container.config.ports)
    return [Port(frontend or backend) for frontend, backend, _ in service.forwards]


@fields("Service.endpoint")
async def endpoint(call: Call, service: Service, *, scheme: str, port: int | None = None) -> str:
    """host:port, with ``scheme://`` before it if one is given."""
    if service.target is not None:
        local = await _tunnel(call, service)
        backends = [backend for _, backend, _ in service.forwards]
        chosen = local[backends.index(port)] if port in backends else (port or local[0])
    else:
        exposed = await ports(call, service)
        if port is None and not exposed:
            raise ApiError("no port exposed: give endpoint a port, or expose one with withExposedPort")
        chosen = port if port is not None else exposed[0].port
    address = f"{hostname(call, service)}:{chosen}"
    return f"{scheme}://{address}" if scheme else address


@fields("Service.start", "Service.sync")
async def start(call: Call, service: Service) -> str:
    """Start it and wait until it is ready."""
    if service.target is not None:
        await _tunnel(call, service)
    else:
        await call.session.evaluator.services.running(call.session.evaluator, service)
    return call.session.objects.put(service)


@fields("Service.stop")
async def stop(call: Call, service: Service, *, kill: bool) -> str:
    """Stop it; twice is fine. Stopping a tunnel leaves its service running."""
    if service.target is not None:
        await call.session.tunnels.shut(service.digest)
    else:
        await call.session.evaluator.services.stop(service, kill=kill)
    return call.session.objects.put(service)


@fields("Service.up")
async def up(call: Call, service: Service, *, ports: Ports, random: bool) -> None:
    """Ports of 127.0.0.1 lead to the service until the request or the session ends.

    Without ``ports`` and ``random`` they have the service's own numbers. Raises ServiceError if it ends.
    """
    tunnel = _tunnel_to(service, ports, native=not random and not ports)
    local = await _tunnel(call, tunnel)
    running = await _running(call, service)
    backends = [backend for _, backend, _ in tunnel.forwards]
    for port, backend in zip(local, backends, strict=True):
        call.session.evaluator.events.note(f"up: http://127.0.0.1:{port} leads to port {backend}")
    try:
        while running.exit_code() is None:  # noqa: ASYNC110  # the runtime tells nobody
            await anyio.sleep(_LOOK_S)
    finally:
        with anyio.CancelScope(shield=True):
            await call.session.tunnels.shut(tunnel.digest)
    code = running.exit_code() or 0
    stdout, stderr = running.logs()
    text = f"service {hostname_of(service)} exited: exit code: {code}"
    raise ServiceError(text, args=service.args, exit_code=code, stdout=stdout, stderr=stderr)


@fields("Container.up")
async def container_up(call: Call, container: Container, *, ports: Ports, random: bool, **how: Any) -> None:
    """``asService`` and ``up`` in one."""
    await up(call, as_service(call, container, **how), ports=ports, random=random)


@fields("Host.tunnel")
def tunnel(call: Call, _: object, *, service: str, native: bool, ports: Ports) -> Service:
    """127.0.0.1 ports that lead to the service; free ones unless given, or the same with ``native``."""
    return _tunnel_to(call.session.objects.get(Service, service), ports, native=native)


@fields("Host.service")
def host_service(_: Call, __: object, *, ports: Ports, host: str) -> Service:
    """Ports of this machine (or of ``host``, as seen from it) as a service that containers can bind."""
    if not ports:
        raise ApiError("no ports specified")
    return Service(host=host, forwards=_forwards("Host.service", ports))


def _tunnel_to(target: Service, ports: Ports, *, native: bool) -> Service:
    if target.container is None:
        raise ApiError("tunneling to non-Container services is not supported")
    exposed = target.container.config.ports
    native_ones: list[Forward] = [(one.port, one.port, one.protocol) for one in exposed] if native else []
    forwards = [*native_ones, *_forwards("Host.tunnel", ports)]
    forwards = forwards or [(0, port.port, port.protocol) for port in exposed]
    if not forwards:
        raise ApiError("no ports to forward: the service exposes none; name one in ports")
    _refuse_udp("Host.tunnel", forwards)
    return Service(target=target, forwards=tuple(forwards))


def _forwards(field: str, ports: Ports) -> tuple[Forward, ...]:
    forwards = tuple(
        (one.get("frontend") or 0, one["backend"], one.get("protocol") or "TCP") for one in ports
    )
    for frontend, backend, _ in forwards:
        if not (0 <= frontend < 65536 and 0 < backend < 65536):
            raise ApiError(f"{field}: ports are between 1 and 65535, not {frontend or backend}")
    _refuse_udp(field, forwards)
    return forwards


def _refuse_udp(field: str, forwards: Iterable[Forward]) -> None:
    if any(protocol == "UDP" for _, _, protocol in forwards):
        raise ApiError(
            f"{field}(protocol: UDP) is not supported by the embedded engine: needs Dagger's engine"
        )


async def _running(call: Call, service: Service) -> RunningService:
    return await call.session.evaluator.services.running(call.session.evaluator, service)


async def _tunnel(call: Call, tunnel: Service) -> list[int]:
    assert tunnel.target is not None  # noqa: S101  # callers asked
    running = await _running(call, tunnel.target)
    pairs = [(frontend, _connector(running, backend)) for frontend, backend, _ in tunnel.forwards]
    return await call.session.tunnels.open(tunnel.digest, pairs)


def _connector(running: RunningService, port: int) -> Connect:
    async def connect() -> ByteStream:
        if running.exit_code() is not None:
            raise ConnectionRefusedError("the service has ended")
        return await anyio.connect_tcp(*running.reach(port))

    return connect
