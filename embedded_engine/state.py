"""Where the engine keeps what outlives a session."""

from __future__ import annotations

import os
from pathlib import Path


def state_directory() -> Path:
    """``EMBEDDED_ENGINE_STATE``, else a directory in the user's cache."""
    chosen = os.environ.get("EMBEDDED_ENGINE_STATE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedded-engine"
