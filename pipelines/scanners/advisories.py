"""The port of whatever gives advisories on packages, and what it is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pipelines.scanners.osv import Advisory

Package = tuple[str, str]
"""A name as its ecosystem compares it (of PyPI's as PEP 503 normalises it), and a version."""


@dataclass(frozen=True, slots=True)
class AdvisoryData:
    """What the answers come from."""

    date: str
    """The newest change in it, or the day on which it was asked (ISO 8601)."""
    digest: str = ""
    """Of the file, where it is one."""


class AdvisorySource(Protocol):
    """Gives the advisories on packages of one ecosystem."""

    @property
    def title(self) -> str:
        """What it is called in the report, with its date if it has one."""
        ...

    @property
    def version(self) -> str:
        """Changes when its answers may."""
        ...

    @property
    def network(self) -> str:
        """What it needs the network for, for the record; "" if it needs none."""
        ...

    async def advisories(self, packages: Sequence[Package]) -> dict[Package, list[Advisory]]:
        """Every advisory that may concern each package. Raises CouldNotLookError: all of them or none."""
        ...

    async def data(self) -> AdvisoryData:
        """How old it is. Raises CouldNotLookError."""
        ...


def normalised(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
