"""One file for all registries: hashed once, and never sent whole where it is not its digest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import anyio
import pytest
from registries_fake import FakeRegistry
from uploading import CONTENT, PART, Sessions, fake, registry, send, sent_bytes, source, source_of, stored

from pipelines.registries.blob_source import BlobSource
from pipelines.registries.errors import BrokenContent

__all__ = ["fake", "source"]
pytestmark = pytest.mark.anyio


class Counting:
    """A hash that knows how much it was given."""

    def __init__(self) -> None:
        self.inner = hashlib.sha256()
        self.hashed = 0

    def update(self, piece: bytes) -> None:
        self.hashed += len(piece)
        self.inner.update(piece)

    def hexdigest(self) -> str:
        return self.inner.hexdigest()


async def test_a_file_is_hashed_once_for_all_registries(source: BlobSource) -> None:
    counting = Counting()
    source._proof._digest = counting  # type: ignore[assignment]
    async with FakeRegistry().running() as one, FakeRegistry().running() as two:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for fake in (one, two):
                    tasks.start_soon(send, registry(fake), source)
        assert stored(one, source)
        assert stored(two, source)
    assert counting.hashed == len(CONTENT)


async def test_what_the_first_registry_did_not_read_is_hashed_by_the_second(
    fake: FakeRegistry, source: BlobSource
) -> None:
    counting = Counting()
    source._proof._digest = counting  # type: ignore[assignment]
    pieces = [piece async for piece in source.pieces(0, 2 * PART)]
    assert b"".join(pieces) == CONTENT[: 2 * PART]
    with anyio.fail_after(10):
        while counting.hashed < 2 * PART:  # noqa: ASYNC110  # a thread hashes while pieces are sent
            await anyio.sleep(0.001)
    assert counting.hashed == 2 * PART
    assert await send(registry(fake), source) == len(CONTENT)
    assert counting.hashed == len(CONTENT)


@pytest.mark.parametrize("size", [1, PART, 5 * PART])
async def test_a_file_that_is_not_its_digest_never_goes_out_whole(
    fake: FakeRegistry, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "blob"
    source = source_of(b"x" * size, path)
    path.write_bytes(b"y" * size)
    sessions = Sessions()
    with pytest.raises(BrokenContent, match="is not"):
        await send(registry(fake), source, sessions)
    assert not fake.blobs
    assert sent_bytes(fake) < size
    assert not sessions.locations
    assert fake.uploads_abandoned == 1


@pytest.mark.parametrize("content", [b"short", b"x" * 200])
async def test_a_file_of_another_size_is_not_sent(fake: FakeRegistry, tmp_path: Path, content: bytes) -> None:
    source = source_of(b"x" * 100, tmp_path / "blob")
    source.path.write_bytes(content)
    with pytest.raises(BrokenContent):
        await send(registry(fake), source)
    source.path.unlink()
    with pytest.raises(BrokenContent, match="can't be read"):
        await send(registry(fake), source)
    assert not fake.blobs


async def test_a_file_that_changes_between_two_registries(fake: FakeRegistry, source: BlobSource) -> None:
    await send(registry(fake), source)
    fake.blobs.clear()
    os.utime(source.path, ns=(1, 1))
    with pytest.raises(BrokenContent):
        await send(registry(fake), source)
    assert not fake.blobs
