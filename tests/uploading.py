"""What the tests of uploads share: content of six parts, a journal, and what the fake registry was sent."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from registries_fake import FakeRegistry, target

from pipelines.config_clouds import Kind
from pipelines.registries import blob_source
from pipelines.registries.blob_source import BlobSource
from pipelines.registries.descriptors import Descriptor, sha256
from pipelines.registries.oci import OciRegistry
from pipelines.registries.quirks import Quirks, quirks_of

PART = 64 * 1024
CONTENT = os.urandom(5 * PART + 1000)
"""Six parts, the last one small."""


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().running() as running:
        yield running


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobSource:
    monkeypatch.setattr(blob_source, "CHUNK", 16 * 1024)
    return source_of(CONTENT, tmp_path / "blob")


def source_of(content: bytes, path: Path) -> BlobSource:
    path.write_bytes(content)
    return BlobSource(Descriptor("application/octet-stream", sha256(content), len(content)), path)


@dataclass(slots=True)
class Sessions:
    """What the push's journal keeps."""

    locations: dict[str, str] = field(default_factory=dict)
    remembered: list[str] = field(default_factory=list)

    def recall(self, digest: str) -> str:
        return self.locations.get(digest, "")

    def remember(self, digest: str, location: str) -> None:
        self.remembered.append(location)
        self.locations[digest] = location

    def forget(self, digest: str) -> None:
        self.locations.pop(digest, None)


def registry(fake: FakeRegistry, quirks: Quirks | None = None) -> OciRegistry:
    """The fake with small parts."""
    return replace(target(fake.host), quirks=quirks or Quirks(part_size=PART, least_part=1))


def small(kind: Kind, host: str = "x") -> Quirks:
    """The quirks of a kind, with parts for tests."""
    return replace(quirks_of(kind, host), part_size=PART, least_part=PART // 2)


async def send(remote: OciRegistry, source: BlobSource, sessions: Sessions | None = None) -> int:
    async with remote.open(sessions) as opened:
        return await opened.put_blob(source)


def parts(fake: FakeRegistry) -> list[str]:
    """The ranges that were sent, in order."""
    return [
        request.headers.get("content-range", "whole")
        for request in fake.log
        if request.method in ("PATCH", "PUT") and "/uploads/" in request.path
    ]


def stored(fake: FakeRegistry, source: BlobSource) -> bool:
    return fake.blobs.get(source.blob.digest) == source.path.read_bytes()


def sent_bytes(fake: FakeRegistry) -> int:
    return sum(len(request.body) for request in fake.log if request.method in ("PATCH", "PUT"))
