"""GraphQL and the container runtime are loaded beside the first request, not before the port is told.

A client then connects while they load: it sees the session some 0.3 s sooner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from embedded_engine.disk import advice

if TYPE_CHECKING:
    from embedded_engine.api import Api
    from embedded_engine.session import Session


class NotLoaded(Exception):
    """The session could not begin."""


@dataclass(slots=True)
class LoadedApi:
    """The session and its API, once they are there."""

    ready: anyio.Event = field(default_factory=anyio.Event)
    parts: list[tuple[Session, Api]] = field(default_factory=list)

    error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """They will never be there."""
        self.error = error
        self.ready.set()

    def put(self, session: Session, api: Api) -> None:
        """They are there."""
        self.parts.append((session, api))
        self.ready.set()

    async def get(self) -> tuple[Session, Api]:
        """Wait for them. Raises NotLoaded, which says why, if they never come."""
        await self.ready.wait()
        if self.error is not None:
            told = advice(self.error, getattr(self.error, "detail", "")) or self.error
            raise NotLoaded(f"the session could not begin: {told}") from self.error
        return self.parts[0]
