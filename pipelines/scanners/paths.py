"""Globs of paths in an image, as policies write them; packages by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase


def matches(path: str, globs: Iterable[str]) -> bool:
    """Does one of ``globs`` name ``path``? ``*`` goes over slashes, and ``**`` is the same."""
    return any(fnmatchcase(path, glob.replace("**", "*")) for glob in globs)


def package_name(subject: str) -> str:
    """A package's name as scanners may be compared by it: PEP 503, and without Debian's architecture.

    A path stays as it is.
    """
    if subject.startswith("/"):
        return subject
    return re.sub(r"[-_.]+", "-", subject.partition(":")[0]).lower()
