"""Files of a container, on the host: where a path of a step leads, and the redirects of its streams."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from embedded_engine.paths import inside
from embedded_engine.runtime.edits import apply_edits
from embedded_engine.runtime.port import ExecStep, SetupFailure, Write


def located(step: ExecStep, root: Path, path: str) -> Path:
    """The host path of a file: in a bind mount of the step if it lies in one, else in the root."""
    whole = str(PurePosixPath(step.workdir or "/") / path)
    for mount in sorted(step.mounts, key=lambda one: -len(one.target)):
        if mount.kind == "bind" and mount.source and PurePosixPath(whole).is_relative_to(mount.target):
            return inside(mount.source, str(PurePosixPath(whole).relative_to(mount.target)))
    return inside(root, whole)


def read_redirect(step: ExecStep, root: Path) -> bytes:
    """The stdin of a step that takes it from a file. Raises SetupFailure."""
    try:
        return located(step, root, step.redirect_stdin).read_bytes()
    except OSError as error:
        raise SetupFailure(f"redirect from {step.redirect_stdin}: {error.strerror}") from error


def write_redirects(step: ExecStep, root: Path, stdout: bytes, stderr: bytes) -> None:
    """The files a step's outputs are also written to."""
    for redirect, data in ((step.redirect_stdout, stdout), (step.redirect_stderr, stderr)):
        if not redirect:
            continue
        whole = str(PurePosixPath(step.workdir or "/") / redirect)
        path = located(step, root, redirect)
        if path.is_relative_to(root):
            apply_edits(root, [Write(whole, data, owner=step.user, mode=0o600)])
        else:
            path.write_bytes(data)
