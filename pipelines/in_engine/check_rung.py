"""What every rung of the ladder is given, and the shape of what it tells. Python 3.8's own library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Callable, Dict  # noqa: UP035  # Python 3.8 runs it

from pipelines.in_engine.check_body import whole
from pipelines.in_engine.check_cases import Request
from pipelines.in_engine.check_http import Answer, Target

Piece = Dict[str, Any]  # noqa: UP006  # JSON: a piece of the plan or of the report

MOST_TOLD = 20
"""Failures told one by one: an engine keeps only the last 100 kB of a failed exec's output."""
MOST_SILENT = 3
"""After so many cases without any answer the rest is not asked: each could take its whole time."""


class Failure(Piece):
    """One thing that is wrong: ``line`` of the file, ``name`` of the case, ``messages``."""

    def __init__(self, line: int, name: str, messages: list[str]) -> None:
        super().__init__(
            line=line,
            name=name,
            messages=[message[:600] for message in messages[:5]],
            more=max(0, len(messages) - 5),
        )


@dataclass(frozen=True)
class Context:
    """The model under check. ``plan`` is the client's whole plan; ``files`` the model's directory.

    A rung is ``def rung(context) -> Piece`` with at least ``ok`` and ``detail`` (a few words for people);
    the keys ``file`` (relative to the model's directory), ``line``, ``hint`` and ``failures`` (Failure)
    are shown where it fails, and every other one is recorded as it is.
    """

    plan: Piece
    target: Target
    files: Path
    began: float

    @classmethod
    def of(cls, plan: Piece) -> Context:
        """The context of one climb, which begins now."""
        target = Target(plan["host"], plan["port"], plan["request_timeout_s"])
        return cls(plan, target, Path(plan["files"]), monotonic())

    def at(self, host: str) -> Target:
        """The same port of another service, such as the published version."""
        return Target(host, self.plan["port"], self.plan["request_timeout_s"])

    def send(self, request: Request, directory: Path, target: Target | None = None) -> Answer:
        """Ask the model (or ``target``); ``directory`` is where its file's body files are. NoAnswerError."""
        request = whole(request, directory)
        return (target or self.target).ask(request.method, request.path, request.headers, request.body)


RungFunction = Callable[[Context], Piece]
