"""An image on its way out: config, manifest and index as exact bytes, the same for the same containers.

https://github.com/opencontainers/image-spec: ``created`` and history carry one time, given by the session, so
that neither a cold cache nor the clock changes a digest. Several platforms make an index, sorted by platform,
whose entries repeat the annotations of their manifests, as Dagger's engine does it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar

from embedded_engine.image_config import ImageConfig, config_section
from embedded_engine.media_types import MediaTypes, layer_type
from embedded_engine.operations import Outcome, Work
from embedded_engine.runtime.port import (
    JSON,
    Compression,
    LayerBlob,
    Outgoing,
    OutImage,
    OutIndex,
    RuntimeFailure,
)
from embedded_engine.values import Container


@dataclass(frozen=True, slots=True)
class Form:
    """What a caller wants of an image's form. ``created`` is the time it is said to be made at."""

    created: int
    forced: Compression = ""
    docker: bool = False

    @property
    def types(self) -> MediaTypes:
        """The media types to use."""
        return MediaTypes.docker() if self.docker else MediaTypes.oci()


async def image_out(work: Work, containers: Sequence[Container], form: Form) -> Outgoing:
    """The image of the containers that have a file system: an index if there are several.

    Layers are made (once), configs and manifests composed. Raises RuntimeFailure.
    """
    filled = sorted(
        (one for one in containers if one.rootfs is not None), key=lambda container: container.platform
    )
    images: dict[str, OutImage] = {}
    for container in filled:
        if container.platform in images:
            raise RuntimeFailure(f'duplicate platform "{container.platform}"')
        if image := await _image(work, container, form):
            images[container.platform] = image
    if not images:
        raise RuntimeFailure("no containers to export: the container has no file system yet")
    if len(images) == 1:
        return next(iter(images.values()))
    notes = {one.platform: dict(sorted(one.config.annotations)) for one in filled}
    return indexed(images, notes, form)


async def _image(work: Work, container: Container, form: Form) -> OutImage | None:
    assert container.rootfs is not None  # noqa: S101  # the caller chose those
    rootfs = container.rootfs

    async def layers() -> tuple[LayerBlob, ...] | None:
        snapshot = (await work.result(rootfs)).snapshot
        return await work.runtime.layers(snapshot, form.forced) if snapshot else None

    found = await work.recovering(layers)
    if found is None:
        return None
    image = composed(container, found, form)
    what = "the image's settings (its variables, labels, annotations, or a Dockerfile's build arguments)"
    work.secrets.warn_of(image.config + image.manifest, what)
    return image


def composed(container: Container, layers: Sequence[LayerBlob], form: Form) -> OutImage:
    """Config and manifest for these layers; pure."""
    types = form.types
    config = _encoded(config_document(container, [layer.diff_id for layer in layers], form.created))
    manifest: dict[str, JSON] = {
        "schemaVersion": 2,
        "mediaType": types.manifest,
        "config": {"mediaType": types.config, "digest": _digest(config), "size": len(config)},
        "layers": [
            {
                "mediaType": layer_type(layer.media_type, docker=form.docker),
                "digest": layer.digest,
                "size": layer.size,
            }
            for layer in layers
        ],
    }
    if container.config.annotations:
        manifest["annotations"] = dict(sorted(container.config.annotations))
    text = _encoded(manifest)
    return OutImage(text, config, tuple(layers), _digest(text), types.manifest)


def indexed(images: dict[str, OutImage], annotations: dict[str, dict[str, str]], form: Form) -> OutIndex:
    """The index of images by platform; pure."""
    entries: list[JSON] = []
    for platform, image in images.items():
        entry: dict[str, JSON] = {
            "mediaType": image.media_type,
            "digest": image.digest,
            "size": len(image.manifest),
        }
        if annotations.get(platform):
            entry["annotations"] = dict(annotations[platform])
        entry["platform"] = dict(platform_document(platform))
        entries.append(entry)
    media_type = form.types.index
    text = _encoded({"schemaVersion": 2, "mediaType": media_type, "manifests": entries})
    return OutIndex(text, tuple(images.values()), _digest(text), media_type)


def platform_document(platform: str) -> dict[str, str]:
    """OCI's platform object: architecture, os, and a variant if there is one."""
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    return {"architecture": architecture, "os": system, **({"variant": variant} if variant else {})}


def config_document(container: Container, diff_ids: Sequence[str], created: int) -> dict[str, JSON]:
    """OCI's image config document."""
    stamp = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    where = platform_document(container.platform)
    document: dict[str, JSON] = {
        "created": stamp,
        "architecture": where["architecture"],
        "os": where["os"],
        "config": config_section(container.config),
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": _history(container.config, len(diff_ids), stamp),
    }
    if "variant" in where:
        document["variant"] = where["variant"]
    return document


def _history(config: ImageConfig, layers: int, stamp: str) -> list[JSON]:
    """The base's history as it came, then one entry for each layer of ours."""
    base: list[JSON] = [dict(entry) for entry in config.history]
    own = layers - sum(1 for entry in config.history if not entry.get("empty_layer"))
    if own < 0:  # the base's history does not fit its layers: leave it out rather than lie
        base, own = [], layers
    ours: list[JSON] = [{"created": stamp, "created_by": "embedded-engine"} for _ in range(own)]
    return [*base, *ours]


def _encoded(document: dict[str, JSON]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class ImageTarball:
    """A tree of one file, container.tar: the image as an archive. Written only when its bytes are needed."""

    keep: ClassVar[bool] = True
    kind: ClassVar[str] = "tarball"
    containers: tuple[Container, ...]
    form: Form
    manifest: str  # its digest (or the index's), which is the identity
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        # the manifest's digest itself, so that the file's digest is the one publish answers
        object.__setattr__(self, "digest", self.manifest.removeprefix("sha256:"))

    @property
    def name(self) -> str:
        """The image's digest."""
        return self.manifest[:19]

    async def image(self, work: Work) -> Outgoing:
        """The image to write. Raises RuntimeFailure."""
        return await image_out(work, self.containers, self.form)

    async def run(self, work: Work) -> Outcome:
        """Write it."""
        image = await self.image(work)
        async with work.scratch() as scratch, work.slot():
            await work.runtime.write_tarball(image, scratch / "container.tar")
            return Outcome(tree=await work.trees.ingest(scratch))
