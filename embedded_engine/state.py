"""Where the engine keeps what outlives a session, and the error of one that can't begin."""

from __future__ import annotations

import os
from pathlib import Path


class StartFailed(Exception):
    """A session can't begin; the text is one line for the user."""


def state_directory() -> Path:
    """``EMBEDDED_ENGINE_STATE``, else a directory in the user's cache."""
    chosen = os.environ.get("EMBEDDED_ENGINE_STATE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedded-engine"
