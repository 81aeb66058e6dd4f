"""What ran: JSON lines for a program (``EMBEDDED_ENGINE_EVENTS``), a screen for people."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from embedded_engine.masking import Values, mask_text
from embedded_engine.operations import Operation
from embedded_engine.progress.chain import ancestors
from embedded_engine.progress.screens import Ended, Quiet, Running, Screen, duration, one_line
from embedded_engine.runtime.port import JSON

span_id: ContextVar[str] = ContextVar("span_id", default="")
"""The caller's span (16 hex digits), from the request's ``traceparent`` header."""
current: ContextVar[Running | None] = ContextVar("current", default=None)
"""The operation that this task runs."""

_NOISE = re.compile(r"Error: .*exit status \d+|subprocess exited with status \d+")  # Buildah's last words
_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-[0-9a-f]{32}-([0-9a-f]{16})-[0-9a-f]{2}")  # W3C Trace Context


def parse_traceparent(header: str) -> str:
    """The span id in a ``traceparent`` header, or ""."""
    match = _TRACEPARENT.match(header)
    return match[1] if match else ""


@dataclass(slots=True)
class Counts:
    """For the summary. ``saved_s``: what the operations from the cache took when they ran."""

    run: int = 0
    cached: int = 0
    failed: int = 0
    work_s: float = 0.0
    saved_s: float = 0.0

    def summary(self, *, debug: bool = False) -> str:
        """One line; "" if nothing was asked for. ``debug``: what failed was kept already."""
        total = self.run + self.cached + self.failed
        if not total:
            return ""
        parts = [f"{self.run} run ({duration(self.work_s)})"] if self.run else []
        saved = f" ({duration(self.saved_s)} saved)" if self.saved_s >= 0.1 else ""
        parts += [f"{self.cached} from the cache{saved}"] if self.cached else []
        hint = "" if debug else " (run with --debug to look into what it left)"
        parts += [f"{self.failed} failed{hint}"] if self.failed else []
        return f"{total} operation{'s' if total > 1 else ''}: {', '.join(parts)}"


@dataclass(slots=True)
class Events:
    """One line per operation and session, when its outcome is first known."""

    file: Path | None = None
    screen: Screen = field(default_factory=Quiet)
    secrets: Callable[[], Values] = tuple  # their values are masked in all that is told
    debugging: bool = False  # with --debug
    told: set[str] = field(default_factory=set)
    counts: Counts = field(default_factory=Counts)
    _errors: deque[BaseException] = field(default_factory=lambda: deque(maxlen=64))
    _working: set[Running] = field(default_factory=set)

    def expected(self, operation: Operation) -> Running:
        """An operation is to run in this task; what it stands on may have to run first."""
        running = Running(self._title(operation))
        current.set(running)
        return running

    def working(self) -> None:
        """What this task runs begins its own work."""
        running = current.get()
        if running is not None and running not in self._working:
            running.begin = time.monotonic()
            self._working.add(running)
            self.screen.started(running)

    def watch(self) -> Callable[[int, bytes], None] | None:
        """Who is to be told what the operation of this task says."""
        running = current.get()
        return None if running is None else running.take

    def shown(self, operation: Operation) -> str:
        """An operation's name, masked: a command line may hold what it should not."""
        return self._masked(operation.name)

    def cached(self, operation: Operation, data: JSON, saved_s: float) -> None:
        """An operation's outcome was stored; only the first time counts."""
        if operation.digest not in self.told:
            self.counts.cached += 1
            self.counts.saved_s += saved_s
            self.screen.cached(self._title(operation))
        self._write(operation, 0.0, data, cached=True)

    def done(self, operation: Operation, running: Running, seconds: float, data: JSON) -> None:
        """It has run, and that is stored."""
        self._working.discard(running)
        self.counts.run += 1
        self.counts.work_s += seconds
        self.screen.ended(running, Ended(seconds, remark=_remark(data)))
        self._write(operation, seconds, data, cached=False)

    def failed(self, operation: Operation, running: Running, error: Exception) -> None:
        """It failed, or what it stands on did: people are told once, of the one at fault."""
        seconds = time.monotonic() - running.begin
        text = self._masked(str(error))
        if not any(error is known for known in self._errors):
            self._errors.append(error)
            self.counts.failed += 1
            chain = tuple(self._title(one) for one in reversed(tuple(ancestors(operation))))
            tail = tuple(line for line in running.tail() if not _NOISE.fullmatch(line))
            tail = tail or tuple(text.splitlines()[1:])
            self.screen.ended(running, Ended(seconds, _headline(text), tail=tail, chain=chain))
        else:
            self.screen.dropped(running)
        self._working.discard(running)
        self._write(operation, seconds, {"error": text}, cached=False, final=False)

    def dropped(self, running: Running) -> None:
        """It was cancelled."""
        self._working.discard(running)
        self.screen.dropped(running)

    @contextlib.contextmanager
    def activity(self, kind: str, name: str) -> Iterator[None]:
        """Work that is no operation of the graph (a publish, a download): shown, not in the file."""
        running = Running(self._masked(one_line(f"{kind} {name}")))
        self.screen.started(running)
        try:
            yield
        except Exception as error:
            seconds = time.monotonic() - running.begin
            if any(error is known for known in self._errors):
                self.screen.dropped(running)
            else:
                self._errors.append(error)
                text = self._masked(str(error))
                ended = Ended(seconds, _headline(text), tail=tuple(text.splitlines()[1:]))
                self.screen.ended(running, ended)
            raise
        except BaseException:
            self.screen.dropped(running)
            raise
        self.screen.ended(running, Ended(time.monotonic() - running.begin))

    def note(self, text: str) -> None:
        """Something that people should know."""
        self.screen.note(one_line(self._masked(text), 400))

    def debug(self, text: str) -> None:
        """What was asked for by --debug."""
        self.screen.debug(self._masked(text))

    def close(self) -> None:
        """The session ends."""
        self.screen.close(self.counts.summary(debug=self.debugging))

    def _title(self, operation: Operation) -> str:
        args = getattr(operation, "args", ())
        command = isinstance(args, tuple) and args and all(isinstance(word, str) for word in args)
        name = self._masked(" ".join(map(_word, args))) if command else self.shown(operation)
        return one_line(f"{operation.kind} {name}")

    def _masked(self, text: str) -> str:
        return mask_text(text, self.secrets())

    def _write(
        self, operation: Operation, seconds: float, data: JSON, *, cached: bool, final: bool = True
    ) -> None:
        if operation.digest in self.told:
            return
        if final:
            self.told.add(operation.digest)
        if self.file is None:
            return
        event = {
            "operation": operation.digest[:12],
            "kind": operation.kind,
            "name": self.shown(operation),
            "cached": cached,
            "seconds": round(seconds, 3),
            "span": span_id.get(),
            **(data if isinstance(data, dict) else {}),
        }
        # one short append: lines of two sessions don't mix
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(event) + "\n")


def _word(word: str) -> str:
    """One word of a command for reading: quoted where it needs to be, but not escaped."""
    return word if shlex.quote(word) == word else f"'{word}'"


def _headline(text: str) -> str:
    """An error's first line, without the command, which stands in the title."""
    first = one_line(text.split("\n", 1)[0], 300)
    match = re.match(r"exit code: (-?\d+)", first)
    return f"exit code {match[1]}" if match else first


def _remark(data: JSON) -> str:
    steps = data.get("steps") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(steps, int):
        return ""
    return f"{data.get('cached_steps', 0)} of {steps} steps cached"
