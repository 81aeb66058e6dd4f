"""The registries' port in memory: a push against it takes milliseconds, and may die at any call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from pipelines.registries.blob_source import BlobSource
from pipelines.registries.descriptors import Descriptor, Manifest, sha256
from pipelines.registries.errors import NotFound
from pipelines.registries.port import UploadSessions


@dataclass(slots=True)
class MemoryRegistry:
    """A repository. ``called`` hears of each call before it has its effect, of a write again after it."""

    name: str
    called: Callable[[str], None] = lambda what: None
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    tag_list: dict[str, str] = field(default_factory=dict)
    is_directory: bool = False
    made: bool = False

    def reference(self, wanted: str) -> str:
        return f"{self.name}:{wanted}"

    @asynccontextmanager
    async def open(self, sessions: UploadSessions | None = None) -> AsyncIterator[OpenMemory]:
        yield OpenMemory(self)

    async def repository_exists(self) -> bool:
        return self.made

    async def make_repository(self) -> bool:
        self.made = True
        return True

    async def call(self, what: str, effect: Callable[[], Any]) -> Any:
        await anyio.lowlevel.checkpoint()
        self.called(what)
        result = effect()
        if what.startswith("PUT"):
            self.called(what)
        return result


@dataclass(slots=True)
class OpenMemory:
    """Every method is one call."""

    of: MemoryRegistry

    async def has_blob(self, blob: Descriptor) -> bool:
        return bool(await self.of.call("HEAD blob", lambda: blob.digest in self.of.blobs))

    async def put_blob(self, source: BlobSource) -> int:
        body = source.path.read_bytes()  # it is small, and threads take time
        assert self.of.made
        await self.of.call("PUT blob", lambda: self.of.blobs.update({source.blob.digest: body}))
        return len(body)

    async def mount_blob(self, blob: Descriptor, origin: str) -> bool:
        return bool(await self.of.call("mount", lambda: False))

    async def read_blob(self, digest: str, limit: int) -> bytes:
        body = await self.of.call("GET blob", lambda: self.of.blobs.get(digest))
        if body is None:
            raise NotFound(f"no blob {digest}")
        return bytes(body)

    async def download_blob(self, blob: Descriptor, path: Path) -> None:
        path.write_bytes(await self.read_blob(blob.digest, blob.size))

    async def put_manifest(self, manifest: Manifest) -> None:
        missing = [blob for blob in manifest.image().blobs if blob.digest not in self.of.blobs]
        assert not missing, "a registry refuses a manifest without its blobs"
        await self.of.call("PUT manifest", lambda: self.of.manifests.update({manifest.digest: manifest}))

    async def read_manifest(self, reference: str) -> Manifest:
        digest = self.of.tag_list.get(reference, reference)
        found = await self.of.call("GET manifest", lambda: self.of.manifests.get(digest))
        if found is None:
            raise NotFound(f"no manifest {reference}")
        assert isinstance(found, Manifest)
        return found

    async def attach(self, referrer: Manifest) -> None:
        await self.put_manifest(referrer)

    async def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        def listed() -> tuple[Descriptor, ...]:
            subjects = [(one, one.subject) for one in self.of.manifests.values()]
            return tuple(
                one.as_referrer() for one, subject in subjects if subject and subject.digest == digest
            )

        return tuple(await self.of.call("GET referrers", listed))

    async def tag_digest(self, tag: str) -> str | None:
        found = await self.of.call("HEAD tag", lambda: self.of.tag_list.get(tag))
        return None if found is None else str(found)

    async def tags(self) -> tuple[str, ...]:
        return tuple(await self.of.call("GET tags", lambda: tuple(self.of.tag_list)))

    async def tag(self, tag: str, manifest: Manifest) -> None:
        def write() -> None:
            self.of.manifests[manifest.digest] = manifest
            self.of.tag_list[tag] = sha256(manifest.body)

        await self.of.call(f"PUT tag {tag}", write)

    async def check_write(self) -> None:
        await self.of.call("POST upload", lambda: None)
