"""What a promotion brings, read from where it comes from: an image or an index, and all that refers to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import anyio

from pipelines.registries.blob_source import BlobSource
from pipelines.registries.descriptors import (
    CONFIG_LIMIT,
    INDEX_TYPES,
    Descriptor,
    ImageManifest,
    Manifest,
    short,
)
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.errors import BrokenContent, RegistryError
from pipelines.registries.layout import ImageLayout
from pipelines.registries.platforms import image_of
from pipelines.registries.port import OpenRegistry, Registry
from pipelines.release_image import ReleaseImage

MOST_MANIFESTS: Final = 500
"""Of one release, with everything that refers to it. More is a mistake, or meant to do harm."""


@dataclass(frozen=True, slots=True)
class Part:
    """A manifest, what an index lists, and what refers to it."""

    manifest: Manifest
    children: tuple[Part, ...] = ()
    referrers: tuple[Part, ...] = ()

    @property
    def own_blobs(self) -> tuple[Descriptor, ...]:
        """The blobs that the manifest itself names."""
        return () if self.manifest.media_type in INDEX_TYPES else self.manifest.image().blobs

    def all(self) -> Iterator[Part]:
        """This part and all in it: children first, and last what refers to it."""
        for child in self.children:
            yield from child.all()
        yield self
        for referrer in self.referrers:
            yield from referrer.all()

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob once."""
        return tuple({blob.digest: blob for part in self.all() for blob in part.own_blobs}.values())

    @property
    def size(self) -> int:
        """The bytes of all blobs and manifests."""
        manifests = {part.manifest.digest: len(part.manifest.body) for part in self.all()}
        return sum(blob.size for blob in self.blobs) + sum(manifests.values())


async def read_part(registry: OpenRegistry, digest: str) -> Part:
    """The image or index ``digest`` with its children and, of each, what refers to it, and so on.

    Raises:
        RegistryError: something of it can't be read, or there is more than anybody can look at.
    """
    return await _Reading(registry).part(digest)


@dataclass(slots=True)
class _Reading:
    registry: OpenRegistry
    count: int = 0

    async def part(self, digest: str, subject: str = "") -> Part:
        self.count += 1
        if self.count > MOST_MANIFESTS:
            raise BrokenContent(f"it has more than {MOST_MANIFESTS} manifests, with all that refers to it")
        manifest = await self.registry.read_manifest(digest)
        if subject and (manifest.subject is None or manifest.subject.digest != subject):
            raise BrokenContent(
                f"{short(digest)} is listed as referring to {short(subject)}, and does not",
                hint="the registry's list of referrers is wrong: have that entry removed",
            )
        children: list[Part] = []
        if manifest.media_type in INDEX_TYPES:
            children = [await self.part(child.digest) for child, _ in manifest.children()]
        listed = await self.registry.referrers(digest)
        referrers = [await self.part(one.digest, digest) for one in listed]
        return Part(manifest, tuple(children), tuple(referrers))


@dataclass(frozen=True)
class PromotedImage(ReleaseImage):
    """What is promoted: its manifest may be an index; labels and config are those of the image in it."""

    described: Manifest = field(default=Manifest("", b""), repr=False)
    """The image that stands for it; the same as ``manifest`` where that is no index."""

    @cached_property
    def image(self) -> ImageManifest:
        """Config and layers of the image that stands for it."""
        return self.described.image()

    def of(self, manifest: Manifest) -> PromotedImage:
        """Another manifest of the same promotion."""
        return replace(self, manifest=manifest)


async def read_image(registry: OpenRegistry, manifest: Manifest, layout: ImageLayout) -> PromotedImage:
    """The image to promote; its config is in ``layout``. Raises RegistryError."""
    described, _ = await image_of(registry, manifest)
    layout.write_blob(await registry.read_blob(described.image().config.digest, CONFIG_LIMIT))
    return PromotedImage(layout, manifest, described)


@dataclass(slots=True)
class Fetched:
    """Blobs on their way, each fetched once for all registries that lack it, and removed after the last."""

    origin: Registry
    registry: OpenRegistry
    directory: Path
    readers: int
    """How many registries may ask for each."""
    _locks: dict[str, anyio.Lock] = field(default_factory=dict)
    _sources: dict[str, BlobSource] = field(default_factory=dict)
    _asked: dict[str, int] = field(default_factory=dict)

    def origins(self, target: Registry) -> Callable[[str], Sequence[str]]:
        """Where ``target`` can mount a blob from: our repository, where it is of the same registry."""
        host, _, path = self.origin.name.partition("/")
        beside = not (self.origin.is_directory or target.is_directory) and target.name != self.origin.name
        same = beside and target.name.partition("/")[0] == host
        return lambda digest: (path,) if same else ()

    async def source(self, blob: Descriptor) -> BlobSource:
        """The file with the blob, fetched and verified now where it is not here. Raises RegistryError."""
        if isinstance(self.origin, LayoutRegistry):
            return self._sources.setdefault(
                blob.digest, BlobSource(blob, self.origin.layout.path(blob.digest))
            )
        async with self._locks.setdefault(blob.digest, anyio.Lock()):
            if blob.digest not in self._sources:
                path = self.directory / blob.digest.replace(":", "-")
                await self._fetch(blob, path)
                self._sources[blob.digest] = BlobSource(blob, path)
        return self._sources[blob.digest]

    async def _fetch(self, blob: Descriptor, path: Path) -> None:
        try:
            await self.registry.download_blob(blob, path)
        except OSError as err:
            raise RegistryError(
                f"{path} can't be written: {err.strerror}",
                hint=f"{blob.size / 1e6:.0f} MB are needed there on the way from {self.origin.name}",
            ) from err

    def sent(self, blob: Descriptor) -> None:
        """A registry has it now; after the last one the file goes."""
        self._asked[blob.digest] = self._asked.get(blob.digest, 0) + 1
        if self._asked[blob.digest] >= self.readers and not isinstance(self.origin, LayoutRegistry):
            source = self._sources.pop(blob.digest, None)
            if source is not None:
                source.path.unlink(missing_ok=True)
