"""Host services where there are no network namespaces: on this machine's loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator

import anyio
import pytest

from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.relays import Relay

pytestmark = pytest.mark.anyio


@pytest.fixture
async def there() -> AsyncIterator[int]:
    """A port that answers what it is told, in capitals."""

    async def serve(stream: anyio.abc.ByteStream) -> None:
        async with stream:
            await stream.send(b"".join([piece async for piece in stream]).upper())
            await stream.send_eof()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        group.cancel_scope.cancel()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


async def said(port: int, text: bytes) -> bytes:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(text)
        await stream.send_eof()
        return b"".join([piece async for piece in stream])


async def test_another_number_leads_to_the_port(there: int) -> None:
    seen = free_port()
    relay = Relay("name", "127.0.0.1", ((seen, there),))
    await relay.start(Runner(os.environ), own_network=False)
    assert relay.reach(seen) == ("127.0.0.1", seen)
    assert await said(seen, b"hello") == b"HELLO", "each direction ends by itself"
    await relay.stop()
    await relay.stop()
    with pytest.raises(OSError):
        await anyio.connect_tcp("127.0.0.1", seen)


async def test_the_same_number_needs_nothing(there: int) -> None:
    relay = Relay("name", "localhost", ((there, there),))
    await relay.start(Runner(os.environ), own_network=False)
    assert relay.listeners == []
    assert await said(there, b"a") == b"A"


async def test_a_port_that_is_taken_is_named(there: int) -> None:
    relay = Relay("name", "127.0.0.1", ((there, 1),))
    with pytest.raises(RuntimeFailure, match=f"cannot listen on port {there}: Address already in use"):
        await relay.start(Runner(os.environ), own_network=False)


async def test_a_dead_port_closes_the_connection() -> None:
    seen = free_port()
    relay = Relay("name", "127.0.0.1", ((seen, free_port()),))
    await relay.start(Runner(os.environ), own_network=False)
    assert await said(seen, b"x") == b""
    await relay.stop()
