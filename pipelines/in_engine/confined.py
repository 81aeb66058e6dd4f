"""Runs a program of this directory within limits: ``confined [--network] PROGRAM ROOT ARGUMENTS…``.

Time and memory grow with the image, up to an end. Unless it is said what for, the program has no network; it
starts nothing, and unpickles nothing: Python's audit events (PEP 578) refuse it, whatever a file of the image
could make a parser do.
"""

from __future__ import annotations

import os
import resource
import runpy
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

MIB = 1 << 20
LEAST_MEMORY = 512 * MIB
MOST_MEMORY = 1024 * MIB
LEAST_SECONDS = 60
BYTES_A_SECOND = 4 * MIB
"""A thirtieth of what the slowest program reads here: no honest image ends it, on the slowest of agents."""
NOT_COUNTED = frozenset({"proc", "sys", "dev"})

NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
PROCESSES = (
    "subprocess.Popen",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pty.spawn",
)
LOADING = ("pickle.find_class", "ctypes.dlopen", "shelve.open")
"""What a model file is loaded by. Nobody here does it; who tries has been led to it."""


class RefusedError(RuntimeError):
    """The program did what it has no business to do."""


def size_of(root: Path) -> int:
    """The bytes of the image's files, without reading any."""
    total, waiting = 0, [str(path) for path in root.iterdir() if path.name not in NOT_COUNTED]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # the program itself says what it could not read
    return total


def limits_for(size: int) -> tuple[int, int]:
    """Bytes of memory and seconds of processor time for an image of ``size`` bytes."""
    return min(MOST_MEMORY, LEAST_MEMORY + size // 8), LEAST_SECONDS + size // BYTES_A_SECOND


def limit(memory: int, seconds: int) -> None:
    """Hold this process and all that it starts to the limits."""

    def out_of_time(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(f"it needed more than {seconds} seconds of processor time")

    signal.signal(signal.SIGXCPU, out_of_time)
    for kind, most, more in ((resource.RLIMIT_AS, memory, 0), (resource.RLIMIT_CPU, seconds, 5)):
        _, hard = resource.getrlimit(kind)
        own = most + more if hard == resource.RLIM_INFINITY else min(hard, most + more)
        resource.setrlimit(kind, (min(most, own), own))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def refuse(events: Sequence[str]) -> None:
    """From now on each of ``events`` raises RefusedError."""
    refused = frozenset(events)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in refused:
            raise RefusedError(f"a scan's program may not do this: {event}")

    sys.addaudithook(hook)


def main(arguments: list[str]) -> None:
    """Run the program as if it were started itself."""
    network = arguments[:1] == ["--network"]
    program, root, *others = arguments[1:] if network else arguments
    limit(*limits_for(size_of(Path(root))))
    refuse(LOADING if network else LOADING + NETWORK + PROCESSES)
    sys.argv = [program, root, *others]
    runpy.run_module(f"pipelines.in_engine.{program}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
