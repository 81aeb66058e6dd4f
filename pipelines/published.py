"""The published version: what a tag names now in the first registry that answers, to compare a build with.

All of it is read as `modelport trace` reads it: manifests and blobs by digest, verified; the gates' records
as in-toto statements (see ``pipelines.statements``): whoever may push there could have written them.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from pipelines.errors import ConfigError
from pipelines.registries.descriptors import CONFIG_LIMIT, ImageManifest, Manifest, json_object, text_mapping
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.errors import NotFound, RegistryError
from pipelines.registries.platforms import image_of
from pipelines.registries.port import OpenRegistry, Registry
from pipelines.registries.targets import registries_of
from pipelines.statements import DOCUMENT_LIMIT, GateVerdict, recorded_gates
from pipelines.values import JSON

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from pipelines.registries.layout import ImageLayout
    from pipelines.release_image import StoredImage

LIMIT_S: Final = 15.0
"""How long all registries together may take to tell."""


class CouldNotTell(Exception):
    """No registry could be asked what is published; the text says why. Never the same as "nothing"."""


@dataclass(frozen=True, slots=True)
class Published:
    """One published image."""

    name: str
    """The repository or directory, for people."""
    reference: str
    """``host/repository@sha256:…``; "" for a layout."""
    digest: str
    tag: str
    settings: Mapping[str, JSON] = field(repr=False)
    """How it runs: command, environment, user; the labels among them."""
    gates: Mapping[str, GateVerdict]
    """What is recorded of it, by gate."""
    sbom: bytes | None = field(repr=False)
    """Its CycloneDX document; None where none is recorded."""
    manifest: Manifest = field(repr=False)
    """The image's own; of an index that of the image for linux/amd64."""
    registry: Registry = field(repr=False)
    """Where it is."""
    store: ImageLayout = field(repr=False)
    """The layout of this machine, which may hold some of its blobs."""

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its config."""
        return text_mapping(self.settings.get("Labels"))

    @property
    def image(self) -> ImageManifest:
        """Its config and layers."""
        return self.manifest.image()

    @property
    def size(self) -> int:
        """What the image weighs in a registry: its blobs and its manifest."""
        return self.image.size + len(self.manifest.body)

    @property
    def version(self) -> str:
        """What people call it: the version of its label, else its tag."""
        return self.labels.get("org.opencontainers.image.version") or self.tag

    @property
    def commit(self) -> str:
        """The commit that it was built from, as its label says; "" where it has none."""
        return self.labels.get("org.opencontainers.image.revision", "")

    def holds(self, built: StoredImage) -> bool:
        """Whether it is what was built now, but for its labels and times: then it answers the same."""
        other = built.config.get("config")
        layers = [one.digest for one in built.image.layers]
        return (
            layers == [one.digest for one in self.image.layers]
            and isinstance(other, dict)
            and _unlabelled(other) == _unlabelled(self.settings)
        )

    def facts(self, gate: str) -> Mapping[str, JSON]:
        """The numbers that ``gate`` recorded of it; none where it is not recorded."""
        found = self.gates.get(gate)
        return found.facts if found is not None else {}

    def to_json(self) -> dict[str, JSON]:
        """For the record."""
        return {
            "name": self.name,
            "digest": self.digest,
            "tag": self.tag,
            "version": self.version,
            "commit": self.commit or None,
            "size": self.size,
        }


def _unlabelled(settings: Mapping[str, JSON]) -> dict[str, JSON]:
    return {key: value for key, value in settings.items() if key != "Labels" and value}


PublishedSource = Callable[[], Awaitable[Published | None]]
"""The published version, asked for once however many want it. Raises CouldNotTell."""


def published_source(plan: Plan, environ: Mapping[str, str] | None = None) -> PublishedSource:
    """The source for one run of ``plan``: nothing is asked before somebody wants to know, and then once."""
    return once(lambda: find_published(plan, plan.model.check.published, environ))


def once(ask: PublishedSource) -> PublishedSource:
    """``ask``, once: its answer, or its CouldNotTell, is that for everybody."""
    lock, told = anyio.Lock(), list[Published | CouldNotTell | None]()

    async def source() -> Published | None:
        async with lock:
            if not told:
                try:
                    told.append(await ask())
                except CouldNotTell as err:
                    told.append(err)
        if isinstance(told[0], CouldNotTell):
            raise CouldNotTell(str(told[0])) from told[0]
        return told[0]

    return source


async def nothing_published() -> None:
    """A source for who has no registry to ask, such as `modelport check`."""


async def find_published(
    plan: Plan, tag: str = "latest", environ: Mapping[str, str] | None = None
) -> Published | None:
    """What ``tag`` names in the first of the plan's registries that answers; None: nothing yet.

    A registry that can't be asked is passed over for the next one; all of them together have 15 seconds.

    Raises:
        CouldNotTell: none of them could be asked.
    """
    model = plan.model
    try:
        registries: Sequence[Registry] = plan.targets or registries_of(
            model.registries,
            model.name,
            LayoutRegistry(plan.layout, str(plan.layout.directory)),
            os.environ if environ is None else environ,
        )
    except ConfigError as err:
        raise CouldNotTell(str(err)) from err
    reasons = []
    for registry in registries:
        limit_s = LIMIT_S / len(registries)
        try:
            with anyio.fail_after(limit_s):
                return await published_in(registry, tag, plan.layout)
        except TimeoutError:
            reasons.append(f"{registry.name} did not answer within {limit_s:.0f} s")
        except (RegistryError, ConfigError) as err:  # ConfigError: a secret that is not set
            reasons.append(str(err))
    raise CouldNotTell("; ".join(reasons))


async def published_in(registry: Registry, tag: str, store: ImageLayout) -> Published | None:
    """What ``tag`` names in ``registry``; None: nothing yet. Raises RegistryError."""
    async with registry.open() as opened:
        digest = await opened.tag_digest(tag)
        if digest is None:
            return None
        manifest = await opened.read_manifest(digest)
        image, _ = await image_of(opened, manifest)
        gates = await recorded_gates(opened, digest)
        config = json_object(
            await opened.read_blob(image.image().config.digest, CONFIG_LIMIT), "the published image's config"
        )
        inner = config.get("config")
        return Published(
            name=registry.name,
            reference="" if registry.is_directory else registry.reference(digest),
            digest=digest,
            tag=tag,
            settings=inner if isinstance(inner, dict) else {},
            gates=gates,
            sbom=await _sbom(opened, gates),
            manifest=image,
            registry=registry,
            store=store,
        )


async def _sbom(opened: OpenRegistry, gates: Mapping[str, GateVerdict]) -> bytes | None:
    """The document that the inventory's record was read from."""
    record = gates.get("inventory")
    if record is None:
        return None
    try:
        layers = (await opened.read_manifest(record.recorded_as)).image().layers
        return await opened.read_blob(layers[0].digest, DOCUMENT_LIMIT)
    except (NotFound, IndexError):
        return None
