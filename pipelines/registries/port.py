"""The port that everything that keeps images answers: a repository of a registry, or a layout directory."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from pipelines.registries.blob_source import BlobSource
from pipelines.registries.descriptors import Descriptor, Manifest


class UploadSessions(Protocol):
    """Where unfinished uploads are noted, so that the next run goes on with them. One for each repository."""

    def recall(self, digest: str) -> str:
        """The registry's address of the unfinished upload of a blob; "" where there is none."""
        ...

    def remember(self, digest: str, location: str) -> None:
        """Note it; again after each part, for the address may change."""
        ...

    def forget(self, digest: str) -> None:
        """The upload ended, or the registry does not know it any more."""
        ...


class OpenRegistry(Protocol):
    """One repository, ready to be read and written. Every method raises RegistryError."""

    async def has_blob(self, blob: Descriptor) -> bool:
        """Whether the blob is there. Raises BrokenContent where it is there with another size."""
        ...

    async def put_blob(self, source: BlobSource) -> int:
        """Store a blob from its file, verified; the bytes that were sent now (a resumed upload: fewer)."""
        ...

    async def mount_blob(self, blob: Descriptor, origin: str) -> bool:
        """Take the blob over from the repository ``origin`` (a path) of this registry; False: it can't."""
        ...

    async def read_blob(self, digest: str, limit: int) -> bytes:
        """A small blob, verified. Raises NotFound."""
        ...

    async def download_blob(self, blob: Descriptor, path: Path) -> None:
        """A blob into the new file ``path``, verified, streamed. Nothing stays there on failure."""
        ...

    async def put_manifest(self, manifest: Manifest) -> None:
        """Store a manifest by its digest: it has no name yet."""
        ...

    async def read_manifest(self, reference: str) -> Manifest:
        """A manifest by tag or digest, verified. Raises NotFound (RepositoryMissing)."""
        ...

    async def attach(self, referrer: Manifest) -> None:
        """Store a manifest whose ``subject`` is an image here, so that ``referrers`` lists it.

        Where the registry has no referrers API, the fallback tag of the subject is kept up to date
        (distribution specification v1.1, "Referrers Tag Schema").
        """
        ...

    async def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """What refers to an image, each with its artifact type; none where nothing does."""
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

    async def check_write(self) -> None:
        """Hold that this login may push here, by starting an upload and ending it; nothing is stored.

        Raises AccessRefused, RepositoryMissing.
        """
        ...


class Registry(Protocol):
    """Where releases of one model go. An adapter of a cloud's registry differs in what only it knows."""

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

    def open(self, sessions: UploadSessions | None = None) -> AbstractAsyncContextManager[OpenRegistry]:
        """A connection for one push or one trace; with ``sessions`` an upload can go on where it ended."""
        ...

    async def repository_exists(self) -> bool | None:
        """Whether the repository is there; None where only a push can tell (it is made by the first one)."""
        ...

    async def make_repository(self) -> bool:
        """Make the repository where it is missing and the configuration lets us; True: it was made now."""
        ...
