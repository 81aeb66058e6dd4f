"""Content that a stored outcome counts on and that turns out not to be had."""

from __future__ import annotations


class ContentLost(Exception):
    """A snapshot or tree that was believed to be there is not: what made it has to run again.

    No RuntimeFailure, since it is for the evaluator and nobody in between.
    """

    def __init__(self, identity: str, message: str) -> None:
        super().__init__(message)
        self.identity = identity
