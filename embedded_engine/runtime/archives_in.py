"""Image archives on their way in: which image of an OCI layout is meant, and its blobs as they are.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md. Nothing is compressed or decompressed.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded_engine.runtime.port import RuntimeFailure

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
REF_NAME = "org.opencontainers.image.ref.name"
_CHUNK = 1 << 20


@dataclass(slots=True)
class OciArchive:
    """A layout in an open tar file."""

    name: str
    archive: tarfile.TarFile
    members: dict[str, tarfile.TarInfo]

    def manifest(self, tag: str, platform: str) -> dict[str, Any]:
        """The manifest for ``platform`` under ``tag`` ("": any). Raises RuntimeFailure."""
        found = self._chosen(self._document("index.json"), tag, platform)
        if found is None:
            also = f" and tag {tag}" if tag else ""
            raise RuntimeFailure(f"{self.name}: no manifest for platform {platform}{also}")
        return found

    def _chosen(self, index: Mapping[str, Any], tag: str, platform: str) -> dict[str, Any] | None:
        for descriptor in index.get("manifests", []):
            if not matches(descriptor.get("platform"), platform):
                continue
            if tag and not is_tagged(descriptor.get("annotations") or {}, tag):
                continue
            document = self.blob(descriptor["digest"])
            if descriptor.get("mediaType") not in INDEXES:
                return document
            inner = self._chosen(document, "", platform)
            if inner is not None:
                return inner
        return None

    def blob(self, digest: str) -> dict[str, Any]:
        """A JSON blob. Raises RuntimeFailure."""
        return self._document(member_of(digest), digest)

    def _document(self, member: str, digest: str = "") -> dict[str, Any]:
        stream = self._open(member)
        data = stream.read()
        if digest and "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise RuntimeFailure(f"{self.name}: {digest[:19]} in it is damaged")
        try:
            document: dict[str, Any] = json.loads(data)
        except ValueError as error:
            raise RuntimeFailure(f"{self.name}: {member} in it is no JSON: {error}") from error
        return document

    def extract(self, digest: str, target: Path) -> None:
        """Write a blob to ``target`` unless it is there; its digest is checked. Raises RuntimeFailure."""
        if target.exists():
            return
        hashed = hashlib.sha256()
        stream = self._open(member_of(digest))
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".new-", delete=False) as out:
            fresh = Path(out.name)
            try:
                while piece := stream.read(_CHUNK):
                    hashed.update(piece)
                    out.write(piece)
                out.flush()
                if "sha256:" + hashed.hexdigest() != digest:
                    raise RuntimeFailure(f"{self.name}: the layer {digest[:19]} in it is damaged")
                fresh.chmod(0o644)
                fresh.replace(target)
            finally:
                fresh.unlink(missing_ok=True)

    def _open(self, member: str) -> Any:  # tarfile's own stream type is private
        info = self.members.get(member)
        stream = self.archive.extractfile(info) if info is not None else None
        if stream is None:
            raise RuntimeFailure(f"{self.name}: {member} is missing in it")
        return stream


def take_oci(path: Path, blobs: Path, tag: str, platform: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Copy one image's blobs out of an archive; its config and its layers' descriptors."""
    try:
        with tarfile.open(path) as archive:
            members = {member.name.removeprefix("./"): member for member in archive}
            layout = OciArchive(path.name, archive, members)
            manifest = layout.manifest(tag, platform)
            for layer in manifest["layers"]:
                layout.extract(layer["digest"], blobs / layer["digest"].replace(":", "/"))
            return layout.blob(manifest["config"]["digest"]), manifest["layers"]
    except (tarfile.TarError, OSError, KeyError) as error:
        raise RuntimeFailure(f"{path.name} is not a whole image archive: {error}") from error


def docker_image_number(manifest: Sequence[Mapping[str, Any]], tag: str, name: str) -> int:
    """Which image of a Docker archive is meant. Raises RuntimeFailure."""
    for number, image in enumerate(manifest):
        tags = image.get("RepoTags") or []
        if not tag or any(one == tag or one.rpartition(":")[2] == tag for one in tags):
            return number
    raise RuntimeFailure(f"{name}: no image with the tag {tag}")


def is_tagged(annotations: Mapping[str, str], tag: str) -> bool:
    """Whether a descriptor of a layout's index has the tag (some write the whole name)."""
    written = annotations.get(REF_NAME, "")
    return tag in (written, written.rpartition(":")[2]) if written else False


def matches(platform: Mapping[str, Any] | None, wanted: str) -> bool:
    """Whether a descriptor is for ``wanted``; one that does not say is for any."""
    if not platform:
        return True
    system, _, rest = wanted.partition("/")
    architecture, _, variant = rest.partition("/")
    same = platform.get("os") == system and platform.get("architecture") == architecture
    told = str(platform.get("variant") or "")
    usual = {"arm64": "v8", "arm": "v7"}.get(architecture, "")
    return same and (told or usual) == (variant or usual)


def member_of(digest: str) -> str:
    """The file of a blob in a layout."""
    return "blobs/" + digest.replace(":", "/")
