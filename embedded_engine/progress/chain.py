"""The way to an operation: what the program had it stand on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_LIMIT = 10_000


def ancestors(operation: object) -> Iterator[Any]:
    """The operations before ``operation``, the nearest first: the main line, not what was copied in."""
    for _ in range(_LIMIT):
        operation = _parent(operation)
        if operation is None:
            return
        yield operation


def _parent(
    operation: Any,
) -> Any:  # operations are of many kinds, and each names its parent in its own words
    for path in (("container", "rootfs"), ("parent",), ("exec",), ("base", "source"), ("context", "source")):
        found = operation
        for attribute in path:
            found = getattr(found, attribute, None)
        if found is not None:
            return found
    return None
