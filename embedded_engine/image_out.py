"""An image on its way out: config and manifest as exact bytes, the same for the same container.

https://github.com/opencontainers/image-spec: ``created`` and history carry one time, given by the session, so
that neither a cold cache nor the clock changes a digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar

from embedded_engine.image_config import ImageConfig, config_section
from embedded_engine.operations import Outcome, Work
from embedded_engine.runtime.port import JSON, LayerBlob, OutImage, RuntimeFailure
from embedded_engine.values import Container

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


async def image_out(work: Work, container: Container, created: int) -> OutImage:
    """The image of ``container``: layers made (once), config and manifest composed. Raises RuntimeFailure."""
    outcome = Outcome() if container.rootfs is None else await work.result(container.rootfs)
    if not outcome.snapshot:
        raise RuntimeFailure("no containers to export: the container has no file system yet")
    layers = await work.runtime.layers(outcome.snapshot)
    return composed(container, layers, created)


def composed(container: Container, layers: Sequence[LayerBlob], created: int) -> OutImage:
    """Config and manifest for these layers; pure."""
    config = _encoded(config_document(container, [layer.diff_id for layer in layers], created))
    manifest: dict[str, JSON] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": _digest(config), "size": len(config)},
        "layers": [
            {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in layers
        ],
    }
    if container.config.annotations:
        manifest["annotations"] = dict(sorted(container.config.annotations))
    text = _encoded(manifest)
    return OutImage(text, config, tuple(layers), _digest(text))


def config_document(container: Container, diff_ids: Sequence[str], created: int) -> dict[str, JSON]:
    """OCI's image config document."""
    system, _, rest = container.platform.partition("/")
    architecture, _, variant = rest.partition("/")
    stamp = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document: dict[str, JSON] = {
        "created": stamp,
        "architecture": architecture,
        "os": system,
        "config": config_section(container.config),
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": _history(container.config, len(diff_ids), stamp),
    }
    if variant:
        document["variant"] = variant
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
    """A tree of one file, image.tar: the image as an archive. Written only when its bytes are needed."""

    keep: ClassVar[bool] = True
    kind: ClassVar[str] = "tarball"
    container: Container
    created: int
    manifest: str  # its digest, which is the identity
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        # the manifest's digest itself, so that the file's digest is the one publish answers
        object.__setattr__(self, "digest", self.manifest.removeprefix("sha256:"))

    @property
    def name(self) -> str:
        """The image's digest."""
        return self.manifest[:19]

    async def run(self, work: Work) -> Outcome:
        """Write it."""
        image = await image_out(work, self.container, self.created)
        async with work.scratch() as scratch, work.slot():
            await work.runtime.write_tarball(image, scratch / "image.tar")
            return Outcome(tree=await work.trees.ingest(scratch))
