"""Images made by hand: each layer from the entries that a test names, in a layout."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.registries.descriptors import OCI_CONFIG, OCI_MANIFEST, Manifest
from pipelines.registries.layout import ImageLayout
from pipelines.release_image import BuiltImage

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class Entry(tarfile.TarInfo):
    """One entry with its content."""

    body: bytes = b""


def entry(path: str, text: str | bytes = "", *, mode: int = 0o644, uid: int = 0, **more: Any) -> Entry:
    """A file; ``kind`` (a tarfile type), ``target``, ``device``, ``capabilities`` make it something else."""
    info = Entry(path)
    info.mode, info.uid = mode, uid
    info.type = more.get("kind", tarfile.REGTYPE)
    info.linkname = more.get("target", "")
    info.devmajor, info.devminor = more.get("device", (0, 0))
    if more.get("capabilities"):
        info.pax_headers = {"SCHILY.xattr.security.capability": "x"}
    info.body = text.encode() if isinstance(text, str) else text
    info.size = len(info.body)
    return info


def directory(path: str, mode: int = 0o755) -> Entry:
    return entry(path, mode=mode, kind=tarfile.DIRTYPE)


def tar_of(entries: Sequence[Entry]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info in entries:
            archive.addfile(info, io.BytesIO(info.body))
    return out.getvalue()


def image_of(
    root: Path, *layers: Sequence[Entry], config: dict[str, Any] | None = None, packed: bool = True
) -> BuiltImage:
    """An image of these layers, the base's first, with ``config`` (history and all)."""
    layout = ImageLayout.create(root)
    tars = [tar_of(entries) for entries in layers]
    blobs = [gzip.compress(tar, 1, mtime=0) if packed else tar for tar in tars]
    whole = {"config": {}, "history": [{"created_by": f"step {n}"} for n in range(len(tars))]} | (
        config or {}
    )
    whole["rootfs"] = {
        "type": "layers",
        "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars],
    }
    body = json.dumps(whole).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": layout.write_blob(body), "size": len(body)},
        "layers": [
            {"mediaType": LAYER, "digest": layout.write_blob(blob), "size": len(blob)} for blob in blobs
        ],
    }
    return BuiltImage(layout, Manifest(OCI_MANIFEST, json.dumps(manifest).encode()))
