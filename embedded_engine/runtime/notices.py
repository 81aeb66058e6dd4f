"""Warnings told once for each state directory: what works here, but at a cost."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path


def once(state: Path, name: str, text: str) -> None:
    """Print a warning on stderr unless one of this name was printed for this state before."""
    mark = state / "notices" / name
    with contextlib.suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        if mark.exists() and mark.read_text() == text:
            return
        mark.write_text(text)
    print(f"embedded-engine: warning: {text}", file=sys.stderr, flush=True)  # noqa: T201  # told to people


def told(state: Path) -> dict[str, str]:
    """The warnings this state has given, by name."""
    files = sorted((state / "notices").glob("*"))
    return {file.name: file.read_text() for file in files if file.is_file()}
