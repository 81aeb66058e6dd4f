"""Unix sockets of the host, and containers whose execs have them."""

from __future__ import annotations

from embedded_engine.resolvers.container_files import path_in
from embedded_engine.resolvers.registry import Call, Fields
from embedded_engine.values import Container, Host, Socket, SocketMount

fields = Fields()


@fields("Host.unixSocket")
def unix_socket(call: Call, _: Host, *, path: str) -> Socket:
    """A socket by its path; whether it is there shows when an exec has it."""
    return Socket(str(call.session.host.absolute(path)))


@fields("Container.withUnixSocket")
def with_unix_socket(
    call: Call, container: Container, *, path: str, source: str, owner: str, expand: bool
) -> Container:
    """A socket at ``path`` for the execs that follow; never part of the image."""
    target = path_in(container, path, expand=expand)
    mount = SocketMount(target, call.session.objects.get(Socket, source), owner)
    return container.having(sockets=(*_others(container, target), mount))


@fields("Container.withoutUnixSocket")
def without_unix_socket(_: Call, container: Container, *, path: str, expand: bool) -> Container:
    """Take a socket away."""
    return container.having(sockets=_others(container, path_in(container, path, expand=expand)))


def _others(container: Container, target: str) -> tuple[SocketMount, ...]:
    return tuple(one for one in container.sockets if one.target != target)
