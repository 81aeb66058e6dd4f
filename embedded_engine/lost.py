"""Content that a stored outcome counts on and that turns out not to be had."""

from __future__ import annotations

from embedded_engine.runtime.port import RuntimeFailure


class ContentLost(RuntimeFailure):
    """A snapshot or tree that was believed to be there is not: what made it has to run again."""

    def __init__(self, identity: str, message: str) -> None:
        super().__init__(message)
        self.identity = identity
