"""A service's process as it runs: where it is reached, what it said lately, how it ended."""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from dataclasses import dataclass, field, replace

import anyio

from embedded_engine.runtime.links import LOOPBACK
from embedded_engine.runtime.outcome import ending
from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.runtime.process import Finished
from embedded_engine.runtime.readiness import Run
from embedded_engine.runtime.termination import terminate

STOP_LIMIT_S = 10
_TAIL_BYTES = 100_000


@dataclass(slots=True)
class Tail:
    """The last bytes of a stream."""

    pieces: deque[bytes] = field(default_factory=deque)
    size: int = 0

    def add(self, piece: bytes) -> None:
        """Take in a piece; old ones go."""
        self.pieces.append(piece)
        self.size += len(piece)
        while self.size - len(self.pieces[0]) >= _TAIL_BYTES:
            self.size -= len(self.pieces.popleft())

    def data(self) -> bytes:
        """What is left."""
        return b"".join(self.pieces)[-_TAIL_BYTES:]


@dataclass(slots=True)
class Service:
    """Implements port.RunningService."""

    hostname: str
    address: str = LOOPBACK
    program: str | None = None  # what its init starts, if it has one
    pid: int = 0  # of the process that holds its namespaces
    finished: Finished | None = None
    failure: RuntimeFailure | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    out: Tail = field(default_factory=Tail)
    err: Tail = field(default_factory=Tail)
    run: Run | None = None  # a command beside it, while it runs

    def reach(self, port: int) -> tuple[str, int]:
        """See port.RunningService."""
        return self.address, port

    def exit_code(self) -> int | None:
        """See port.RunningService."""
        if self.failure is not None:
            return -1
        return None if self.finished is None else self._ended()[0]

    def logs(self) -> tuple[str, str]:
        """See port.RunningService."""
        stderr = self.err.data() if self.finished is None else self._ended()[1]
        return self.out.data().decode("utf-8", "replace"), stderr.decode("utf-8", "replace")

    def take(self, stream: int, piece: bytes) -> None:
        """What the process just said, masked."""
        (self.out if stream == 1 else self.err).add(piece)

    async def stop(self, *, kill: bool = False) -> None:
        """See port.RunningService."""
        task = self.task  # its own name: a start that is broken off and the session's end may both stop it
        if task is None:
            return
        if not kill and self.finished is None:
            told = terminate(self.pid)
            await asyncio.wait([task], timeout=STOP_LIMIT_S if told else 0)
        self.scope.cancel()  # not the task: that would break into its clearing away
        await asyncio.wait([task])
        self.task = None
        if self.finished is None and self.failure is None:
            self.finished = Finished(128 + signal.SIGKILL, b"", b"")

    def _ended(self) -> tuple[int, bytes]:
        assert self.finished is not None  # noqa: S101  # asked by the callers
        try:
            end = ending(replace(self.finished, stderr=self.err.data()), self.program)
        except RuntimeFailure:
            return self.finished.exit_code, self.err.data()
        return end.exit_code, end.stderr
