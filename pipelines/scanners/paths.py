"""Globs of paths in an image, as policies write them."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


def matches(path: str, globs: Iterable[str]) -> bool:
    """Does one of ``globs`` name ``path``? ``*`` goes over slashes, and ``**`` is the same."""
    return any(fnmatchcase(path, glob.replace("**", "*")) for glob in globs)
