"""One request through the proxy and its answer, with the fault that strikes it."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

import h11

from tests.registries.faults import Fault, Seen, Where
from tests.registries.wire import PIECE, Ask, Front, Reply, Wire, passed_on

STALL_S = 120.0
"""How long a stalled connection stays, unless the client gives up before."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How slow the way is: seconds before each request, and bytes a second of each body (0: no limit)."""

    delay_s: float = 0.0
    bytes_per_s: float = 0.0

    async def spend(self, size: int) -> None:
        """Wait as long as ``size`` bytes take."""
        if self.bytes_per_s:
            await asyncio.sleep(size / self.bytes_per_s)


class Cut(Exception):
    """The client's connection ends here; ``flush``: what was said already still arrives."""

    def __init__(self, *, flush: bool = False) -> None:
        super().__init__()
        self.flush = flush


@dataclass(slots=True)
class Exchange:
    """One request on its way. ``run`` raises Cut where the client's connection has to end."""

    client: Wire
    request: h11.Request
    ask: Ask
    seen: Seen
    fault: Fault | None
    front: Front
    pace: Pace

    async def run(self, upstream: tuple[str, int]) -> None:
        """Answer as the fault, the cloud's front or the registry at ``upstream`` has it."""
        if self.fault and self._due(Where.INSTEAD):
            await self._instead(self.fault)
        elif (own := await self.front.answer(self.ask)) is not None:
            await self._reply(own)
        else:
            registry = await Wire.connect(*upstream)
            try:
                await _Up(self, registry).run()
                await _Down(self, registry).run()
            finally:
                registry.cut()

    async def _instead(self, fault: Fault) -> None:
        self.seen.injected = fault.kind.name
        if fault.kind.status:
            await self._reply(fault_reply(fault, self.ask, self.front.challenge))
            return
        if fault.kind.name == "stall":
            await self.stall()
        raise Cut

    async def _reply(self, reply: Reply) -> None:
        """Answer without the registry. The rest of a body is read first, as the clouds' front ends do."""
        while isinstance(event := await self.client.next_event(), h11.Data):
            self.seen.received += len(event.data)
            await self.pace.spend(len(event.data))
        self.seen.status = reply.status
        await self.client.reply(reply, bodyless=self.ask.method == "HEAD")

    def _due(self, where: Where) -> bool:
        return self.fault is not None and self.fault.kind.where is where

    def strikes(self, where: Where) -> str:
        """The name of the fault that strikes ``where``, or ""."""
        return self.fault.kind.name if self.fault and self._due(where) else ""

    async def stall(self) -> None:
        """Say nothing until the client hangs up."""
        with suppress(TimeoutError, OSError):
            await asyncio.wait_for(self.client.until_gone(), STALL_S)
        raise Cut


class _Up:
    """The request's way to the registry."""

    def __init__(self, exchange: Exchange, registry: Wire) -> None:
        self.exchange, self.registry = exchange, registry
        length = exchange.ask.length
        self._fault = exchange.strikes(Where.BODY) if length != 0 else ""
        self._middle = None if length is None else length // 2
        self._gone = False
        self._kept: IO[bytes] | None = None
        """Where the body waits until it is there as a whole."""

    async def run(self) -> None:
        request = self.exchange.request
        headers = passed_on(request.headers)
        if self._fault == "short-body" and self._middle is not None:
            headers = _with_length(headers, self._middle)
        target = self.exchange.front.target(self.exchange.ask)
        await self._pass(h11.Request(method=request.method, target=target, headers=headers))
        if self.exchange.front.is_all_or_nothing(self.exchange.ask):
            with tempfile.TemporaryFile() as self._kept:
                await self._body()
                await self._send_kept(self._kept)
        else:
            await self._body()
        await self._pass(h11.EndOfMessage())

    async def _body(self) -> None:
        while isinstance(event := await self.exchange.client.next_event(), h11.Data):
            await self._piece(bytes(event.data))

    async def _send_kept(self, kept: IO[bytes]) -> None:
        self._kept = None
        kept.seek(0)
        while data := kept.read(PIECE):
            await self._pass(h11.Data(data=data))

    async def _piece(self, data: bytes) -> None:
        seen = self.exchange.seen
        cut = (len(data) // 2 if self._middle is None else self._middle) - seen.received
        seen.received += len(data)
        await self.exchange.pace.spend(len(data))
        if not self._fault or cut >= len(data):
            await self._pass(h11.Data(data=data))
            return
        seen.injected = self._fault
        if self._fault == "flip-body":
            self._fault = ""
            await self._pass(h11.Data(data=_flipped(data, cut)))
            return
        if cut > 0:
            await self._pass(h11.Data(data=data[:cut]))
        if self._fault == "short-body":
            return  # and so is all that follows
        if self._fault == "stall-body":
            await asyncio.sleep(STALL_S)
        raise Cut

    async def _pass(self, event: h11.Event) -> None:
        """Send it on. A registry that answered early and hung up gets no more; its answer tells why."""
        if self._gone:
            return
        if self._kept is not None and isinstance(event, h11.Data):
            self._kept.write(event.data)
            return
        try:
            await self.registry.send(event)
        except ConnectionError:
            self._gone = True


class _Down:
    """The answer's way to the client."""

    def __init__(self, exchange: Exchange, registry: Wire) -> None:
        self.exchange, self.registry = exchange, registry
        self._fault = ""
        self._middle: int | None = None
        self._passed = 0

    async def run(self) -> None:
        exchange, client = self.exchange, self.exchange.client
        head = await self._head()
        headers = {name.decode(): value.decode("latin-1") for name, value in passed_on(head.headers)}
        status = await exchange.front.change(exchange.ask, head.status_code, headers)
        await self._lose()
        exchange.seen.status = status
        length = int(headers["content-length"]) if "content-length" in headers else None
        if exchange.ask.method != "HEAD" and length != 0 and head.status_code not in (204, 304):
            self._fault = exchange.strikes(Where.REPLY)
            self._middle = None if length is None else length // 2
        if self._fault == "short-reply" and self._middle is not None:
            headers["content-length"] = str(self._middle)
        await client.send(h11.Response(status_code=exchange.seen.status, headers=list(headers.items())))
        while isinstance(event := await self.registry.next_event(), h11.Data):
            await self._piece(bytes(event.data))
        await client.send(h11.EndOfMessage())

    async def _head(self) -> h11.Response:
        while isinstance(head := await self.registry.next_event(), h11.InformationalResponse):
            pass
        if not isinstance(head, h11.Response):
            raise Cut
        return head

    async def _lose(self) -> None:
        """The fault that swallows an answer to what the registry, and the cloud before it, have done."""
        if name := self.exchange.strikes(Where.ANSWER):
            self.exchange.seen.injected = name
            if name == "stall-answer":
                await self.exchange.stall()
            raise Cut

    async def _piece(self, data: bytes) -> None:
        client = self.exchange.client
        cut = (len(data) // 2 if self._middle is None else self._middle) - self._passed
        self._passed += len(data)
        await self.exchange.pace.spend(len(data))
        if not self._fault or cut >= len(data):
            await client.send(h11.Data(data=data))
            return
        self.exchange.seen.injected = self._fault
        if self._fault == "flip-reply":
            self._fault = ""
            await client.send(h11.Data(data=_flipped(data, cut)))
            return
        if cut > 0:
            await client.send(h11.Data(data=data[:cut]))
        if self._fault == "short-reply":
            return  # and so is all that follows
        if self._fault == "stall-reply":
            await self.exchange.stall()
        raise Cut(flush=True)


def fault_reply(fault: Fault, ask: Ask, challenge: str) -> Reply:
    """The answer that a fault gives in the registry's place."""
    kind, headers = fault.kind, {}
    if kind.status == 401:
        headers["WWW-Authenticate"] = challenge
    if kind.name == "429" or fault.value:
        headers["Retry-After"] = fault.value or "1"
    if not kind.code:
        page = b"<html><body><h1>Bad Gateway</h1></body></html>"
        return Reply(kind.status, {"Content-Type": "text/html", **headers}, page)
    return Reply.error(kind.status, kind.code, _message(kind.name, ask), headers)


def _message(name: str, ask: Ask) -> str:
    """What ECR says, where clients look at the words (as users' reports quote it)."""
    match name:
        case "403":
            return "Your authorization token has expired. Reauthenticate and try again."
        case "name-unknown":
            return f"The repository with name '{ask.repository}' does not exist in the registry"
        case "immutable":
            return immutable_message(ask)
    return ""


def immutable_message(ask: Ask) -> str:
    """ECR's words for a tag that is taken in a repository that holds its tags fast."""
    return (
        f"The image tag '{ask.path.rpartition('/')[2]}' already exists in the '{ask.repository}' repository "
        "and cannot be overwritten because the repository is immutable."
    )


def _with_length(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    others = [pair for pair in headers if pair[0].lower() != b"content-length"]
    return [*others, (b"content-length", str(length).encode())]


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]
