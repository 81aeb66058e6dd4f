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

    async def _serve(self, server: uvicorn.Server) -> None:
        try:
            await server.serve()
        finally:
            await self.close()
            await asyncio.sleep(0)  # for transports to be closed

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve on 127.0.0.1 until the block ends."""
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
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=asyncio.run,
            args=[self._serve(server)],
            name=f"{type(self).__name__}:{self.port}",
            daemon=True,
        )
        thread.start()
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not server.started:
                if time.monotonic() > deadline or not thread.is_alive():
                    raise RuntimeError(f"nothing serves on port {self.port}")
                time.sleep(0.005)
            yield
        finally:
            server.should_exit = server.force_exit = True
            thread.join(START_TIMEOUT_S)

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
