"""Names of what a process makes on disk, by which others can tell whether it still lives."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

PREFIX = "ee"


def unique_name() -> str:
    """A name for something new of this process."""
    return f"{owner_name()}-{secrets.token_hex(4)}"


def owner_name() -> str:
    """What this process's things are called: its id and start time, so that a dead owner can be told."""
    return f"{PREFIX}-{os.getpid()}-{start_time(os.getpid())}"


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(text.rpartition(")")[2].split()[19])


def is_orphan(name: str) -> bool:
    """Whether something named by ``owner_name`` has lost the process that made it."""
    parts = name.split("-")
    if len(parts) < 3 or parts[0] != PREFIX or not parts[1].isdecimal():
        return False
    return str(start_time(int(parts[1]))) != parts[2]
