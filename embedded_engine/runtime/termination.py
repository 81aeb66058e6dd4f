"""How a service is told to end: TERM to its own first process, which is somewhere below Buildah."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from embedded_engine.runtime.init import TARGET


def terminate(pid: int) -> bool:
    """Send TERM to the service's own first process, somewhere below ``pid``: Buildah itself would kill it at
    once.

    The first process of a PID namespace is deaf to a TERM it does not handle; that one is killed, as an init
    would see to. False if it does not run yet.
    """
    for process in _descendants(pid):
        if _in_container(process):
            handled = _is_init(process) or _catches_term(process)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM if handled else signal.SIGKILL)
            return True
    return False


def _catches_term(pid: int) -> bool:
    """Whether it has a handler for TERM. Without one it should die of it, but the first of a namespace does
    not."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return True


def _is_init(pid: int) -> bool:
    """Whether it hands signals on: it waits for them, which shows neither as handled nor as blocked."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(TARGET.encode() + b"\0")
    return False


def _descendants(pid: int) -> Iterator[int]:
    """The processes below ``pid``, parents first."""
    waiting = deque([pid])
    while waiting:
        one = waiting.popleft()
        try:
            tasks = list(Path(f"/proc/{one}/task").iterdir())
            children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield from children
        waiting.extend(children)


def _in_container(pid: int) -> bool:
    """Whether a process runs the service's program: its root is the container's, and it is no part of
    Buildah."""
    try:
        program = Path(f"/proc/{pid}/cmdline").read_bytes()
        return _place(f"/proc/{pid}/root") != _place("/") and not program.startswith((b"buildah", b"runc"))
    except OSError:
        return False


def _place(path: str) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_dev, status.st_ino
