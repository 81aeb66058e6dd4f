"""Progress for a log: a line when an operation ends, one when it takes long, nothing overwritten."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TextIO

from embedded_engine.progress.screens import Ended, Running, before, duration, one_line

LONG_S = 3.0
"""An operation that takes longer also gets a line while it runs."""
AGAIN_S = 60.0
"""And another one each time so much has passed: CI systems end jobs that say nothing."""


@dataclass(slots=True)
class Plain:
    """One whole line per write, so that lines of several programs don't mix."""

    stream: TextIO
    begin: float = field(default_factory=time.monotonic)
    running: list[Running] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def started(self, running: Running) -> None:
        """See Screen. Nothing is written yet: most operations are quick."""
        with self._lock:
            self.running.append(running)
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def ended(self, running: Running, ended: Ended) -> None:
        """See Screen."""
        self.dropped(running)
        took = duration(ended.seconds)
        if not ended.error:
            remark = f", {ended.remark}" if ended.remark else ""
            self._line("done", f"{running.title}  ({took}{remark})")
            return
        details = [f"after   {before(ended.chain)}"] if ended.chain else []
        details += [f"| {line}" for line in ended.tail]
        self._line("FAILED", f"{running.title}  ({took}): {ended.error}", *details)

    def dropped(self, running: Running) -> None:
        """See Screen."""
        with self._lock:
            if running in self.running:
                self.running.remove(running)

    def cached(self, title: str) -> None:
        """See Screen."""
        self._line("cached", title)

    def note(self, text: str) -> None:
        """See Screen."""
        self._line("note", text)

    def debug(self, text: str) -> None:
        """See Screen. As it is, for pasting."""
        self._write(text.rstrip("\n") + "\n")

    def close(self, summary: str) -> None:
        """See Screen."""
        self._ending.set()
        if summary:
            self._line("end", summary)

    def tick(self, now: float) -> None:
        """Tell of what has been running for long."""
        with self._lock:
            due = [
                one
                for one in self.running
                if now >= (one.shown_at + AGAIN_S if one.shown_at else one.begin + LONG_S)
            ]
        for one in due:
            first = not one.shown_at
            one.shown_at = now
            if first:
                self._line("running", one.title)
            else:
                said = f": {one_line(one.recent)}" if one.recent else ""
                self._line("running", f"{one.title}  ({duration(now - one.begin)} so far){said}")

    def _watch(self) -> None:
        while not self._ending.wait(0.5):
            self.tick(time.monotonic())

    def _line(self, word: str, text: str, *details: str) -> None:
        head = f"{time.monotonic() - self.begin:8.1f} s  {word:<8}{text}\n"
        self._write(head + "".join(f"{'':12}{line}\n" for line in details))

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):  # nobody reads any more: no reason to fail
            self._ending.set()
