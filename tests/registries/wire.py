"""HTTP/1.1 over asyncio streams with h11, in both roles, and the small values that fronts answer with."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import h11

_REPOSITORY = re.compile(r"/v2/(.+?)/(?:manifests|blobs|tags|referrers)/")
PIECE = 64 * 1024
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"expect", b"upgrade", b"proxy-connection"})


@dataclass(frozen=True, slots=True)
class Ask:
    """The head of a request."""

    method: str
    target: str
    headers: Mapping[str, str]
    """Names in lower case."""

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The last value of each name."""
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def repository(self) -> str:
        """The repository that a path of the distribution API is about; "" for none."""
        found = _REPOSITORY.match(self.path)
        return found[1] if found else ""

    @property
    def length(self) -> int | None:
        """The bytes of the body; None where they are not told (chunked transfer)."""
        if "transfer-encoding" in self.headers:
            return None
        return int(self.headers.get("content-length", 0))

    @classmethod
    def of(cls, request: h11.Request) -> Ask:
        """The head of what h11 read."""
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        return cls(request.method.decode(), request.target.decode("latin-1"), headers)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole small answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def error(
        cls, status: int, code: str, message: str = "", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """An error as the distribution specification has it."""
        body = json.dumps({"errors": [{"code": code, "message": message or code.lower()}]}).encode()
        return cls(status, {"Content-Type": "application/json", **(headers or {})}, body)


class Front:
    """What a cloud has before its registry. This one has nothing: the registry is seen as it is."""

    challenge = 'Basic realm="test"'
    """The WWW-Authenticate of a 401."""

    async def answer(self, ask: Ask) -> Reply | None:
        """An answer in the registry's place; None: the registry is asked."""
        return None

    def target(self, ask: Ask) -> str:
        """What the registry is asked for."""
        return ask.target

    def is_all_or_nothing(self, ask: Ask) -> bool:
        """Whether the registry gets a body only when the whole of it has arrived."""
        return False

    async def change(self, ask: Ask, status: int, headers: dict[str, str]) -> int:
        """Change an answer's headers (names in lower case) in place; the status that goes out."""
        return status


class Wire:
    """One connection, read and written in h11's events."""

    def __init__(
        self, role: type[h11.SERVER | h11.CLIENT], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.http = h11.Connection(role)
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, host: str, port: int) -> Wire:
        """To a registry on this machine."""
        reader, writer = await asyncio.open_connection(host, port)
        return cls(h11.CLIENT, reader, writer)

    async def next_event(self) -> h11.Event | type[h11.PAUSED]:
        """The next thing that the other side says. Raises OSError, h11.RemoteProtocolError."""
        while True:
            event = self.http.next_event()
            if event is h11.PAUSED or isinstance(event, h11.Event):
                return event
            if self.http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self.http.receive_data(await self.reader.read(PIECE))

    async def send(self, event: h11.Event) -> None:
        """Say something, and wait until it is on its way."""
        data = self.http.send(event)
        if data:
            self.writer.write(data)
            await self.writer.drain()

    async def reply(self, reply: Reply, *, bodyless: bool = False) -> None:
        """Answer with something small; to a HEAD without its body."""
        headers = {**reply.headers, "Content-Length": str(len(reply.body))}
        await self.send(h11.Response(status_code=reply.status, headers=list(headers.items())))
        if reply.body and not bodyless:
            await self.send(h11.Data(data=reply.body))
        await self.send(h11.EndOfMessage())

    async def until_gone(self) -> None:
        """Take no notice of anything until the other side hangs up."""
        while await self.reader.read(PIECE):
            pass

    def cut(self) -> None:
        """End it at once: what was not sent yet is lost."""
        self.writer.transport.abort()


def passed_on(headers: h11._headers.Headers) -> list[tuple[bytes, bytes]]:
    """The headers that are not about the one connection that they came over."""
    return [(name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP]
