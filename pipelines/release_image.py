"""The release image: the layers that were built and checked, under a config and manifest with the labels.

It is derived on our side of the engine, so the layers that go out are by construction those that were
checked, and a commit that changes no input needs no new export. Follows the OCI image specification v1.1
("Image Configuration", "Image Manifest").
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from pipelines.errors import PushFailed
from pipelines.registries.descriptors import (
    CONFIG_LIMIT,
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    ImageManifest,
    Manifest,
    canonical_json,
    json_object,
    short,
    text_mapping,
)
from pipelines.registries.errors import BrokenContent
from pipelines.registries.layout import ImageLayout
from pipelines.values import JSON

if TYPE_CHECKING:
    from pipelines.stages.tag import Names

_OCI_PREFIX: Final = "org.opencontainers.image."
_DOCKER_LAYERS: Final = {
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
"""The same bytes under the name that an OCI manifest has for them."""


@dataclass(frozen=True)
class StoredImage:
    """An image whose blobs are in a layout. (No slots: what is read of it is read once.)"""

    layout: ImageLayout
    manifest: Manifest = field(repr=False)

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return self.manifest.digest

    @cached_property
    def image(self) -> ImageManifest:
        """Config and layers."""
        return self.manifest.image()

    @cached_property
    def config(self) -> dict[str, Any]:
        """The image's configuration (Any: foreign JSON; checked where it is used). Raises BrokenContent."""
        return json_object(
            self.layout.read_blob(self.image.config.digest, CONFIG_LIMIT), "the image's config"
        )

    @cached_property
    def diff_ids(self) -> tuple[str, ...]:
        """The digests of the unpacked layers, from the config."""
        rootfs = self.config.get("rootfs")
        found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        return tuple(str(one) for one in found) if isinstance(found, list) else ()

    @property
    def size(self) -> int:
        """What the image weighs in a registry: its blobs and its manifest."""
        return self.image.size + len(self.manifest.body)


@dataclass(frozen=True)
class BuiltImage(StoredImage):
    """What the engine built, taken into the layout."""

    exported: bool = True
    """False: the layout had it already, and the engine was not asked for it."""

    def release(self, names: Names, created: datetime) -> ReleaseImage:
        """This image with the release's labels, and every time in it the commit's. Deterministic to the byte.

        Raises:
            PushFailed: the result would not hold the layers that were built.
        """
        config = _release_config(self.config, names.labels, created)
        body = canonical_json(config)
        digest = self.layout.write_blob(body)
        manifest = _release_manifest(self.image, Descriptor(OCI_CONFIG, digest, len(body)), names.labels)
        self.layout.write_blob(manifest.body)
        released = ReleaseImage(self.layout, manifest)
        hold_same_layers(self, released)
        return released

    def summary(self) -> str:
        """For the console."""
        known = "" if self.exported else ", unchanged"
        return f"{self.size / 1e6:.0f} MB in {len(self.image.layers)} layers{known}"

    def to_json(self) -> dict[str, JSON]:
        """For the run record."""
        layers: list[JSON] = [
            {"digest": layer.digest, "size": layer.size, "diff_id": diff_id}
            for layer, diff_id in zip(self.image.layers, self.diff_ids, strict=False)
        ]
        return {"digest": self.digest, "size": self.size, "exported": self.exported, "layers": layers}


@dataclass(frozen=True)
class ReleaseImage(StoredImage):
    """What is pushed. Its manifest and config are in the layout beside the layers."""

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its config."""
        inner = self.config.get("config")
        return text_mapping(inner.get("Labels")) if isinstance(inner, dict) else {}


def hold_same_layers(built: StoredImage, released: StoredImage) -> None:
    """Hold that both images have the same layers, packed and unpacked.

    Raises:
        PushFailed: naming the first layer that differs.
    """
    _hold_same(
        "digest", [one.digest for one in built.image.layers], [one.digest for one in released.image.layers]
    )
    _hold_same("diff id", built.diff_ids, released.diff_ids)
    layers, diff_ids = len(built.image.layers), len(built.diff_ids)
    if layers != diff_ids:
        raise PushFailed(
            f"the built image {short(built.digest)} has {layers} layers and {diff_ids} diff ids",
            hint="the engine exported a broken image: build it again",
        )


def _hold_same(what: str, built: Sequence[str], released: Sequence[str]) -> None:
    for number, (one, other) in enumerate(itertools.zip_longest(built, released, fillvalue="none"), start=1):
        if one != other:
            raise PushFailed(
                f"layer {number} is not the one that was checked: "
                f"its {what} is {short(other)} instead of {short(one)}",
                hint="the image was changed after its checks: run again, and nothing was pushed",
            )


def _release_config(config: dict[str, Any], labels: dict[str, str], created: datetime) -> dict[str, Any]:
    stamp = created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    inner = config.get("config") or {}
    history = config.get("history") or []
    if not isinstance(inner, dict) or not isinstance(history, list):
        raise BrokenContent("the image's config is not one of the OCI image specification")
    return config | {
        "created": stamp,
        "config": inner | {"Labels": text_mapping(inner.get("Labels")) | labels},
        "history": [entry | {"created": stamp} for entry in history if isinstance(entry, dict)],
    }


def _release_manifest(built: ImageManifest, config: Descriptor, labels: dict[str, str]) -> Manifest:
    layers = [
        replace(layer, media_type=_DOCKER_LAYERS.get(layer.media_type, layer.media_type))
        for layer in built.layers
    ]
    own = {name: value for name, value in labels.items() if name.startswith(_OCI_PREFIX)}
    content: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
        "annotations": dict(built.annotations) | own,
    }
    return Manifest(OCI_MANIFEST, canonical_json(content))
