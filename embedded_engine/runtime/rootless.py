"""Without root the engine lives in a user namespace, where it is root over its own files: Buildah makes it.

There `buildah mount`, owners of files and the engine's own edits work as they do for root, so nothing else in
the engine has to know of the difference.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

INSIDE = "_CONTAINERS_USERNS_CONFIGURED"


def unshare_argv(state: Path, arguments: Sequence[str]) -> list[str] | None:
    """The command that runs this Python program in a user namespace; None for root, or if it is in one
    already."""
    if os.geteuid() == 0 or os.environ.get(INSIDE) or shutil.which("buildah") is None:
        return None
    return [
        *("buildah", f"--root={state / 'storage'}", "--storage-driver=overlay", "unshare"),
        *(sys.executable, "-m", "embedded_engine", *arguments),
    ]


def enter(state: Path, arguments: Sequence[str]) -> None:
    """Go on in a user namespace if need be; then this call does not return. The process keeps its id and
    streams."""
    argv = unshare_argv(state, arguments)
    if argv is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execvp(argv[0], argv)  # noqa: S606  # no shell
