"""Starts the model and measures it from beside it: how long until it is healthy, how much memory it takes.

``python3 measured.py REPORT_PORT PORT HEALTH -- COMMAND...`` runs in the model's own container, as its user:
it hands signals on, ends as the command ends, and answers GET on REPORT_PORT with its figures. By itself: no
other module, the standard library only, Python 3.8.

Memory is read from /proc ten times a second. One process: the kernel's own high-water mark of its resident
memory. Several: their proportional shares (what they share counts once), added, the largest such sum seen.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import signal
import socketserver
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import FrameType
from typing import Callable  # noqa: UP035  # Python 3.8 runs it

PERIOD_S = 0.1
KB = 1024
PROC = Path("/proc")
PR_SET_CHILD_SUBREAPER = 36


class Figures:
    """What was seen so far."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.cold_start_s: float | None = None
        self.peak = 0
        self.most_processes = 0
        self.why: dict[str, str] = {}

    def report(self) -> dict[str, object]:
        """As JSON for whoever asks."""
        return {
            "cold_start_s": None if self.cold_start_s is None else round(self.cold_start_s, 4),
            "memory_mb": round(self.peak / 1e6, 3) if self.peak else None,
            "processes": self.most_processes,
            "why": self.why,
        }


def processes() -> list[int]:
    """The processes below this one."""
    parents: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                parents[int(entry.name)] = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        parent = waiting.pop()
        children = [pid for pid, its in parents.items() if its == parent]
        found += children
        waiting += children
    return found


def field_of(path: Path, name: bytes) -> int | None:
    """A line like ``VmHWM:   1234 kB`` of a file of /proc, in bytes; None where there is none."""
    with suppress(OSError, ValueError, IndexError):
        for line in path.read_bytes().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * KB
    return None


def look(figures: Figures) -> None:
    """One sample. With one process its own high-water mark says what was between two samples."""
    found = processes()
    figures.most_processes = max(figures.most_processes, len(found))
    if len(found) == 1:
        size = field_of(PROC / str(found[0]) / "status", b"VmHWM:") or 0
    else:
        size = 0
        for pid in found:
            share = field_of(PROC / str(pid) / "smaps_rollup", b"Pss:")
            if share is None:  # another user's, or an old kernel
                share = field_of(PROC / str(pid) / "status", b"VmRSS:") or 0
            size += share
    figures.peak = max(figures.peak, size)


def sample(figures: Figures) -> None:
    """Look again and again; a failure is told, and never the model's."""
    while True:
        try:
            look(figures)
        except Exception as err:
            figures.why["memory_mb"] = f"/proc can't be read: {err}"
            return
        time.sleep(PERIOD_S)


def wait_until_healthy(figures: Figures, port: int, path: str) -> None:
    """Ask until it answers 200."""
    while figures.cold_start_s is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            if connection.getresponse().status == 200:
                figures.cold_start_s = time.monotonic() - figures.started
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.02)


def serve(figures: Figures, port: int) -> None:
    """Tell the figures to whoever asks. A port that is taken leaves them untold."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            look(figures)
            body = json.dumps(figures.report()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
        allow_reuse_address = True
        daemon_threads = True

    try:
        server = Server(("", port), Handler)
    except OSError as err:
        sys.stderr.write(f"modelport: figures can't be told on port {port}: {err}\n")
        return
    server.serve_forever()


def start(command: list[str]) -> int:
    """The command as a child, its signals as they were. Its own error is the shell's: 127 or 126."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.execvp(command[0], command)
    except OSError as err:
        sys.stderr.write(f"{command[0]}: {err.strerror}\n")
        os._exit(127 if isinstance(err, FileNotFoundError) else 126)


def wait_for(pid: int) -> int:
    """The exit code of ``pid``; children that others left to us are taken in on the way."""
    while True:
        try:
            ended, status = os.wait()
        except InterruptedError:
            continue
        if ended == pid:
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def handed_on(pid: int) -> Callable[[int, FrameType | None], None]:
    """A handler that hands a signal on to ``pid``."""

    def hand_on(number: int, _: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    return hand_on


def main(arguments: list[str]) -> int:
    """Run the command and measure it. Returns its exit code."""
    report_port, port, health = int(arguments[0]), int(arguments[1]), arguments[2]
    command = arguments[arguments.index("--") + 1 :]
    with suppress(OSError, AttributeError):  # processes whose parents end come to us, and still count
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    figures = Figures()
    pid = start(command)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, handed_on(pid))
    for thread in (
        threading.Thread(target=sample, args=(figures,), daemon=True),
        threading.Thread(target=wait_until_healthy, args=(figures, port, health), daemon=True),
        threading.Thread(target=serve, args=(figures, report_port), daemon=True),
    ):
        thread.start()
    return wait_for(pid)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
