"""A small web server for fakes: routes of an ASGI application, run by uvicorn in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import uvicorn

from tests.registries.authority import Authority

Receive = Callable[[], Awaitable[dict[str, object]]]
Send = Callable[[dict[str, object]], Awaitable[None]]
START_TIMEOUT_S = 10.0


def free_port() -> int:
    """A loopback port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose body is not read yet."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    receive: Receive = field(repr=False)
    target: str = ""
    """Path and query, as they came."""

    def all_of(self, name: str) -> list[str]:
        """Every value of one name of the query."""
        return [value for key, value in parse_qsl(self.target.partition("?")[2]) if key == name]

    async def body(self) -> bytes:
        """All of it; for what is small."""
        parts = []
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)

    async def form(self) -> dict[str, str]:
        """The fields of application/x-www-form-urlencoded."""
        return dict(parse_qsl((await self.body()).decode()))


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole small answer; ``content`` becomes JSON."""

    content: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, send: Send) -> None:
        """Onto the wire."""
        body = b"" if self.content is None else json.dumps(self.content).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **self.headers}
        head = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": head})
        await send({"type": "http.response.body", "body": body})


class WebServer:
    """Answers with ``respond`` while it runs. With an ``authority`` it speaks TLS, else plain HTTP.

    Its event loop runs in a thread, so that clients that block (the clouds' SDKs) can be tested with it, from
    tests of either colour.
    """

    def __init__(self, port: int, authority: Authority | None) -> None:
        self.port = port
        self.authority = authority

    async def respond(self, asked: Asked, send: Send) -> None:
        """Answer one request."""
        raise NotImplementedError

    async def close(self) -> None:
        """End what ``respond`` opened."""

    def server(self) -> uvicorn.Server:
        """What serves it."""
        pem = str(self.authority.server_file) if self.authority else None
        config = uvicorn.Config(
            self._application,
            host="127.0.0.1",
            port=self.port,
            ssl_certfile=pem,
            ssl_keyfile=pem,
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
        )
        return uvicorn.Server(config)

    async def _application(self, scope: dict[str, object], receive: Receive, send: Send) -> None:
        query = scope["query_string"].decode()
        raw = scope["raw_path"].decode()
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        asked = Asked(
            scope["method"],
            scope["path"],
            dict(parse_qsl(query)),
            headers,
            receive,
            f"{raw}?{query}" if query else raw,
        )
        await self.respond(asked, send)


@contextmanager
def serving(*fakes: WebServer) -> Iterator[None]:
    """Let them serve on 127.0.0.1 until the block ends."""
    servers = [fake.server() for fake in fakes]
    threads = [
        threading.Thread(target=asyncio.run, args=[_serve(fake, server)], daemon=True)
        for fake, server in zip(fakes, servers, strict=True)
    ]
    try:
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not all(server.started for server in servers):
            if time.monotonic() > deadline or not all(thread.is_alive() for thread in threads):
                raise RuntimeError(f"nothing serves on one of the ports {[fake.port for fake in fakes]}")
            time.sleep(0.005)
        yield
    finally:
        for server in servers:
            server.should_exit = server.force_exit = True
        for thread in threads:
            thread.join(START_TIMEOUT_S)


async def _serve(fake: WebServer, server: uvicorn.Server) -> None:
    try:
        await server.serve()
    finally:
        await fake.close()
        for connection in list(server.server_state.connections):
            connection.transport.abort()  # a client that keeps its connection
        await asyncio.sleep(0.01)  # until they are gone
