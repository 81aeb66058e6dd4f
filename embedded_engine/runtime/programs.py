"""The program that a step starts, as far as it decides how it has to be started."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from embedded_engine.runtime.port import ExecStep, RuntimeFailure
from embedded_engine.runtime.redirects import located

_KNOWN = (b"\x7fELF", b"#!")


def settled(step: ExecStep, root: Path, init: Sequence[str]) -> ExecStep:
    """The step as it has to run: without an init if there is none, or where it would be too kind.

    An init starts programs by execvp(3), which has the shell read a script that names no interpreter; the
    kernel refuses it, and so does Dagger's engine.
    """
    runs = step.init and bool(init) and not _shell_would_read(step, root)
    return step if runs == step.init else replace(step, init=runs)


def _shell_would_read(step: ExecStep, root: Path) -> bool:
    if step.secret_env or not step.args[0]:
        return False  # a shell starts it
    name = step.args[0]
    path = dict(step.env).get("PATH", "")
    for place in [name] if "/" in name else [f"{one or '.'}/{name}" for one in path.split(":")]:
        try:
            file = located(step, root, place)
            mode = file.stat().st_mode
            if not stat.S_ISREG(mode) or not mode & 0o111:
                continue
            with file.open("rb") as stream:
                return not stream.read(4).startswith(_KNOWN)
        except (OSError, RuntimeFailure):
            continue
    return False
