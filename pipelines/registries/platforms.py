"""Of an index of several platforms: the image that stands for it."""

from __future__ import annotations

from pipelines.registries.descriptors import INDEX_TYPES, Manifest
from pipelines.registries.errors import BrokenContent
from pipelines.registries.port import OpenRegistry

PREFERRED = "linux/amd64"


async def image_of(registry: OpenRegistry, manifest: Manifest) -> tuple[Manifest, str]:
    """``manifest`` itself; of an index the image for linux/amd64, else its first, and for which platform.

    Raises:
        BrokenContent: an index without an image (attestations have the platform "unknown").
    """
    if manifest.media_type not in INDEX_TYPES:
        return manifest, ""
    named = [
        (blob, f"{platform.get('os')}/{platform.get('architecture')}")
        for blob, platform in manifest.children()
    ]
    real = [(blob, name) for blob, name in named if "unknown" not in name]
    if not real:
        raise BrokenContent("it is an index without an image")
    blob, name = next((one for one in real if one[1] == PREFERRED), real[0])
    return await registry.read_manifest(blob.digest), name
