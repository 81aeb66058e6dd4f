"""The empty files and directories that mounts leave in a container's root: taken away before it becomes a
layer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from embedded_engine.paths import inside

ALWAYS = (
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/hostname",
    "/run/.containerenv",
    "/run/secrets",
    "/proc",
    "/sys",
    "/dev",
    "/dev/pts",
    "/dev/shm",  # noqa: S108  # a path in the container
    "/dev/mqueue",
)


@dataclass(frozen=True, slots=True)
class Residue:
    """Paths that were not there before a run and are only there because something was mounted on them."""

    paths: tuple[Path, ...]

    @classmethod
    def before(cls, root: Path, targets: Iterable[str], workdir: str = "") -> Residue:
        """Note which mount points (and their parents) the root lacks.

        Buildah makes the working directory; inside a mount only the mount point's own path would be a trace
        of it.
        """
        targets = list(targets)
        wanted = [*ALWAYS, *targets]
        if any(PurePosixPath(workdir or "/").is_relative_to(target) for target in targets):
            wanted.append(workdir)
        lacking = {path for target in wanted for path in _chain(root, target) if not os.path.lexists(path)}
        return cls(tuple(sorted(lacking, key=lambda path: -len(path.parts))))

    def clear(self) -> None:
        """Remove those that are empty, children first; what the command put content into stays."""
        for path in self.paths:
            with contextlib.suppress(OSError):  # not empty, or not there: both are fine
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                elif path.is_file() and not path.is_symlink() and path.stat().st_size == 0:
                    path.unlink()


def _chain(root: Path, target: str) -> Iterable[Path]:
    """``target`` and its parents below the root."""
    path = inside(root, target)
    return [path, *(parent for parent in path.parents if parent != root and parent.is_relative_to(root))]
