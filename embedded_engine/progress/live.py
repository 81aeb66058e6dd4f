"""Progress on a terminal: what ended scrolls by, what runs is drawn below it, again and again.

The cursor waits at the *top* of what is drawn, so taking it away is one "clear to the end of the screen",
whatever the terminal did to the lines when it was resized. While the program's own last line is not finished
(a prompt, a progress bar) nothing is drawn, and lines of ours wait.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import dataclass, field

from embedded_engine.progress.screens import Ended, Running, before, duration, fitting

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_EVERY_S = 0.1
_CLEAR = "\r\x1b[J"
_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"  # the cursor
_CUT, _WRAP = "\x1b[?7l", "\x1b[?7h"  # a line that is too wide is cut, not wrapped


@dataclass(slots=True)
class Live:
    """Draws on the terminal that is file descriptor ``terminal``."""

    terminal: int
    colours: bool = True
    begin: float = field(default_factory=time.monotonic)
    running: list[Running] = field(default_factory=list)
    done: int = 0
    from_cache: int = 0
    failed: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _drawn: bool = False
    _at_start: bool = True  # of a line, as the program left it
    _waiting: list[str] = field(default_factory=list)

    def started(self, running: Running) -> None:
        """See Screen."""
        with self._lock:
            self.running.append(running)
        if self._thread is None:
            self._thread = threading.Thread(target=self._draw_on, daemon=True)
            self._thread.start()

    def ended(self, running: Running, ended: Ended) -> None:
        """See Screen."""
        self._forget(running)
        took = self._dim(f"  {duration(ended.seconds)}")
        if not ended.error:
            self.done += 1
            remark = self._dim(f", {ended.remark}") if ended.remark else ""
            added = 6 + len(duration(ended.seconds)) + len(ended.remark) + 2 * bool(ended.remark)
            title = fitting(running.title, max(10, self._size().columns - added))
            self._say(f"{self._green('✔')} {title}{took}{remark}")
            return
        self.failed += 1
        lines = [f"{self._red('✘')} {running.title}{took}  {self._red(ended.error)}"]
        lines += [self._dim(f"    after {before(ended.chain)}")] if ended.chain else []
        lines += [f"    {self._dim('│')} {line}" for line in ended.tail]
        self._say(*lines)

    def dropped(self, running: Running) -> None:
        """See Screen."""
        self._forget(running)

    def cached(self, title: str) -> None:
        """See Screen. Only counted: it took no time."""
        self.from_cache += 1

    def note(self, text: str) -> None:
        """See Screen."""
        self._say(f"{self._yellow('!')} {text}")

    def debug(self, text: str) -> None:
        """See Screen."""
        self._say(*(self._dim(line) for line in text.rstrip("\n").split("\n")))

    def close(self, summary: str) -> None:
        """See Screen."""
        self._ending.set()
        with self._lock:
            if not self._at_start:
                self._put("\n")
                self._at_start = True
            self._say(*([self._dim(summary)] if summary else []))
            self._erase()

    def program_wrote(self, target: int, data: bytes) -> None:
        """The program's own output, passed on as it is to its file descriptor."""
        if not data:
            return
        with self._lock:
            self._erase()
            _write_all(target, data)
            self._at_start = data.endswith(b"\n")
            if self._at_start:
                self._say()

    def _forget(self, running: Running) -> None:
        with self._lock:
            if running in self.running:
                self.running.remove(running)

    def _say(self, *lines: str) -> None:
        """Lines that stay."""
        with self._lock:
            self._waiting += lines
            if not self._at_start:
                return
            self._erase()
            self._put("".join(f"{line}\n" for line in self._waiting))
            self._waiting.clear()
            self._draw()

    def _draw_on(self) -> None:
        while not self._ending.wait(_EVERY_S):
            with self._lock:
                if self._at_start and not self._ending.is_set():
                    self._draw()

    def _draw(self) -> None:
        """What runs now, below the cursor, which stays where it is."""
        if self._ending.is_set() or not (self.running or self._drawn):
            return
        size = self._size()
        lines = self._view(time.monotonic(), size.columns, max(1, size.lines - 2)) if self.running else []
        if not lines:
            self._erase()
            return
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        self._put(f"{_HIDE}{_CLEAR}{_CUT}" + "\r\n".join(lines) + f"{up}\r{_WRAP}")
        self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            self._put(_CLEAR + _SHOW)
            self._drawn = False

    def _view(self, now: float, columns: int, rows: int) -> list[str]:
        frame = _FRAMES[int(now / _EVERY_S) % len(_FRAMES)]
        lines: list[str] = []
        room = max(1, (rows - 1) // 2)
        for one in self.running[:room]:
            took = duration(now - one.begin)
            title = fitting(one.title, max(10, columns - len(took) - 5))
            lines.append(f"{self._cyan(frame)} {title}  {self._dim(took)}")
            if one.recent and rows > 2:
                lines.append(self._dim(f"    {fitting(one.recent, max(10, columns - 5))}"))
        counts = [f"{len(self.running)} running", f"{self.done} done", f"{self.from_cache} cached"]
        counts += [f"{self.failed} failed"] if self.failed else []
        lines.append(self._dim(f"  {' · '.join(counts)} · {duration(now - self.begin)}"))
        return lines[-rows:]

    def _size(self) -> os.terminal_size:
        try:
            return os.get_terminal_size(self.terminal)  # stdout may be something else
        except OSError:
            return shutil.get_terminal_size()

    def _put(self, text: str) -> None:
        try:
            _write_all(self.terminal, text.encode("utf-8", "replace"))
        except OSError:  # the terminal is gone: no reason to fail
            self._ending.set()

    def _styled(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours else text

    def _dim(self, text: str) -> str:
        return self._styled("2", text)

    def _green(self, text: str) -> str:
        return self._styled("32", text)

    def _red(self, text: str) -> str:
        return self._styled("31", text)

    def _yellow(self, text: str) -> str:
        return self._styled("33", text)

    def _cyan(self, text: str) -> str:
        return self._styled("36", text)


def _write_all(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]
