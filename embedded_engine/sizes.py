"""How much there is on disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def bytes_below(directory: Path) -> int:
    """The size of all files below a directory; one that goes meanwhile counts nothing."""
    total = 0
    for where, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(where) / name).lstat().st_size
    return total
