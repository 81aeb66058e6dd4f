"""The ``.modelport`` directory at the top of the repository: runs, images, locks; never part of a commit."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import UsageError

NAME = ".modelport"


def state_directory(root: Path) -> Path:
    """``.modelport`` under ``root``, made if needed; git ignores it from the start.

    Raises:
        UsageError: it can't be written.
    """
    state = root / NAME
    try:
        state.mkdir(exist_ok=True)
        ignore = state / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as err:
        raise UsageError(
            f"{state} can't be written: {err.strerror}", hint="the run record and images go there"
        ) from err
    return state


@contextmanager
def one_run_at_a_time(state: Path, model: str) -> Iterator[None]:
    """Hold the model's lock; the kernel gives it back however the process ends.

    Raises:
        UsageError: another run of the same model holds it.
    """
    path = state / "locks" / model
    path.parent.mkdir(exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            lock.seek(0)
            raise UsageError(
                f"another run of {model} is under way (process {lock.read().strip() or 'unknown'})",
                hint="wait for it to end, or end it; two runs would push the same tags",
            ) from err
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
