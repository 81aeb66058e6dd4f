"""Sessions in this process on a simulated runtime: for what of the engine needs no container."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime_simulator import SimulatedRuntime

from embedded_engine.api import Api, build_api
from embedded_engine.resolvers.tables import all_fields
from embedded_engine.secrets import Secrets
from embedded_engine.session import Session, open_session
from embedded_engine.store import Store

IMAGE = "r.test/base:1"
BASE = ("container", f'from(address: "{IMAGE}")')


@dataclass
class Asker:
    """One session that whole documents are asked of."""

    session: Session
    api: Api
    runtime: SimulatedRuntime

    async def raw(self, query: str) -> dict[str, Any]:
        answer = await self.api.answer(self.session, query, None, None)
        return {"status": answer.status, **answer.body}


class Client(Asker):
    """Asks one session: a chain is its fields, outermost first."""

    async def ask(self, *chain: str) -> Any:
        body = await self.raw("{ " + " { ".join(chain) + " }" * len(chain))
        assert "errors" not in body, body["errors"]
        data = body["data"]
        while isinstance(data, dict):
            (data,) = data.values()
        return data

    async def fails(self, *chain: str) -> str:
        """The message of the one error."""
        body = await self.raw("{ " + " { ".join(chain) + " }" * len(chain))
        assert body["data"] is None, body
        (error,) = body["errors"]
        return str(error["message"])

    async def id(self, *chain: str) -> str:
        """An object's id as a literal."""
        return json.dumps(await self.ask(*chain, "id"))

    async def secret(self, name: str, value: str) -> str:
        return await self.id(f"setSecret(name: {json.dumps(name)}, plaintext: {json.dumps(value)})")


@contextlib.asynccontextmanager
async def simulated_session(directory: Path) -> AsyncIterator[Client]:
    """A session; another one on the same directory shares its state, as a cache outlives a process."""
    runtime = SimulatedRuntime(directory / "runtime", {IMAGE: "sha256:" + "a" * 64})
    workdir = directory / "work"
    workdir.mkdir(parents=True, exist_ok=True)
    store = Store.open(directory / "state" / "engine.sqlite")
    secrets = Secrets.in_session(store, workdir)
    async with open_session(directory / "state", runtime, store, secrets) as session:
        yield Client(session, _api(), runtime)


@functools.cache
def _api() -> Api:
    return build_api(all_fields())
