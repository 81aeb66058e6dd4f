"""Where a cache can be: a directory (an OCI layout) or a registry repository, in skopeo's own notation.

``oci:DIR`` or a plain path; ``docker://HOST/REPOSITORY[:TAG]`` (containers-transports(5)). Each holds one
manifest for each scope (engine and platform) and the blobs it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embedded_engine.cache.index import Blob, CacheFault, scope

DIRECTORY = "oci:"
REGISTRY = "docker://"


class Place(Protocol):
    """A cache somewhere. Every method raises CacheFault, with a reason a person can use."""

    @property
    def shown(self) -> str:
        """How people call it."""
        ...

    async def manifest(self) -> bytes | None:
        """Its manifest for this engine, None if there is none yet."""
        ...

    async def fetch(self, blob: Blob, target: Path) -> None:
        """Bring one blob into the new file ``target``, checked against its digest."""
        ...

    async def give(self, blobs: Iterable[Blob], files: Path) -> int:
        """Bring the blobs it lacks, from OCI-layout directory ``files``; gives the bytes sent."""
        ...

    async def replace(self, old: bytes | None, new: bytes, own: Mapping[str, bytes], files: Path) -> bool:
        """Make ``new`` its manifest (``own``: small blobs it brings) unless it is not ``old`` any more."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


@dataclass(frozen=True, slots=True)
class Address:
    """A place's address, checked."""

    transport: str
    location: str  # an absolute path, or host/repository:tag

    @classmethod
    def parse(cls, text: str) -> Address:
        """From what a user wrote. Raises CacheFault."""
        if text.startswith(REGISTRY):
            location = text.removeprefix(REGISTRY)
            host, slash, path = location.partition("/")
            if not (slash and host and path) or "@" in path:
                raise CacheFault(f"{text}: a registry's cache is docker://HOST/REPOSITORY[:TAG]")
            return cls(REGISTRY, location if ":" in path else f"{location}:{scope()}")
        if "://" in text:
            raise CacheFault(f"{text}: a cache is a directory (DIR or oci:DIR) or docker://HOST/REPOSITORY")
        path = text.removeprefix(DIRECTORY)
        if not path:
            raise CacheFault("the directory of a cache must have a name")
        return cls(DIRECTORY, str(Path(path).expanduser().absolute()))

    def __str__(self) -> str:
        return self.transport + self.location
