"""Push: to every registry at once, in the order that keeps a tag from naming anything unfinished.

In each registry: blobs and manifest by digest, read back, [attestations], release tags, moving tags last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final

import anyio

from pipelines.errors import PipelineError
from pipelines.receipt import Delivery, NothingPushed, PushedInPart, Receipt
from pipelines.registries.blob_source import BlobSource
from pipelines.registries.descriptors import Descriptor, Manifest, short
from pipelines.registries.errors import BrokenContent, NotFound, RegistryError, RepositoryMissing, TagRefused
from pipelines.registries.port import OpenRegistry, Registry
from pipelines.stages.moving_tags import reason_to_stay

if TYPE_CHECKING:
    from pipelines.release_image import ReleaseImage
    from pipelines.stages.tag import Names

PARALLEL_BLOBS: Final = 4


async def push(release: ReleaseImage, names: Names, targets: Sequence[Registry]) -> Receipt:
    """Bring ``release`` to every target and name it there; what is there already is not sent.

    One registry's failure doesn't stop another. Cancelled, it leaves no tag on anything unfinished.

    Raises:
        PushFailed: no registry holds the release (NothingPushed).
        PartialPush: some do (PushedInPart). Both carry the receipt.
    """
    found: dict[int, Delivery] = {}

    async def one(place: int, target: Registry) -> None:
        found[place] = await deliver(release, names, target)

    async with anyio.create_task_group() as tasks:
        for place, target in enumerate(targets):
            tasks.start_soon(one, place, target)
    receipt = Receipt(release.digest, tuple(found[place] for place in range(len(targets))))
    if receipt.failed:
        raise PushedInPart(receipt) if receipt.delivered else NothingPushed(receipt)
    return receipt


async def deliver(release: ReleaseImage, names: Names, target: Registry) -> Delivery:
    """The push to one registry; its failure is part of the delivery."""
    began = monotonic()
    progress = _Progress()
    error: PipelineError | None = None
    try:
        async with target.open() as registry:
            await _Push(release, names, target, registry, progress).run()
    except PipelineError as err:
        error = err
    return Delivery(
        repository=target.name,
        digest=release.digest,
        tags=tuple(progress.tags),
        uploaded=progress.uploaded,
        total=release.size,
        seconds=monotonic() - began,
        error=error,
        kept=progress.kept,
        is_directory=target.is_directory,
    )


@dataclass(slots=True)
class _Progress:
    """What was done so far; it is told when the push fails, too."""

    uploaded: int = 0
    tags: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Push:
    """One release on its way to one open registry."""

    release: ReleaseImage
    names: Names
    target: Registry
    registry: OpenRegistry
    progress: _Progress

    async def run(self) -> None:
        """Everything, in order."""
        for tag in self.names.version_tags:  # a conflict is found before anything is sent
            await self._is_free_or_ours(tag)
        await self._bring()
        for tag in self.names.version_tags:
            if not await self._is_free_or_ours(tag):
                await self.registry.tag(tag, self.manifest)
            self.progress.tags.append(tag)
        for tag in self.names.moving_tags:
            await self._move(tag)

    @property
    def manifest(self) -> Manifest:
        return self.release.manifest

    async def _bring(self) -> None:
        """Blobs, then the manifest by digest, then read it all back. What is there was read just now."""
        blobs = self.release.image.blobs
        known = await self._manifest_is_there()
        missing = await self._missing(blobs)
        if known and not missing:
            return
        await _each(missing, self._send)
        await self.registry.put_manifest(self.manifest)
        self.progress.uploaded += len(self.manifest.body)
        if not await self._manifest_is_there():
            raise BrokenContent(
                f"{self.target.name} took the manifest {short(self.release.digest)} and does not have it",
                hint="run again; if it stays so, the registry's storage is at fault",
            )
        if lost := await self._missing(blobs):
            raise BrokenContent(
                f"{self.target.name} took the blob {short(lost[0].digest)} and does not have it",
                hint="run again; if it stays so, the registry's storage is at fault",
            )

    async def _manifest_is_there(self) -> bool:
        """Whether it reads back by digest, byte for byte."""
        try:
            found = await self.registry.read_manifest(self.release.digest)
        except (NotFound, RepositoryMissing):
            return False
        if found.body != self.manifest.body:
            raise BrokenContent(
                f"{self.target.name} gives another manifest for {short(self.release.digest)}",
                hint="its storage, or a proxy on the way, is damaged; nothing was tagged",
            )
        return True

    async def _missing(self, blobs: Iterable[Descriptor]) -> list[Descriptor]:
        missing: list[Descriptor] = []

        async def look(blob: Descriptor) -> None:
            if not await self.registry.has_blob(blob):
                missing.append(blob)

        await _each(blobs, look)
        return missing

    async def _send(self, blob: Descriptor) -> None:
        path = self.release.layout.path(blob.digest)
        sent = await self.registry.put_blob(BlobSource(blob, path))
        self.progress.uploaded += sent  # not in one expression with the await: others add to it meanwhile

    async def _is_free_or_ours(self, tag: str) -> bool:
        """True: the immutable ``tag`` names our digest already. False: it is free. Raises TagRefused."""
        held = await self.registry.tag_digest(tag)
        if held in (None, self.release.digest):
            return held is not None
        raise TagRefused(
            f"{self.target.reference(tag)} is {short(str(held))} already, "
            f"and this build is {short(self.release.digest)}",
            hint="a release tag never moves: commit and release under a new one, or find out with "
            f"`modelport trace {self.target.reference(tag)}` what it names",
        )

    async def _move(self, tag: str) -> None:
        held = await self.registry.tag_digest(tag)
        if held != self.release.digest:
            reason = await reason_to_stay(tag, self.release, self.names, self.registry) if held else ""
            if reason:
                self.progress.kept[tag] = reason
                return
            await self.registry.tag(tag, self.manifest)
        self.progress.tags.append(tag)


async def _each(items: Iterable[Descriptor], work: Callable[[Descriptor], Awaitable[None]]) -> None:
    """``work`` on every item, some at once; the first failure ends the others and is raised."""
    limiter = anyio.CapacityLimiter(PARALLEL_BLOBS)
    failures: list[RegistryError] = []

    async with anyio.create_task_group() as tasks:

        async def one(item: Descriptor) -> None:
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
