"""Small real images in a layout, for tests of what comes after the build."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path

from pipelines.registries.descriptors import (
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    canonical_json,
    sha256,
)
from pipelines.registries.layout import ImageLayout
from pipelines.release_image import BuiltImage, ReleaseImage
from pipelines.stages.tag import Names

OCI = "org.opencontainers.image"
COMMIT = "8f3c2a1b9d04" + "0" * 28
COMMITTED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def layer(text: str) -> tuple[bytes, str]:
    """A gzip layer with one file, and its diff id."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        member = tarfile.TarInfo("hello")
        member.size = len(text.encode())
        archive.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(raw.getvalue(), mtime=0), f"sha256:{hashlib.sha256(raw.getvalue()).hexdigest()}"


def built_image(layout: ImageLayout, *texts: str, media_type: str = OCI_MANIFEST) -> BuiltImage:
    """An image with a layer per text, as an engine exports it, with times and labels of its own."""
    layers, diff_ids = [], []
    for text in texts or ("base", "code"):
        blob, diff_id = layer(text)
        layers.append(Descriptor(GZIP_LAYER, layout.write_blob(blob), len(blob)))
        diff_ids.append(diff_id)
    config = {
        "os": "linux",
        "architecture": "amd64",
        "created": "2020-01-01T00:00:00.123456789Z",
        "config": {"Cmd": ["serve"], "Env": ["A=1"], "Labels": {"kept": "yes", f"{OCI}.version": "base's"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [
            {"created": "2020-01-01T00:00:00Z", "created_by": text[:60]} for text in texts or ("base", "code")
        ],
    }
    body = json.dumps(config).encode()
    described = Descriptor(OCI_CONFIG, layout.write_blob(body), len(body))
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": described.to_json(),
            "layers": [one.to_json() for one in layers],
        }
    )
    layout.write_blob(manifest)
    return BuiltImage(layout, Manifest(media_type, manifest))


def names(
    *version_tags: str,
    moving: tuple[str, ...] = (),
    commit: str = COMMIT,
    created: datetime = COMMITTED,
    version: str = "",
) -> Names:
    labels = {
        f"{OCI}.revision": commit,
        f"{OCI}.created": f"{created:%Y-%m-%dT%H:%M:%SZ}",
        f"{OCI}.source": "https://git.example/models",
        f"{OCI}.version": version or commit[:12],
    }
    return Names(version_tags or (commit[:12],), moving, labels)


def release_image(directory: Path, release_names: Names, *texts: str) -> ReleaseImage:
    created = datetime.fromisoformat(release_names.labels[f"{OCI}.created"])
    return built_image(ImageLayout.create(directory), *texts).release(release_names, created)


def archive_of(layout: ImageLayout, manifest: Manifest, path: Path) -> Path:
    """The image as an OCI archive."""
    image = manifest.image()
    index = {"schemaVersion": 2, "manifests": [manifest.descriptor.to_json()]}
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode()}
    for digest in (manifest.digest, *(blob.digest for blob in image.blobs)):
        files[f"blobs/{digest.replace(':', '/')}"] = layout.path(digest).read_bytes()
    return write_tar(path, files)


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return path


def digest(body: bytes) -> str:
    return sha256(body)
