"""Images out as one tar file: exactly the manifests that a push sends, so digests agree."""

from __future__ import annotations

import hashlib
import tarfile
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from embedded_engine.runtime import oci
from embedded_engine.runtime.port import Outgoing, OutImage, OutIndex, RuntimeFailure

REF_NAME = "org.opencontainers.image.ref.name"


def write_archive(image: Outgoing, target: Path, name: str = "") -> None:
    """An OCI layout in one tar file; byte-stable: sorted, times 0, no owners.

    One image has docker's manifest.json beside it; several platforms have not (docker load takes one), and
    the layout's index.json names the index that names them.
    """
    body = image.index if isinstance(image, OutIndex) else image.manifest
    descriptor: dict[str, object] = {"mediaType": image.media_type, "digest": image.digest, "size": len(body)}
    if name:
        descriptor["annotations"] = {REF_NAME: name.rpartition(":")[2] or name}
    small = {
        "oci-layout": oci.LAYOUT,
        "index.json": oci.encoded({"schemaVersion": 2, "manifests": [descriptor]}),
        _member(image.digest): body,
    }
    large: dict[str, Path] = {}
    for one in image.images if isinstance(image, OutIndex) else (image,):
        small[_member(one.digest)] = one.manifest
        small[_member(oci.digest_of(one.config))] = one.config
        large |= {_member(layer.digest): layer.path for layer in one.layers}
    if isinstance(image, OutImage):
        small["manifest.json"] = docker_manifest(image, name)
    _write(target, small, large)


def _write(target: Path, small: dict[str, bytes], large: dict[str, Path]) -> None:
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for directory in ("blobs", "blobs/sha256"):
            archive.addfile(_info(directory, 0, tarfile.DIRTYPE))
        for member in sorted(small | large):
            if member in small:
                archive.addfile(_info(member, len(small[member])), BytesIO(small[member]))
            else:
                _add_layer(archive, member, large[member])


def _add_layer(archive: tarfile.TarFile, member: str, file: Path) -> None:
    """A layer's bytes, looked at on their way: a damaged one is removed, and no archive made of it."""
    with file.open("rb") as stream:
        source = _Hashed(stream)
        archive.addfile(_info(member, file.stat().st_size), source)  # type: ignore[arg-type]  # only read
    if source.digest.hexdigest() != member.rpartition("/")[2]:
        file.unlink(missing_ok=True)
        raise RuntimeFailure(
            f"the layer {file.name[:12]} in the engine's store was damaged and is removed: "
            "run again, it is made anew"
        )


class _Hashed:
    """A file that is hashed while it is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """The next bytes."""
        data = self._stream.read(size)
        self.digest.update(data)
        return data


def docker_manifest(image: OutImage, name: str) -> bytes:
    """What `docker load` reads."""
    layers = [_member(layer.digest) for layer in image.layers]
    document = [
        {
            "Config": _member(oci.digest_of(image.config)),
            "RepoTags": [name] if name else None,
            "Layers": layers,
        }
    ]
    return oci.encoded(document)


def _member(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _info(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode = size, kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info
