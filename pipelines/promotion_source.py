"""Where a promotion comes from: the image, what refers to it, its release tags, and what is proved of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipelines.config import Environment, Model
from pipelines.errors import TraceFailed
from pipelines.promotion import NotProved
from pipelines.promotion_content import Fetched, Part, PromotedImage, read_image, read_part
from pipelines.registries.descriptors import INDEX_TYPES, Manifest
from pipelines.registries.errors import RegistryError
from pipelines.registries.layout import ImageLayout
from pipelines.registries.port import OpenRegistry, Registry
from pipelines.release_tags import is_release_tag
from pipelines.stages.delivery import each
from pipelines.stages.moving_tags import REVISION_LABEL
from pipelines.statements import GateVerdict, recorded_gates
from pipelines.trace_hops import printable

_READ_HINT: Final = "check the reference, and that you may read there: `modelport trace` shows what it is"


@dataclass(frozen=True, slots=True)
class Found:
    """What is promoted, and what is known of it."""

    part: Part
    release: PromotedImage
    fetched: Fetched
    tags: tuple[str, ...]
    gates: Mapping[str, GateVerdict]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the image comes from."""

    origin: Registry
    model: Model
    environment: Environment
    directory: Path

    @asynccontextmanager
    async def opened(self, wanted: str, reference: str) -> AsyncIterator[Found]:
        """The image and all of it, proved; its blobs can be fetched for as long as the block lasts."""
        async with self.origin.open() as registry:
            try:
                found = await self._read(registry, wanted)
            except RegistryError as err:
                raise TraceFailed(f"{reference} can't be read: {err}", hint=err.hint or _READ_HINT) from err
            yield found

    async def _read(self, registry: OpenRegistry, wanted: str) -> Found:
        manifest = await registry.read_manifest(wanted)
        release = await read_image(registry, manifest, ImageLayout.create(self.directory / "layout"))
        self._hold_clean(release)
        gates = await self._proved(registry, release)
        part = await read_part(registry, manifest.digest)
        fetched = Fetched(self.origin, registry, self.directory, len(self.environment.registries))
        return Found(part, release, fetched, await self._tags(registry, release, wanted), gates)

    def _hold_clean(self, release: PromotedImage) -> None:
        if release.labels.get(REVISION_LABEL, "").endswith("-dirty"):
            raise NotProved(
                f"{self.origin.reference(release.digest)} was built with uncommitted changes",
                hint="commit, release, and promote that",
            )

    async def _proved(self, registry: OpenRegistry, release: PromotedImage) -> Mapping[str, GateVerdict]:
        """The gates that the environment asks for. Raises NotProved, naming what is missing or failed."""
        found = await recorded(registry, release.manifest)
        asked = self.environment.gates
        missing = [f"{gate} is not recorded" for gate in asked if gate not in found]
        missing += [
            f"{gate} failed ({printable(', '.join(found[gate].failed)) or 'no reason recorded'})"
            for gate in asked
            if gate in found and not found[gate].holds
        ]
        if not missing:
            return {gate: found[gate] for gate in asked}
        raise NotProved(
            f"{self.origin.reference(release.digest)} is not proved: {'; '.join(missing)}",
            hint="`modelport run` on its commit records the gates beside the image; "
            "what an environment asks for stands in its gates:",
        )

    async def _tags(self, registry: OpenRegistry, release: PromotedImage, wanted: str) -> tuple[str, ...]:
        """The release tags of the image, that of the reference first."""
        fitting = [tag for tag in await registry.tags() if is_release_tag(tag, self.model, release.labels)]
        own: set[str] = set()

        async def look(tag: str) -> None:
            if await registry.tag_digest(tag) == release.digest:
                own.add(tag)

        await each(fitting, look)
        return tuple(sorted(own, key=lambda tag: (tag != wanted, tag)))


async def recorded(registry: OpenRegistry, manifest: Manifest) -> Mapping[str, GateVerdict]:
    """The verdicts on an image. An index has its own, and of those that all its images have the worst.

    Raises:
        RegistryError: the registry can't be read.
    """
    own = await recorded_gates(registry, manifest.digest)
    if manifest.media_type not in INDEX_TYPES:
        return own
    images = [one for one, platform in manifest.children() if "unknown" not in platform.values()]
    several = [await recorded_gates(registry, one.digest) for one in images]
    shared = set.intersection(*(set(one) for one in several)) if several else set()
    worst = {gate: min((one[gate] for one in several), key=lambda verdict: verdict.holds) for gate in shared}
    return worst | dict(own)
