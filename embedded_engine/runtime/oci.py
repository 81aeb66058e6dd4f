"""OCI image layouts on disk, as far as they are the way into and out of containers-storage.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md. Blobs live once, in the engine's blob
directory; a layout made here is only an index that points into it (Skopeo's ``--shared-blob-dir``).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFESTS = (
    MANIFEST,
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
LAYER = "application/vnd.oci.image.layer.v1.tar"
EPOCH = "1980-01-01T00:00:00Z"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def encoded(document: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """JSON bytes that depend on the content only."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(data: bytes) -> str:
    """The digest of a blob."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def file_digest(file: Path) -> str:
    """The digest of a file's bytes."""
    with file.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def put_blob(blobs: Path, data: bytes) -> str:
    """Store ``data`` under its digest in ``blobs``/sha256."""
    digest = digest_of(data)
    file = blobs / "sha256" / digest.removeprefix("sha256:")
    if not file.exists() or file.stat().st_size != len(data):
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".new-", delete=False) as stream:
            stream.write(data)
        Path(stream.name).chmod(0o644)
        Path(stream.name).replace(file)
    return digest


def write_layout(directory: Path, manifest: bytes, media_type: str = MANIFEST) -> None:
    """A layout whose one image is ``manifest``, which its blobs (elsewhere) hold."""
    descriptor = {"mediaType": media_type, "digest": digest_of(manifest), "size": len(manifest)}
    (directory / "oci-layout").write_bytes(LAYOUT)
    (directory / "index.json").write_bytes(encoded({"schemaVersion": 2, "manifests": [descriptor]}))


def layout_manifest(directory: Path) -> str:
    """The digest of the one manifest a layout's index names."""
    index = json.loads((directory / "index.json").read_bytes())
    return str(index["manifests"][0]["digest"])


def bare_config(platform: Mapping[str, Any], diff_ids: Sequence[str]) -> bytes:
    """An image config that says nothing but what its layers are: the same for any images with the same
    layers.

    Buildah counts the history's entries when it commits something on top, so there is one for each layer.
    """
    document = {name: platform[name] for name in ("architecture", "os", "variant") if platform.get(name)}
    history = [{"created": EPOCH, "created_by": "layer"} for _ in diff_ids]
    return encoded(
        {
            **document,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": history,
        }
    )


def manifest_for(config: bytes, layers: Sequence[Mapping[str, Any]]) -> bytes:
    """A manifest for a config and layer descriptors."""
    descriptor = {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)}
    return encoded(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor,
            "layers": [dict(one) for one in layers],
        }
    )


def raw_layers(diff_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Descriptors of uncompressed layers; Skopeo takes those that storage has from there and needs no
    blob."""
    return [{"mediaType": LAYER, "digest": digest, "size": 0} for digest in diff_ids]
