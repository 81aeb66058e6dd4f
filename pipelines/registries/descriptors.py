"""Digests, descriptors and manifests of the OCI image specification v1.1 ("Content Descriptors", "Manifest").

What a registry or a file says is never believed: parsing checks shapes, reading checks digests.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from pipelines.registries.errors import BrokenContent

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

IMAGE_TYPES: Final = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES: Final = (OCI_INDEX, DOCKER_INDEX)

MANIFEST_LIMIT: Final = 4 * 1024 * 1024
"""The size that the distribution specification asks registries to take, and no more."""
CONFIG_LIMIT: Final = 8 * 1024 * 1024

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether ``text`` is a sha256 digest; other algorithms are not served."""
    return _DIGEST.fullmatch(text) is not None


def sha256(body: bytes) -> str:
    """The digest of ``body``."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def short(digest: str) -> str:
    """The first twelve characters of a digest, for people."""
    return digest.removeprefix("sha256:")[:12]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a blob is: media type, digest, size."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    """What kind of artifact a manifest is, where an index or a list of referrers tells."""

    @classmethod
    def parse(cls, value: object) -> Descriptor:
        """A descriptor out of JSON. Raises BrokenContent for any other shape."""
        match value:
            case {"mediaType": str(media_type), "digest": str(digest), "size": int(size), **rest} if (
                size >= 0
            ):
                if not is_digest(digest):
                    raise BrokenContent(f'"{digest[:80]}" is not a sha256 digest')
                kind = rest.get("artifactType")
                annotations = text_mapping(rest.get("annotations"))
                return cls(media_type, digest, size, annotations, kind if isinstance(kind, str) else "")
        raise BrokenContent("a descriptor lacks its media type, digest or size")

    def to_json(self) -> dict[str, Any]:
        """As the image specification writes it. (Any: it goes straight into ``json.dumps``.)"""
        plain: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            plain["artifactType"] = self.artifact_type
        return plain | ({"annotations": dict(self.annotations)} if self.annotations else {})


@dataclass(frozen=True, slots=True)
class Manifest:
    """The bytes of a manifest or an index, with the digest that they have."""

    media_type: str
    body: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """The sha256 of the bytes."""
        return sha256(self.body)

    @property
    def descriptor(self) -> Descriptor:
        """What an index would hold of it."""
        return Descriptor(self.media_type, self.digest, len(self.body))

    @property
    def subject(self) -> Descriptor | None:
        """The image that this manifest says something about. Raises BrokenContent for a malformed one."""
        told = json_object(self.body, "a manifest").get("subject")
        return None if told is None else Descriptor.parse(told)

    def as_referrer(self) -> Descriptor:
        """The entry of a list of referrers: with artifact type and annotations (distribution-spec v1.1)."""
        content = json_object(self.body, "a manifest")
        config = content.get("config")
        fallback = config.get("mediaType") if isinstance(config, dict) else ""
        kind = content.get("artifactType") or fallback
        annotations = text_mapping(content.get("annotations"))
        own = self.descriptor
        return Descriptor(
            own.media_type, own.digest, own.size, annotations, kind if isinstance(kind, str) else ""
        )

    def image(self) -> ImageManifest:
        """The image that it describes. Raises BrokenContent where it is an index or no manifest."""
        return ImageManifest.parse(self)

    def children(self) -> tuple[tuple[Descriptor, Mapping[str, str]], ...]:
        """The manifests of an index, each with its platform."""
        entries = json_object(self.body, "an index").get("manifests")
        if not isinstance(entries, list):
            raise BrokenContent("an index lists no manifests")
        return tuple((Descriptor.parse(entry), text_mapping(entry.get("platform"))) for entry in entries)


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """What an image manifest names: its config and its layers, from the base upward."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, manifest: Manifest) -> ImageManifest:
        """Read a manifest. Raises BrokenContent where it is not one of an image."""
        if manifest.media_type not in IMAGE_TYPES:
            raise BrokenContent(
                f"{short(manifest.digest)} is not an image manifest but {manifest.media_type}"
            )
        content = json_object(manifest.body, "a manifest")
        layers = content.get("layers")
        if not isinstance(layers, list):
            raise BrokenContent(f"the manifest {short(manifest.digest)} lists no layers")
        return cls(
            Descriptor.parse(content.get("config")),
            tuple(Descriptor.parse(layer) for layer in layers),
            text_mapping(content.get("annotations")),
        )

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob once: layers, then the config."""
        return tuple({blob.digest: blob for blob in (*self.layers, self.config)}.values())

    @property
    def size(self) -> int:
        """The bytes of all blobs."""
        return sum(blob.size for blob in self.blobs)


def text_mapping(value: object) -> dict[str, str]:
    """The text entries of a JSON object (annotations, labels, a platform); anything else is left out."""
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(key, str) and isinstance(text, str)}


def json_object(body: bytes, what: str) -> dict[str, Any]:
    """A JSON object out of foreign bytes (Any: its members are checked where they are used)."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as err:
        raise BrokenContent(f"{what} is not JSON: {err}") from err
    if not isinstance(value, dict):
        raise BrokenContent(f"{what} is not a JSON object")
    return cast("dict[str, Any]", value)


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """The same bytes for the same value, always: sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
