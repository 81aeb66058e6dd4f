"""The port that everything that keeps images answers: a repository of a registry, or a layout directory."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from pipelines.registries.descriptors import Descriptor, Manifest


class OpenRegistry(Protocol):
    """One repository, ready to be read and written. Every method raises RegistryError."""

    async def has_blob(self, blob: Descriptor) -> bool:
        """Whether the blob is there. Raises BrokenContent where it is there with another size."""
        ...

    async def put_blob(self, blob: Descriptor, path: Path) -> int:
        """Store the file ``path`` as ``blob``, verified; the bytes that were sent."""
        ...

    async def read_blob(self, digest: str, limit: int) -> bytes:
        """A small blob, verified. Raises NotFound."""
        ...

    async def put_manifest(self, manifest: Manifest) -> None:
        """Store a manifest by its digest: it has no name yet."""
        ...

    async def read_manifest(self, reference: str) -> Manifest:
        """A manifest by tag or digest, verified. Raises NotFound (RepositoryMissing)."""
        ...

    async def tag_digest(self, tag: str) -> str | None:
        """The digest that ``tag`` names; None where there is no such tag."""
        ...

    async def tags(self) -> tuple[str, ...]:
        """Every tag; none where the repository is not there yet."""
        ...

    async def tag(self, tag: str, manifest: Manifest) -> None:
        """Let ``tag`` name a manifest that is there. Raises TagRefused where the registry holds tags fast."""
        ...


class Registry(Protocol):
    """Where releases of one model go. An adapter of a cloud's registry differs in its login only."""

    @property
    def name(self) -> str:
        """The repository, for people: ``host/path``, or a directory."""
        ...

    @property
    def is_directory(self) -> bool:
        """Whether nothing travels: a directory of this machine."""
        ...

    def reference(self, wanted: str) -> str:
        """The reference of a tag or digest here, as `modelport trace` takes it."""
        ...

    def open(self) -> AbstractAsyncContextManager[OpenRegistry]:
        """A connection for one push or one trace."""
        ...
