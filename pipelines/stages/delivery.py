"""One registry's share of a push, before names: bring the content, read it back, attach what refers to it.

The order is that of the OCI distribution specification v1.1 ("Pushing manifests"): blobs, then the manifest
by digest, then manifests with a ``subject``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from pipelines.registries.blob_source import BlobSource
from pipelines.registries.descriptors import Descriptor, Manifest, short
from pipelines.registries.errors import BrokenContent, NotFound, RegistryError, RepositoryMissing
from pipelines.registries.port import OpenRegistry, Registry

if TYPE_CHECKING:
    from pipelines.release_image import ReleaseImage

T = TypeVar("T")

PARALLEL_BLOBS: Final = 4
READ_BACK_WAITS_S: Final = (0.1, 0.5)
"""A registry of several machines may answer a read a moment later than the write before it."""
_REFUSED_MOUNTS: Final = 2
"""After so many a registry is not asked for another mount: each costs a request, and some can't at all."""
_STORAGE_HINT: Final = "run again; if it stays so, the registry's storage is at fault"


@dataclass(slots=True)
class Progress:
    """What was done in one registry so far; it is told when the push fails, too."""

    uploaded: int = 0
    mounted: int = 0
    resumed: int = 0
    refused_mounts: int = 0
    is_held: bool = False
    is_tagged: bool = False
    """The release tags stand."""
    is_named: bool = False
    """And the moving tags were dealt with."""
    tags: list[str] = field(default_factory=list)
    already: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    """Tags that may have been set, though the registry failed over them."""
    kept: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cargo:
    """What a push brings: the image and what refers to it. One value serves all registries, and each file is
    one source for all of them.
    """

    release: ReleaseImage
    referrers: tuple[Manifest, ...]
    sources: Mapping[str, BlobSource]

    @classmethod
    def of(cls, release: ReleaseImage, referrers: Sequence[Manifest]) -> Cargo:
        """The cargo of ``release``; the blobs of its referrers are in the same layout."""
        blobs = [*release.image.blobs, *(blob for one in referrers for blob in one.image().blobs)]
        sources = {blob.digest: BlobSource(blob, release.layout.path(blob.digest)) for blob in blobs}
        return cls(release, tuple(referrers), sources)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob once."""
        return tuple(source.blob for source in self.sources.values())

    @property
    def size(self) -> int:
        """What a registry without any of it is sent."""
        manifests = (self.release.manifest, *self.referrers)
        return sum(blob.size for blob in self.blobs) + sum(len(one.body) for one in manifests)


@dataclass(frozen=True, slots=True)
class Delivering:
    """A cargo on its way to one open registry."""

    cargo: Cargo
    target: Registry
    registry: OpenRegistry
    progress: Progress
    origins: Callable[[str], Sequence[str]] = lambda digest: ()
    """Repositories of the same host that hold a blob, as far as we remember."""

    async def bring(self) -> None:
        """Blobs, the manifest by digest, all of it read back, then the referrers.

        Raises:
            RegistryError: it is not whole there; nothing was named.
        """
        known = await self._is_there(self.manifest)
        missing = await self._missing()
        if not known and await self.target.repository_exists() is False:
            await self.target.make_repository()
        if missing or not known:
            await each(missing, self._take)
            await self.registry.put_manifest(self.manifest)
            self.progress.uploaded += len(self.manifest.body)
            await self._read_back()
        await self._attach()
        self.progress.is_held = True

    @property
    def manifest(self) -> Manifest:
        """The release's."""
        return self.cargo.release.manifest

    async def _read_back(self) -> None:
        async def whole() -> bool:
            return await self._is_there(self.manifest)

        if not await stands(whole):
            raise BrokenContent(
                f"{self.target.name} took the manifest {short(self.manifest.digest)} and does not have it",
                hint=_STORAGE_HINT,
            )
        lost: list[Descriptor] = []

        async def complete() -> bool:
            lost[:] = await self._missing()
            return not lost

        if not await stands(complete):
            raise BrokenContent(
                f"{self.target.name} took the blob {short(lost[0].digest)} and does not have it",
                hint=_STORAGE_HINT,
            )

    async def _is_there(self, manifest: Manifest) -> bool:
        """Whether it reads back by digest, byte for byte."""
        try:
            found = await self.registry.read_manifest(manifest.digest)
        except (NotFound, RepositoryMissing):
            return False
        if found.body != manifest.body:
            raise BrokenContent(
                f"{self.target.name} gives another manifest for {short(manifest.digest)}",
                hint="its storage, or a proxy on the way, is damaged; nothing was tagged",
            )
        return True

    async def _missing(self) -> list[Descriptor]:
        missing: list[Descriptor] = []

        async def look(blob: Descriptor) -> None:
            if not await self.registry.has_blob(blob):
                missing.append(blob)

        await each(self.cargo.blobs, look)
        return missing

    async def _take(self, blob: Descriptor) -> None:
        """Get the blob there: from a repository beside it, else from here."""
        if await self._mount(blob):
            self.progress.mounted += blob.size
            return
        sent = await self.registry.put_blob(await self.source(blob))
        self.progress.uploaded += sent  # not in one expression with the await: others add to it meanwhile
        self.progress.resumed += max(0, blob.size - sent)

    async def source(self, blob: Descriptor) -> BlobSource:
        """The file with the blob. Raises NotFound where it is gone."""
        source = self.cargo.sources[blob.digest]
        if not source.path.exists():
            raise NotFound(
                f"{source.path} is gone, and {self.target.name} needs it", hint="run again: it is made anew"
            )
        return source

    async def _mount(self, blob: Descriptor) -> bool:
        for origin in self.origins(blob.digest):
            if self.progress.refused_mounts >= _REFUSED_MOUNTS:
                return False
            try:
                if await self.registry.mount_blob(blob, origin):
                    return True
            except RegistryError:  # a repository that is gone or not ours to read: the upload will do,
                pass  # and it tells what is wrong where the registry itself is
            self.progress.refused_mounts += 1
        return False

    async def _attach(self) -> None:
        """What refers to the image, one by one: where a tag lists them, each write reads it first."""
        missing = await self._unlisted()
        for referrer in missing:
            await self.registry.attach(referrer)
            self.progress.uploaded += len(referrer.body)
        if not missing:
            return

        async def seen() -> bool:
            missing[:] = await self._unlisted()
            return not missing

        if not await stands(seen):
            raise BrokenContent(
                f"{self.target.name} took {short(missing[0].digest)}, which refers to "
                f"{short(self.manifest.digest)}, and does not list it",
                hint=_STORAGE_HINT,
            )

    async def _unlisted(self) -> list[Manifest]:
        """The referrers that are not listed, or listed and not there."""
        if not self.cargo.referrers:
            return []
        listed = {one.digest for one in await self.registry.referrers(self.manifest.digest)}
        missing = [one for one in self.cargo.referrers if one.digest not in listed]

        async def look(referrer: Manifest) -> None:
            if not await self._is_there(referrer):
                missing.append(referrer)

        await each([one for one in self.cargo.referrers if one.digest in listed], look)
        return missing


async def stands(look: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it is so, at once or in a moment."""
    for wait_s in READ_BACK_WAITS_S:
        if await look():
            return True
        await anyio.sleep(wait_s)
    return await look()


async def each(items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    """``work`` on every item, some at once; the first failure ends the others and is raised."""
    limiter = anyio.CapacityLimiter(PARALLEL_BLOBS)
    failures: list[RegistryError] = []

    async with anyio.create_task_group() as tasks:

        async def one(item: T) -> None:
            async with limiter:
                try:
                    await work(item)
                except RegistryError as err:
                    failures.append(err)
                    tasks.cancel_scope.cancel()

        for item in items:
            tasks.start_soon(one, item)
    if failures:
        raise failures[0]
