"""A cache in a directory: an OCI image layout that any number of processes may write to at once.

Blobs are written aside and renamed, so a name stands for whole content; the index is exchanged under a lock
that every writer takes. https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import anyio.to_thread

from embedded_engine.blobs import CHUNK, copy_bytes
from embedded_engine.cache.index import Blob, CacheDamaged, CacheFault, is_digest, scope
from embedded_engine.file_locks import file_lock
from embedded_engine.runtime import oci

_REF = "org.opencontainers.image.ref.name"
_GRACE_S = 3600
"""How long a blob that the index does not name is left alone: another runner may be about to name it."""


@dataclass(frozen=True, slots=True)
class DirectoryPlace:
    """See places.Place."""

    root: Path
    shown: str

    async def manifest(self) -> bytes | None:
        """See Place."""
        return await anyio.to_thread.run_sync(self._manifest)

    async def fetch(self, blob: Blob, target: Path) -> None:
        """See Place."""

        def copy() -> None:
            with self._told("read"), self._file(blob.digest).open("rb") as source:
                copied_checked(source, target, blob, self.shown)

        await anyio.to_thread.run_sync(copy)

    async def give(self, blobs: Iterable[Blob], files: Path) -> int:
        """See Place."""
        sent = 0
        for blob in blobs:
            sent += await anyio.to_thread.run_sync(self._give, blob, files)
        return sent

    async def replace(self, old: bytes | None, new: bytes, own: Mapping[str, bytes], files: Path) -> bool:
        """See Place."""
        with self._told("write"):
            self.root.mkdir(parents=True, exist_ok=True)
            async with file_lock(self.root / ".lock"):
                return await anyio.to_thread.run_sync(self._replace, old, new, own)

    async def sweep(self) -> int:
        """Remove blobs that no manifest names and nobody wrote lately; gives the bytes freed."""
        with self._told("write"):
            async with file_lock(self.root / ".lock"):
                return await anyio.to_thread.run_sync(self._sweep)

    async def close(self) -> None:
        """See Place."""

    def _file(self, digest: str) -> Path:
        if not is_digest(digest):
            raise CacheFault(f"{self.shown}: {digest!r} is no digest")
        return self.root / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def _index(self) -> list[dict[str, Any]]:  # JSON of an OCI index
        file = self.root / "index.json"
        if not file.exists():
            if self.root.exists() and not self.root.is_dir():
                raise CacheFault(f"{self.shown} is not a directory")
            return []
        try:
            found: list[dict[str, Any]] = json.loads(file.read_bytes())["manifests"]
        except (ValueError, KeyError, TypeError) as error:
            raise CacheDamaged(f"{self.shown}: index.json can't be read: {error}") from error
        return found

    def _manifest(self) -> bytes | None:
        with self._told("read"):
            named = self._index()
            ours = [one for one in named if (one.get("annotations") or {}).get(_REF) == scope()]
            if not ours:
                return None
            digest = str(ours[0].get("digest"))
            data = self._file(digest).read_bytes()
        if oci.digest_of(data) != digest:
            raise CacheDamaged(f"{self.shown}: its manifest is not what its digest says")
        return data

    def others(self) -> list[str]:
        """The scopes of other engines that are here."""
        notes = [(one.get("annotations") or {}).get(_REF, "") for one in self._index()]
        return sorted(str(note) for note in notes if note and note != scope())

    def _give(self, blob: Blob, files: Path) -> int:
        target = self._file(blob.digest)
        with self._told("write"):
            with contextlib.suppress(FileNotFoundError):
                if target.stat().st_size == blob.size:
                    os.utime(target)  # wanted: not to be swept
                    return 0
            source = files / "sha256" / target.name
            with aside(target) as (name, descriptor):
                copy_bytes(source, descriptor)
                Path(name).replace(target)
        return blob.size

    def _replace(self, old: bytes | None, new: bytes, own: Mapping[str, bytes]) -> bool:
        try:
            now = self._manifest()
        except CacheDamaged:
            now = old  # what can't be read is replaced
        if now != old:
            return False
        digest = oci.digest_of(new)
        for name, data in {**own, digest: new}.items():
            _written(self._file(name), data)
        _written(self.root / "oci-layout", oci.LAYOUT)
        entry = {
            "mediaType": oci.MANIFEST,
            "digest": digest,
            "size": len(new),
            "annotations": {_REF: scope()},
        }
        try:
            kept = [one for one in self._index() if (one.get("annotations") or {}).get(_REF) != scope()]
        except CacheDamaged:
            kept = []
        document = {"schemaVersion": 2, "manifests": [*kept, entry]}
        _written(self.root / "index.json", oci.encoded(document), again=True)
        return True

    def _sweep(self) -> int:
        named: set[str] = set()
        for one in self._index():
            digest = str(one["digest"])
            named.add(digest)
            with contextlib.suppress(OSError, ValueError):
                document = json.loads(self._file(digest).read_bytes())
                named |= {part["digest"] for part in (document["config"], *document["layers"])}
        freed = 0
        for file in (self.root / "blobs" / "sha256").iterdir():
            found = file.stat()
            if f"sha256:{file.name}" not in named and time.time() - found.st_mtime > _GRACE_S:
                file.unlink(missing_ok=True)
                freed += found.st_size
        return freed

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CacheFault(f"{self.shown}: can't {doing} it: {error.strerror or error}") from error


def copied_checked(source: IO[bytes], target: Path, blob: Blob, shown: str) -> None:
    """Copy a stream into a new file that gets its name only if the digest is right. Raises CacheFault."""
    digest, size = hashlib.sha256(), 0
    with aside(target) as (name, descriptor):
        while piece := source.read(CHUNK):
            digest.update(piece)
            size += len(piece)
            _all(descriptor, piece)
        if size != blob.size or "sha256:" + digest.hexdigest() != blob.digest:
            raise CacheDamaged(f"{shown}: {blob.digest[:19]} is not what its digest says")
        Path(name).chmod(0o644)
        Path(name).replace(target)


@contextlib.contextmanager
def aside(target: Path) -> Iterator[tuple[str, int]]:
    """A new file beside ``target``; gone at the end unless it was renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=target.parent)
    try:
        os.fchmod(descriptor, 0o644)
        yield name, descriptor
    finally:
        os.close(descriptor)
        Path(name).unlink(missing_ok=True)


def _all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _written(file: Path, data: bytes, *, again: bool = False) -> None:
    if file.exists() and not again and file.stat().st_size == len(data):
        return
    with aside(file) as (name, descriptor):
        _all(descriptor, data)
        Path(name).replace(file)
