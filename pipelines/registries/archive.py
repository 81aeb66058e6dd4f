"""Take an OCI archive (the tar of an image layout) into a layout. Its names and sizes are not trusted."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from pipelines.registries.descriptors import (
    IMAGE_TYPES,
    INDEX_TYPES,
    MANIFEST_LIMIT,
    Descriptor,
    ImageManifest,
    Manifest,
    sha256,
    short,
)
from pipelines.registries.errors import BrokenContent

if TYPE_CHECKING:
    from pipelines.registries.layout import ImageLayout

CHUNK: Final = 1024 * 1024
_NESTING: Final = 3


def take_archive(path: Path, layout: ImageLayout) -> Manifest:
    """Store the archive's one image in ``layout``; blobs that are there already are not read.

    Raises:
        BrokenContent: it is no OCI archive of one image, or a blob is not what its digest says.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            members = {_plain(member.name): member for member in archive if member.isreg()}
            return _take(_Archive(archive, members), layout)
    except (tarfile.TarError, EOFError) as err:
        raise BrokenContent(f"{path.name} is not a tar archive: {err}") from err


def _plain(name: str) -> str:
    return name.removeprefix("./")


class _Archive:
    """The regular files of an open archive, by name; names are only ever compared, never used as paths."""

    def __init__(self, archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo]) -> None:
        self._archive = archive
        self._members = members

    def small(self, name: str) -> bytes:
        """A manifest or index, in memory."""
        member = self._member(name)
        if member.size > MANIFEST_LIMIT:
            raise BrokenContent(f"{name} in the archive is too big ({member.size} bytes)")
        with self._open(member) as file:
            return file.read()

    def blob(self, blob: Descriptor) -> IO[bytes]:
        """The open file of a blob."""
        member = self._member(_blob_name(blob.digest))
        if member.size != blob.size:
            raise BrokenContent(
                f"{short(blob.digest)} has {member.size} bytes in the archive instead of {blob.size}"
            )
        return self._open(member)

    def _member(self, name: str) -> tarfile.TarInfo:
        try:
            return self._members[name]
        except KeyError:
            raise BrokenContent(f"the archive holds no {name}") from None

    def _open(self, member: tarfile.TarInfo) -> IO[bytes]:
        file = self._archive.extractfile(member)
        if file is None:  # only for members that are no regular files, which were left out
            raise BrokenContent(f"{member.name} in the archive is not a file")
        return file


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _take(archive: _Archive, layout: ImageLayout) -> Manifest:
    manifest = _manifest(archive)
    image = ImageManifest.parse(manifest)
    for blob in image.blobs:
        if not layout.has_blob(blob):
            with archive.blob(blob) as source, layout.new_blob(blob) as target:
                _copy(source, target, blob)
    layout.write_blob(manifest.body)
    return manifest


def _manifest(archive: _Archive) -> Manifest:
    """The archive's image manifest, through nested indexes where there are some."""
    current = Manifest(INDEX_TYPES[0], archive.small("index.json"))
    for _ in range(_NESTING):
        images = [blob for blob, _ in current.children() if blob.media_type in (*IMAGE_TYPES, *INDEX_TYPES)]
        if len(images) != 1:
            raise BrokenContent(f"the archive holds {len(images)} images instead of one")
        body = archive.small(_blob_name(images[0].digest))
        if sha256(body) != images[0].digest:
            raise BrokenContent(f"the manifest {short(images[0].digest)} in the archive is damaged")
        current = Manifest(images[0].media_type, body)
        if current.media_type in IMAGE_TYPES:
            return current
    raise BrokenContent("the archive nests too many indexes")


def _copy(source: IO[bytes], target: IO[bytes], blob: Descriptor) -> None:
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        target.write(chunk)
    if f"sha256:{digest.hexdigest()}" != blob.digest:
        raise BrokenContent(f"the blob {short(blob.digest)} in the archive is damaged")
