"""A program beside the live view: its output passes through us, so that the two never mix.

What of its output goes to a terminal gets a terminal of its own (a pty), so it behaves as always; what goes
to a file or a pipe is left alone. The bytes are passed on as they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from embedded_engine.progress.live import Live
from embedded_engine.progress.screens import Screen


@dataclass(frozen=True, slots=True)
class Streams:
    """The file descriptors a program is started with; None: ours."""

    stdout: int | None = None
    stderr: int | None = None


@contextlib.contextmanager
def streams_beside(screen: Screen) -> Iterator[Streams]:
    """Streams for a program that runs while ``screen`` shows progress."""
    if isinstance(screen, Live):
        with passed_through(screen) as streams:
            yield streams
    else:
        yield Streams()


@contextlib.contextmanager
def passed_through(live: Live) -> Iterator[Streams]:
    """Streams for a program, whose output is shown above what ``live`` draws, all of it before the end."""
    terminals = [number for number in (1, 2) if os.isatty(number)]
    if not terminals:
        yield Streams()
        return
    ours, theirs = pty.openpty()
    _as_it_is(theirs)
    _resize(terminals[0], ours)
    before = signal.signal(signal.SIGWINCH, lambda *_: _resize(terminals[0], ours))
    reader = threading.Thread(target=_pass_on, args=(ours, terminals[0], live), daemon=True)
    reader.start()
    try:
        yield Streams(*(theirs if number in terminals else None for number in (1, 2)))
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(theirs)  # with the program's own copies gone, the reader meets the end
        reader.join(2)  # a child it left behind may hold the terminal open
        os.close(ours)


def _pass_on(ours: int, terminal: int, live: Live) -> None:
    with contextlib.suppress(OSError):  # EIO: nobody has it open any more
        while data := os.read(ours, 1 << 16):
            live.program_wrote(terminal, data)


def _as_it_is(terminal: int) -> None:
    """No translation of line ends: the real terminal does that."""
    attributes = termios.tcgetattr(terminal)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)


def _resize(source: int, target: int) -> None:
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
        fcntl.ioctl(target, termios.TIOCSWINSZ, size)
