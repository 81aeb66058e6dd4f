"""The same push against a real registry, and the conversations that a fake could get wrong."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import anyio
import pytest
from images import names, release_image
from registries_fake import target
from registry_process import RegistryProcess, password_registry, registry

from pipelines.errors import PushFailed
from pipelines.receipt import State
from pipelines.registries.blob_source import BlobSource
from pipelines.registries.credentials import Login
from pipelines.registries.descriptors import Descriptor, sha256
from pipelines.registries.errors import BrokenContent, RepositoryMissing
from pipelines.stages.push import push

__all__ = ["password_registry", "registry"]
pytestmark = [pytest.mark.anyio, pytest.mark.registry]
PATH = "models/langid"


async def test_push_again_and_conflict(registry: RegistryProcess, tmp_path: Path) -> None:
    wanted = names("1.0.0", moving=("latest",))
    release = release_image(tmp_path / "a", wanted)
    there = [target(registry.host)]
    receipt = await push(release, wanted, there)
    assert receipt.deliveries[0].state is State.PUSHED
    assert registry.tags(PATH) == ["1.0.0", "latest"]
    assert registry.tag_digest(PATH, "latest") == release.digest
    for blob in release.image.blobs:
        assert registry.blob(blob.digest).read_bytes() == release.layout.path(blob.digest).read_bytes()
    assert (await push(release, wanted, there)).deliveries[0].state is State.UNCHANGED
    with pytest.raises(PushFailed, match="already"):
        await push(release_image(tmp_path / "b", wanted, "other"), wanted, there)
    assert registry.tag_digest(PATH, "1.0.0") == release.digest


async def test_with_a_password(password_registry: RegistryProcess, tmp_path: Path) -> None:
    wanted = names()
    release = release_image(tmp_path, wanted)
    login = Login(password_registry.username, password_registry.password)
    with pytest.raises(PushFailed, match="wants a login and there is none"):
        await push(release, wanted, [target(password_registry.host)])
    with pytest.raises(PushFailed, match="refuses this login"):
        await push(release, wanted, [target(password_registry.host, Login("pusher", "wrong"))])
    assert password_registry.tags(PATH) == []
    await push(release, wanted, [target(password_registry.host, login)])
    assert password_registry.tags(PATH) == list(wanted.version_tags)


async def test_blobs_and_tags(registry: RegistryProcess, tmp_path: Path) -> None:
    body = b"x" * 3_000_000
    blob = Descriptor("application/octet-stream", sha256(body), len(body))
    (tmp_path / "blob").write_bytes(body)
    remote = target(registry.host)
    async with remote.open() as opened:
        with pytest.raises(RepositoryMissing, match="has no repository"):
            await opened.client.tags()
        assert await opened.client.upload_blob(BlobSource(blob, tmp_path / "blob")) == len(body)
        assert await opened.has_blob(blob)
        await opened.client.download_blob(blob, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == body
        registry.blob(blob.digest).write_bytes(b"y" * len(body))
        with pytest.raises(BrokenContent):
            await opened.client.download_blob(blob, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()


async def test_a_blob_is_mounted_from_another_repository(registry: RegistryProcess, tmp_path: Path) -> None:
    wanted = names()
    release = release_image(tmp_path, wanted)
    await push(release, wanted, [target(registry.host)])
    blob = release.image.layers[0]
    async with target(registry.host, path="models/other").open() as opened:
        assert not await opened.has_blob(blob)
        assert await opened.client.mount_blob(blob, PATH)
        assert await opened.has_blob(blob)
        assert not await opened.client.mount_blob(Descriptor("x", sha256(b"gone"), 4), PATH)


async def test_all_tags_are_listed(registry: RegistryProcess, tmp_path: Path) -> None:
    wanted = names(*(f"t{number:03}" for number in range(25)))
    release = release_image(tmp_path, wanted)
    await push(release, wanted, [target(registry.host)])
    async with target(registry.host).open() as opened:
        assert sorted(await opened.tags()) == list(wanted.version_tags)


PUSH_BIG = """
import sys, anyio
from pathlib import Path
from registries_fake import target
from pipelines.registries.blob_source import BlobSource
from pipelines.registries.descriptors import Descriptor

def peak_kb():  # not ru_maxrss: that begins with the peak of the process that started this one
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

async def main(host, path, digest, size):
    blob = Descriptor("x", digest, size)
    async with target(host).open() as opened:
        before = peak_kb()
        await opened.client.upload_blob(BlobSource(blob, path))
        await opened.client.download_blob(blob, path.with_name("copy"))
        print(peak_kb() - before)

anyio.run(main, sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
"""


async def test_a_big_blob_does_not_fill_memory(registry: RegistryProcess, tmp_path: Path) -> None:

    size = 300_000_000
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(size)
    with big.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    arguments = [sys.executable, "-c", PUSH_BIG, registry.host, str(big), digest, str(size)]
    with anyio.fail_after(120):
        done = await anyio.run_process(arguments, env={"PYTHONPATH": ":".join(sys.path)}, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 25_000, "kB more at the peak"
    assert registry.blob(digest).stat().st_size == size
