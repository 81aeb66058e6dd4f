"""A fault-injecting HTTP proxy before a real registry. It streams: no body is ever held in memory.

async with FaultProxy(registry.host, script).running() as proxy: ...  # speak to proxy.host
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import h11

from tests.registries.exchange import Cut, Exchange, Pace
from tests.registries.faults import Script, Seen
from tests.registries.wire import Ask, Front, Wire


class FaultProxy:
    """One proxy; several may share a ``script``, and then count their requests together."""

    def __init__(
        self,
        upstream: str,
        script: Script,
        *,
        front: Front | None = None,
        place: str = "",
        pace: Pace | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        name, _, port = upstream.rpartition(":")
        self._upstream = (name, int(port))
        self._tls = tls
        self._clients: set[asyncio.Task[None]] = set()
        self._under_way: list[Seen] = []
        self.script = script
        self.front: Front = front or Front()
        self.place = place
        self.pace = pace or Pace()
        self.host = ""
        """``127.0.0.1:PORT``, while it runs."""

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[FaultProxy]:
        """Listen on loopback until the block ends; whoever still waits then is cut off."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", port, ssl=self._tls)
        self.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            await self.hang_up()
            await server.wait_closed()

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way that doesn't hang on purpose."""
        return any(not seen.injected.startswith("stall") for seen in self._under_way)

    async def hang_up(self) -> None:
        """Cut every connection that there is now."""
        clients = list(self._clients)
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        client = Wire(h11.SERVER, reader, writer)
        try:
            await self._converse(client)
        except Cut as cut:
            if not cut.flush:
                client.cut()
        except (OSError, h11.ProtocolError, asyncio.CancelledError):
            client.cut()  # cancelled: the proxy ends, and only ``hang_up`` waits for this task
        finally:
            self._clients.discard(task)
            with suppress(OSError):
                writer.close()

    async def _converse(self, client: Wire) -> None:
        while isinstance(request := await client.next_event(), h11.Request):
            ask = Ask.of(request)
            seen, fault = self.script.next(ask.method, ask.target, self.place)
            self._under_way.append(seen)
            try:
                await asyncio.sleep(self.pace.delay_s)
                await Exchange(client, request, ask, seen, fault, self.front, self.pace).run(self._upstream)
            finally:
                self._under_way.remove(seen)
            if client.http.our_state is not h11.DONE or client.http.their_state is not h11.DONE:
                return
            client.http.start_next_cycle()
