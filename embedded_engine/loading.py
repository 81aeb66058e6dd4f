"""GraphQL and the container runtime are loaded beside the first request, not before the port is told.

A client then connects while they load: it sees the session some 0.3 s sooner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from embedded_engine.api import Api
    from embedded_engine.session import Session


@dataclass(slots=True)
class LoadedApi:
    """The session and its API, once they are there."""

    ready: anyio.Event = field(default_factory=anyio.Event)
    parts: list[tuple[Session, Api]] = field(default_factory=list)

    def put(self, session: Session, api: Api) -> None:
        """They are there."""
        self.parts.append((session, api))
        self.ready.set()

    async def get(self) -> tuple[Session, Api]:
        """Wait for them."""
        await self.ready.wait()
        return self.parts[0]
