"""The fan-out of a promotion: the order and the names of a push, with content that another registry has.

What a registry can mount from the repository beside it does not travel; all else is fetched once, for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.image_difference import Differences
from pipelines.promotion_content import Fetched, Part, PromotedImage
from pipelines.registries.blob_source import BlobSource
from pipelines.registries.descriptors import Descriptor, Manifest
from pipelines.registries.port import OpenRegistry
from pipelines.release_image import ReleaseImage
from pipelines.stages.delivery import Cargo, Delivering
from pipelines.stages.fan_out import FanOut


def whole_cargo(part: Part, release: PromotedImage) -> Cargo:
    """All of a promotion at once: what a registry that has nothing of it is sent."""
    manifests = {one.manifest.digest: one.manifest for one in part.all()}
    others = tuple(one for digest, one in manifests.items() if digest != release.digest)
    return _cargo(release, others, part.blobs)


def steps(part: Part) -> Iterator[Part]:
    """The parts that are delivered one after the other, each with what refers to it directly."""
    for child in (*part.children, *(child for one in part.referrers for child in one.children)):
        yield from steps(child)
    yield part
    for one in part.referrers:
        if one.referrers:
            yield from steps(one)


def cargo_of(part: Part, release: PromotedImage) -> Cargo:
    """One manifest and what refers to it directly."""
    blobs = (*part.own_blobs, *(blob for one in part.referrers for blob in one.own_blobs))
    return _cargo(release.of(part.manifest), tuple(one.manifest for one in part.referrers), blobs)


def _cargo(release: PromotedImage, referrers: tuple[Manifest, ...], blobs: tuple[Descriptor, ...]) -> Cargo:
    sources = {blob.digest: BlobSource(blob, release.layout.path(blob.digest)) for blob in blobs}
    return Cargo(release, referrers, sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copying(Delivering):
    """One manifest, and what refers to it, on its way from one open registry to another."""

    fetched: Fetched

    async def source(self, blob: Descriptor) -> BlobSource:
        """The file with the blob, fetched when it is asked for. Raises RegistryError."""
        return await self.fetched.source(blob)

    async def _take(self, blob: Descriptor) -> None:
        await Delivering._take(self, blob)
        self.fetched.sent(blob)


@dataclass(slots=True, kw_only=True)
class Promoting(FanOut):
    """One promotion under way."""

    part: Part
    release: PromotedImage
    fetched: Fetched

    async def bring(self, delivering: Delivering) -> None:
        """Every manifest: what is named before what names it, and then what refers to it."""
        progress = delivering.progress
        for part in steps(self.part):
            progress.is_held = False  # that was told of the part before
            await Copying(
                cargo_of(part, self.release),
                delivering.target,
                delivering.registry,
                progress,
                self.fetched.origins(delivering.target),
                fetched=self.fetched,
            ).bring()


class NotCompared(Differences):
    """A promotion does not fetch layers only to tell what differs in them."""

    async def told(self, registry: OpenRegistry, held: str, release: ReleaseImage) -> str:
        """What is known without."""
        del registry, held, release
        return "another build was brought there under this name"
