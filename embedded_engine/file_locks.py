"""Locks that other processes respect too, and that the kernel gives back for the dead (flock(2))."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

import anyio

POLL_S = 0.05


def try_lock(stream: IO[str], *, shared: bool = False) -> bool:
    """Take the lock of an open file if it is free; closing the file gives it back. Raises OSError where the
    file system knows no locks."""
    try:
        fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.asynccontextmanager
async def file_lock(file: Path, *, shared: bool = False) -> AsyncIterator[None]:
    """Hold a file's lock during the block. The wait has no bound, and may be cancelled."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as stream:
        while not try_lock(stream, shared=shared):  # noqa: ASYNC110  # another process cannot set our event
            await anyio.sleep(POLL_S)
        yield
