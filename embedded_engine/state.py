"""Where the engine keeps what outlives a session, and the error of one that can't begin."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from embedded_engine.runtime.single_id import is_single


class StartFailed(Exception):
    """A session can't begin; the text is one line for the user."""


def state_directory() -> Path:
    """``EMBEDDED_ENGINE_STATE``, else a directory in the user's cache.

    In a namespace with one id a directory in it: images there have lost their owners, and where owners are
    kept they must not be believed.
    """
    chosen = os.environ.get("EMBEDDED_ENGINE_STATE")
    if chosen:
        state = Path(chosen).expanduser().absolute()
    else:
        state = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedded-engine"
    return state / "single-id" if is_single() else state


def hold_shared(state: Path) -> int | None:
    """Say that the state directory is in use, until the descriptor is closed or the process ends.

    Waits while a ``gc`` or ``reset`` has it for itself. None where the file system knows no locks.
    """
    return _locked(state, fcntl.LOCK_SH)


def hold_alone(state: Path) -> int | None:
    """Have the state directory for oneself; None if a session is at work."""
    return _locked(state, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _locked(state: Path, kind: int) -> int | None:
    descriptor = os.open(state / "use.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
