"""Service fields, and the tunnels of the host."""

from __future__ import annotations

from typing import Any

from embedded_engine.elements import Port
from embedded_engine.resolvers.registry import ApiError, Call, Fields
from embedded_engine.services import hostname_of
from embedded_engine.values import Service

fields = Fields()


@fields("Service.hostname")
def hostname(_: Call, service: Service) -> str:
    """The stable name; a tunnel's is localhost."""
    return "127.0.0.1" if service.target else hostname_of(service)


@fields("Service.withHostname")
def with_hostname(_: Call, service: Service, *, hostname: str) -> Service:
    """The same service under another name."""
    return Service(service.container, service.args, hostname, service.host, service.target, service.forwards)


@fields("Service.ports")
async def ports(call: Call, service: Service) -> list[Port]:
    """The exposed ports; for a tunnel the local ones."""
    if service.target is not None:
        return [Port(port) for port in await _tunnel(call, service)]
    return list(service.container.config.ports) if service.container else []


@fields("Service.endpoint")
async def endpoint(call: Call, service: Service, *, scheme: str, port: int | None = None) -> str:
    """host:port, with ``scheme://`` before it if one is given."""
    if service.target is not None:
        local = await _tunnel(call, service)
        backends = [backend for _, backend, _ in service.forwards]
        chosen = local[backends.index(port)] if port in backends else (port or local[0])
    else:
        exposed = service.container.config.ports if service.container else ()
        if port is None and not exposed:
            raise ApiError("no port exposed: give endpoint a port, or expose one with withExposedPort")
        chosen = port if port is not None else exposed[0].port
    address = f"{hostname(call, service)}:{chosen}"
    return f"{scheme}://{address}" if scheme else address


@fields("Service.start", "Service.sync")
async def start(call: Call, service: Service) -> str:
    """Start it and wait until its ports answer."""
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


@fields("Host.tunnel")
def tunnel(call: Call, _: object, *, service: str, native: bool, ports: list[dict[str, Any]]) -> Service:
    """127.0.0.1 ports that lead to the service; free ones unless given, or the same with ``native``."""
    target = call.session.objects.get(Service, service)
    if target.container is None:
        raise ApiError("Host.tunnel needs a container's service")
    given = [(one.get("frontend") or 0, one["backend"], one.get("protocol") or "TCP") for one in ports]
    exposed = [
        (port.port if native else 0, port.port, port.protocol) for port in target.container.config.ports
    ]
    forwards = tuple([*given, *exposed] if native else given or exposed)
    if not forwards:
        raise ApiError("Host.tunnel: the service exposes no port; name one in ports")
    if any(protocol == "UDP" for _, _, protocol in forwards):
        raise ApiError(
            "Host.tunnel(protocol: UDP) is not supported by the embedded engine: needs Dagger's engine"
        )
    return Service(target=target, forwards=forwards)


async def _tunnel(call: Call, tunnel: Service) -> list[int]:
    assert tunnel.target is not None  # noqa: S101  # callers asked
    evaluator = call.session.evaluator
    running = await evaluator.services.running(evaluator, tunnel.target)
    pairs = [
        (frontend, lambda backend=backend: running.reach(backend)) for frontend, backend, _ in tunnel.forwards
    ]
    return await call.session.tunnels.open(tunnel.digest, pairs)  # type: ignore[arg-type]  # bound early
