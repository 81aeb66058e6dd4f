"""An OCI image layout directory (image specification v1.1, "Image Layout"): a registry that is a directory.

Blobs appear by rename, complete and verified; ``index.json`` changes under a lock and by rename. So runs may
share a layout, and a killed run leaves at most a temporary file, which nothing reads.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

from pipelines.registries.blob_source import CHUNK, verified_pieces
from pipelines.registries.descriptors import (
    INDEX_TYPES,
    MANIFEST_LIMIT,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    is_digest,
    json_object,
    sha256,
    short,
)
from pipelines.registries.errors import AccessRefused, BrokenContent, NotFound

REF_NAME: Final = "org.opencontainers.image.ref.name"
TEMPORARY: Final = ".part-"
"""What the names of unfinished files begin with."""
_ABANDONED_S: Final = 24 * 3600
_MARKER: Final = '{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """A layout on disk. Its methods block: call them in a thread where a loop runs and a blob may be big."""

    directory: Path

    @classmethod
    def create(cls, directory: Path) -> ImageLayout:
        """The layout in ``directory``, made where there is none."""
        layout = cls(directory)
        layout._blobs.mkdir(parents=True, exist_ok=True)
        if not cls.is_layout(directory):
            layout._replace(directory / "oci-layout", _MARKER.encode())
        layout._remove_abandoned()
        return layout

    @staticmethod
    def is_layout(directory: Path) -> bool:
        """Whether ``directory`` is a layout."""
        return (directory / "oci-layout").is_file()

    # Blobs

    def path(self, digest: str) -> Path:
        """Where a blob is, or would be. Raises BrokenContent for what is not a digest."""
        if not is_digest(digest):
            raise BrokenContent(f'"{digest[:80]}" is not a sha256 digest')
        return self._blobs / digest.removeprefix("sha256:")

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether the blob is there with its size."""
        try:
            return self.path(blob.digest).stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def write_blob(self, body: bytes) -> str:
        """Store a small blob; its digest."""
        digest = sha256(body)
        path = self.path(digest)
        if not path.exists() or path.stat().st_size != len(body):
            self._replace(path, body)
        return digest

    @contextlib.contextmanager
    def new_blob(self, blob: Descriptor) -> Iterator[IO[bytes]]:
        """A file to write a verified blob to; it appears when the block ends well, with the right size."""
        target = self.path(blob.digest)
        with self._temporary(target) as file:
            yield file
            if file.tell() != blob.size:
                raise BrokenContent(f"{short(blob.digest)} has {file.tell()} bytes instead of {blob.size}")

    def read_blob(self, digest: str, limit: int) -> bytes:
        """A small blob, verified. Raises NotFound, BrokenContent."""
        try:
            with self.path(digest).open("rb") as file:
                body = file.read(limit + 1)
        except FileNotFoundError:
            raise NotFound(f"{self.directory} has no blob {short(digest)}") from None
        if len(body) > limit or sha256(body) != digest:
            raise BrokenContent(
                f"{self.path(digest)} is damaged", hint="remove it and run again: it is made anew"
            )
        return body

    def copy_blob(self, blob: Descriptor, path: Path) -> None:
        """Copy a blob into the new file ``path``, verified; nothing is left there on failure."""
        own = self.path(blob.digest)
        try:
            source = own.open("rb")
        except FileNotFoundError:
            raise NotFound(f"{self.directory} has no blob {short(blob.digest)}") from None
        with source, path.open("xb") as target:
            try:
                for piece in verified_pieces(blob, own, iter(lambda: source.read(CHUNK), b"")):
                    target.write(piece)
            except BaseException:
                path.unlink(missing_ok=True)
                raise

    # Manifests and tags

    def tags(self) -> dict[str, Descriptor]:
        """Every tag and the descriptor of its manifest."""
        return {name: blob for blob in self._index() if (name := blob.annotations.get(REF_NAME))}

    def read_manifest(self, reference: str) -> Manifest:
        """A manifest by tag or digest, verified. Raises NotFound, BrokenContent."""
        if not is_digest(reference):
            try:
                found = self.tags()[reference]
            except KeyError:
                raise NotFound(f"{self.directory} has no tag {reference}", hint=self._tags_hint()) from None
            return Manifest(found.media_type, self.read_blob(found.digest, MANIFEST_LIMIT))
        body = self.read_blob(reference, MANIFEST_LIMIT)
        content = json_object(body, f"{short(reference)} in {self.directory}")
        own = content.get("mediaType") or (OCI_INDEX if "manifests" in content else OCI_MANIFEST)
        return Manifest(str(own), body)

    def set_tag(self, tag: str, manifest: Manifest) -> None:
        """Let ``tag`` name a manifest that is stored here; other entries stay."""
        if not self.has_blob(manifest.descriptor):
            raise NotFound(f"{self.directory} does not hold {short(manifest.digest)}, so nothing can name it")
        entry = replace(manifest.descriptor, annotations={REF_NAME: tag})
        with self._locked():
            others = [blob for blob in self._index() if blob.annotations.get(REF_NAME) != tag]
            self._write_index(*others, entry)

    # Referrers

    def attach(self, referrer: Manifest) -> None:
        """Store a manifest that has a subject; ``index.json`` lists it without a name."""
        self.write_blob(referrer.body)
        entry = referrer.as_referrer()
        own = {key: text for key, text in entry.annotations.items() if key != REF_NAME}
        with self._locked():
            entries = self._index()
            if not any(known.digest == entry.digest for known in entries):
                self._write_index(*entries, replace(entry, annotations=own))

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """The manifests listed here whose subject is ``digest``."""
        found: dict[str, Descriptor] = {}
        for entry in self._index():
            try:
                manifest = Manifest(entry.media_type, self.read_blob(entry.digest, MANIFEST_LIMIT))
                subject = manifest.subject
            except (NotFound, BrokenContent):  # an entry of somebody else's tool: not ours to judge
                continue
            if subject is not None and subject.digest == digest:
                found[entry.digest] = manifest.as_referrer()
        return tuple(found.values())

    def check_writable(self) -> None:
        """Hold that files can be made here. Raises AccessRefused."""
        try:
            with tempfile.TemporaryFile(prefix=TEMPORARY, dir=self.directory):
                pass
        except OSError as err:
            raise AccessRefused(
                f"{self.directory} can't be written to: {err.strerror}",
                hint="correct its owner or its rights",
            ) from err

    def _write_index(self, *entries: Descriptor) -> None:
        listed: list[dict[str, Any]] = [entry.to_json() for entry in entries]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
        self._replace(self._index_file, json.dumps(index, indent=2).encode() + b"\n")

    def _index(self) -> tuple[Descriptor, ...]:
        try:
            body = self._index_file.read_bytes()
        except FileNotFoundError:
            return ()
        return tuple(blob for blob, _ in Manifest(INDEX_TYPES[0], body).children())

    def _tags_hint(self) -> str:
        known = sorted(self.tags())
        return f"it has {', '.join(known[-8:])}" if known else "nothing was released there yet"

    # Files

    def _remove_abandoned(self) -> None:
        """What a killed run left: nobody writes a day long."""
        for path in self.directory.glob(f"{TEMPORARY}*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()

    @property
    def _blobs(self) -> Path:
        return self.directory / "blobs/sha256"

    @property
    def _index_file(self) -> Path:
        return self.directory / "index.json"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _replace(self, path: Path, body: bytes) -> None:
        with self._temporary(path) as file:
            file.write(body)

    @contextlib.contextmanager
    def _temporary(self, target: Path) -> Iterator[IO[bytes]]:
        """A file that becomes ``target`` when the block ends well, and is gone otherwise."""
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=self.directory)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                if (
                    target.parent == self.directory
                ):  # names last through a power cut; blobs are verified when sent
                    os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
