"""How a session ends while others still want something of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from embedded_engine.introspection import IntrospectionCache
from embedded_engine.loading import LoadedApi
from embedded_engine.runtime.running import Service
from embedded_engine.server import Application, Refusal, Request

pytestmark = pytest.mark.anyio


async def test_a_service_may_be_stopped_twice_at_once() -> None:
    """A start that is broken off and the session's end both stop it; neither may fail."""
    service = Service("web")

    async def life() -> None:
        with service.scope:
            try:
                await anyio.sleep(60)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.02)

    service.task = asyncio.create_task(life())
    await anyio.lowlevel.checkpoint()
    async with anyio.create_task_group() as group:
        group.start_soon(service.stop)
        group.start_soon(service.stop)
    assert service.exit_code() is not None


async def test_who_asks_after_the_end_is_told_so(tmp_path: Path) -> None:
    """A connection that is open goes on for a moment; the session's store is closed by then."""
    application = Application("token", LoadedApi(), IntrospectionCache(tmp_path))
    application.close()

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    answer = await application._answered(Request("{ version }"), receive)
    assert isinstance(answer, Refusal)
    assert answer.body["errors"][0]["message"] == "the session has ended"
