"""Uploads in parts and referrers on a real docker-registry, whose addresses hold an offset (``_state``)."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import anyio
import httpx
import pytest
from registries_fake import target
from registry_process import RegistryProcess, registry
from uploading import Sessions, source_of

from pipelines.registries.blob_source import BlobSource
from pipelines.registries.descriptors import OCI_MANIFEST, Descriptor, Manifest, canonical_json, sha256
from pipelines.registries.oci import OciRegistry
from pipelines.registries.quirks import MIB, Quirks

__all__ = ["registry"]
pytestmark = [pytest.mark.anyio, pytest.mark.registry]
SIZE = 5 * MIB + 12345


@pytest.fixture
def source(tmp_path: Path) -> BlobSource:
    return source_of(os.urandom(SIZE), tmp_path / "blob")


def in_parts(registry: RegistryProcess) -> OciRegistry:
    return replace(target(registry.host), quirks=Quirks(part_size=MIB))


class Killed(Sessions):
    """The run ends after so many parts."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.left = parts
        self.scope = anyio.CancelScope()

    def remember(self, digest: str, location: str) -> None:
        super().remember(digest, location)
        self.left -= 1
        if self.left < 0:
            self.scope.cancel()


async def killed_after(registry: RegistryProcess, source: BlobSource, parts: int) -> Sessions:
    sessions = Killed(parts)
    with sessions.scope:
        async with in_parts(registry).open(sessions) as opened:
            await opened.put_blob(source)
    assert sessions.scope.cancelled_caught
    assert sessions.locations
    return Sessions(sessions.locations)


async def test_in_parts(registry: RegistryProcess, source: BlobSource) -> None:
    async with in_parts(registry).open() as opened:
        assert await opened.put_blob(source) == SIZE
        assert await opened.has_blob(source.blob)
    assert registry.blob(source.blob.digest).read_bytes() == source.path.read_bytes()
    log = (registry.directory / "log").read_text()
    assert log.count('"PATCH /v2/') == 5


@pytest.mark.parametrize("parts", [1, 3, 5])
async def test_the_next_run_goes_on(registry: RegistryProcess, source: BlobSource, parts: int) -> None:
    sessions = await killed_after(registry, source, parts)
    async with in_parts(registry).open(sessions) as opened:
        assert await opened.put_blob(source) == SIZE - parts * MIB
        assert await opened.has_blob(source.blob)
    assert registry.blob(source.blob.digest).read_bytes() == source.path.read_bytes()
    assert not sessions.locations


async def test_a_part_that_was_cut_costs_the_upload_and_not_the_push(
    registry: RegistryProcess, source: BlobSource
) -> None:
    """docker-registry keeps what came of the part, and knows no address that fits: 404. It begins anew."""
    sessions = await killed_after(registry, source, 2)
    place = httpx.URL(sessions.locations[source.blob.digest])
    host, port = registry.host.split(":")
    head = (
        f"PATCH {place.raw_path.decode()} HTTP/1.1\r\nHost: {registry.host}\r\nContent-Length: {MIB}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + source.path.read_bytes()[2 * MIB : 2 * MIB + 5000])
    await anyio.sleep(0.2)
    async with in_parts(registry).open(sessions) as opened:
        assert await opened.put_blob(source) == SIZE
    assert registry.blob(source.blob.digest).read_bytes() == source.path.read_bytes()


async def test_referrers_under_the_fallback_tag(registry: RegistryProcess) -> None:
    empty = Descriptor("application/vnd.oci.empty.v1+json", sha256(b"{}"), 2)
    subject = Descriptor(OCI_MANIFEST, sha256(b"image"), 5)
    referrers = [
        Manifest(
            OCI_MANIFEST,
            canonical_json(
                {
                    "schemaVersion": 2,
                    "mediaType": OCI_MANIFEST,
                    "artifactType": f"application/x-{number}",
                    "config": empty.to_json(),
                    "layers": [],
                    "subject": subject.to_json(),
                }
            ),
        )
        for number in range(4)
    ]
    async with in_parts(registry).open() as opened, in_parts(registry).open() as other:
        await opened.client.upload_blob(source_of(b"{}", registry.directory / "empty"))
        async with anyio.create_task_group() as tasks:
            for one in referrers[:3]:
                tasks.start_soon(opened.attach, one)
        await other.attach(referrers[3])
        found = await opened.referrers(subject.digest)
        assert sorted(entry.artifact_type for entry in found) == [f"application/x-{n}" for n in range(4)]
    assert registry.tags("models/langid") == [subject.digest.replace(":", "-")]
