"""What the programs of this directory share: walking an image's root file system, mounted where they run.

They run in the tools container, so the standard library is all they have. Nothing of the image is executed,
and nothing is written to it.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

NOT_CONTENT = frozenset({"proc", "sys", "dev"})
"""Directories of the root that belong to the running kernel, not to the image."""
EXAMPLES = 20


class File:
    """One regular file: ``path`` as the image's user sees it, ``real`` where it is here."""

    __slots__ = ("path", "real", "size")

    def __init__(self, path: str, real: str, size: int) -> None:
        self.path = path
        self.real = real
        self.size = size

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def open(self) -> io.BufferedReader:
        """Its bytes. Raises OSError."""
        return open(self.real, "rb")  # noqa: PTH123  a Path costs more than the file, 20 000 times


class Problems:
    """What could not be looked at. It is said, with examples; it is never taken for "nothing found"."""

    def __init__(self) -> None:
        self.texts: list[str] = []

        self.count = 0

    def add(self, path: str, reason: object) -> None:
        """Note that ``path`` was not read, and why."""
        self.count += 1
        if self.count <= EXAMPLES:
            self.texts.append(f"{path}: {reason}")

    def told(self) -> list[str]:
        """The first of them, and how many more there are."""
        more = self.count - len(self.texts)
        return [*self.texts, f"and {more} more"] if more else self.texts


def files(root: Path, problems: Problems) -> Iterator[File]:
    """Every regular file of the image in a stable order. Links are not followed: their targets come by."""
    pending = [("", str(root))]
    while pending:
        inside, real = pending.pop()
        try:
            with os.scandir(real) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as err:
            problems.add(inside or "/", err.strerror or err)
            continue
        below = []
        for entry in ordered:
            path = f"{inside}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if inside or entry.name not in NOT_CONTENT:
                    below.append((path, entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield File(path, entry.path, entry.stat(follow_symlinks=False).st_size)
        pending.extend(reversed(below))


def inside(root: Path, name: str) -> Path | None:
    """Where ``name`` of the image is; None when it isn't there, or is a link that leads out of the image."""
    real = (root / name.lstrip("/")).resolve()
    return real if root.resolve() in (real, *real.parents) and real.exists() else None


def read_text(root: Path, name: str) -> str:
    """The text of one file of the image, empty when there is no such file in it."""
    real = inside(root, name)
    return real.read_text("utf-8", "replace") if real else ""


def os_release(root: Path) -> dict[str, str]:
    """The keys of the image's os-release file (os-release(5)); empty without one."""
    text = read_text(root, "etc/os-release") or read_text(root, "usr/lib/os-release")
    pairs = [line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def shipped_by_debian(root: Path) -> frozenset[str]:
    """The paths that the image's Debian packages installed, by dpkg's own lists."""
    info = inside(root, "var/lib/dpkg/info")
    if info is None:
        return frozenset()
    owned: set[str] = set()
    for name in sorted(info.glob("*.list")):
        owned.update(name.read_text("utf-8", "surrogateescape").splitlines())
    return frozenset(seen for path in owned for seen in (path, merged_usr(path)))


def debian_digests(root: Path) -> dict[str, str]:
    """The MD5 sums of what the image's Debian packages installed (dpkg keeps no better ones), by path."""
    info = inside(root, "var/lib/dpkg/info")
    digests: dict[str, str] = {}
    for sums in sorted(info.glob("*.md5sums")) if info else ():
        for line in sums.read_text("utf-8", "replace").splitlines():
            digest, _, path = line.partition("  ")
            digests[f"/{path}"] = digests[merged_usr(f"/{path}")] = digest
    return digests


def merged_usr(path: str) -> str:
    """``/lib/x`` is ``/usr/lib/x`` on a merged /usr; dpkg's lists still say the former."""
    return f"/usr{path}" if path.startswith(("/lib", "/bin", "/sbin")) else path


def tell(answer: dict[str, object]) -> None:
    """Print the one line of JSON that the pipeline reads."""
    json.dump(answer, sys.stdout, separators=(",", ":"), sort_keys=True)
    sys.stdout.write("\n")
