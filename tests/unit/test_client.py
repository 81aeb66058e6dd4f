"""The client against broken, lying and slow answers: read verified, asked again a few times, told plainly."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from registries_fake import FakeRegistry, Request, Response, error, target

from pipelines.registries.credentials import Login
from pipelines.registries.descriptors import OCI_MANIFEST, Descriptor, Manifest, sha256
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.errors import (
    AccessRefused,
    BrokenContent,
    NotFound,
    RegistryError,
    RepositoryMissing,
)
from pipelines.registries.layout import ImageLayout
from pipelines.registries.reference import Repository
from pipelines.registries.transport import new_http_client

pytestmark = pytest.mark.anyio
BODY = os.urandom(100_000)
BLOB = Descriptor("application/octet-stream", sha256(BODY), len(BODY))
MANIFEST = Manifest(OCI_MANIFEST, b'{"schemaVersion":2}')


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().running() as running:
        running.blobs[BLOB.digest] = BODY
        running.manifests[MANIFEST.digest] = (MANIFEST.media_type, MANIFEST.body)
        running.tags["1.0"] = MANIFEST.digest
        yield running


BROKEN = {
    "corrupted": Response(200, {}, b"x" + BODY[1:]),
    "cut": Response(200, {"Content-Length": str(len(BODY))}, BODY[:50]),
    "stalled": Response(200, {}, BODY, stalls_after=1000),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_blob_that_broke_on_its_way_is_asked_for_again(
    fake: FakeRegistry, tmp_path: Path, what: str
) -> None:
    remote = target(fake.host)
    remote = replace(remote, retries=replace(remote.retries, silence_s=0.2))
    async with remote.open() as opened:
        fake.fault("GET", "/blobs/", BROKEN[what], times=2)
        with anyio.fail_after(5):
            await opened.download_blob(BLOB, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == BODY
        fake.fault("GET", "/blobs/", BROKEN[what], times=1)
        assert await opened.read_blob(BLOB.digest, len(BODY)) == BODY


async def test_a_blob_that_stays_broken_is_told_soon(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.fault("GET", "/blobs/", BROKEN["corrupted"], times=100)
    async with target(fake.host).open() as opened:
        with pytest.raises(BrokenContent, match="gives other content"):
            await opened.download_blob(BLOB, tmp_path / "copy")
        assert not list(tmp_path.iterdir())
        assert len(fake.asked("GET", "/blobs/")) == 3


async def test_a_manifest_is_asked_for_again(fake: FakeRegistry) -> None:
    async with target(fake.host).open() as opened:
        for reference in ("1.0", MANIFEST.digest):
            fake.fault(
                "GET", "/manifests/", Response(200, {"Docker-Content-Digest": MANIFEST.digest}, b"{}"), 2
            )
            assert await opened.read_manifest(reference) == MANIFEST
        fake.fault("GET", "/manifests/", Response(200, {}, b"<html>"), 9)
        with pytest.raises(BrokenContent):
            await opened.read_manifest("1.0")


async def test_bodies_have_a_limit(fake: FakeRegistry, tmp_path: Path) -> None:
    async with target(fake.host).open() as opened:
        with pytest.raises(BrokenContent, match="more than 10 bytes"):
            await opened.read_blob(BLOB.digest, 10)
        fake.blobs[BLOB.digest] = BODY + b"more"
        with pytest.raises(BrokenContent, match="sends more than"):
            await opened.download_blob(BLOB, tmp_path / "copy")
        fake.fault("GET", "/tags/list", Response(200, {}, b'{"tags":["' + b"x" * 5_000_000 + b'"]}'))
        with pytest.raises(BrokenContent, match="more than"):
            await opened.tags()


async def test_a_list_of_tags_that_goes_round_ends(fake: FakeRegistry) -> None:
    link = {"Link": '</v2/models/langid/tags/list?last=0>; rel="next"'}
    fake.fault("GET", "/tags/list", Response(200, link, json.dumps({"tags": ["a", "b"]}).encode()), times=100)
    async with target(fake.host).open() as opened:
        assert await opened.tags() == ("a", "b")
    assert len(fake.asked("GET", "/tags/list")) == 2


async def test_deleting_is_there_for_who_asks_for_it(fake: FakeRegistry) -> None:
    async with target(fake.host).open() as opened:
        assert await opened.client.delete_manifest("1.0")
        assert fake.tags == {}
        assert MANIFEST.digest in fake.manifests
        assert await opened.client.delete_manifest(MANIFEST.digest)
        assert not await opened.client.delete_manifest(MANIFEST.digest)
        fake.fault("DELETE", "/manifests/", error(405, "UNSUPPORTED"))
        with pytest.raises(RegistryError, match="405"):
            await opened.client.delete_manifest("1.0")


async def test_may_one_push_here(fake: FakeRegistry) -> None:
    async with target(fake.host).open() as opened:
        await opened.check_write()
        assert fake.uploads == {}
        assert fake.uploads_abandoned == 1
        fake.fault("POST", "/uploads/", error(403, "DENIED"))
        with pytest.raises(AccessRefused):
            await opened.check_write()
        fake.creates_repositories = False
        with pytest.raises(RepositoryMissing):
            await opened.check_write()
    assert await target(fake.host).repository_exists() is None
    assert not await target(fake.host).make_repository()


@pytest.mark.parametrize("right", ["delete", "metadata_read"])
async def test_a_token_gets_the_rights_that_a_challenge_asks_for(fake: FakeRegistry, right: str) -> None:
    """Azure's tokens: `pull,push` is not enough to delete, nor to list."""
    fake.token_login = ""
    asked: list[str] = []

    def needs_more(request: Request) -> Response | None:
        if any(right in scope for scope in asked):
            return None
        scope = f"repository:models/langid:{right}"
        told = f'Bearer realm="http://{fake.host}/token",service="fake",scope="{scope}"'
        return error(401, "UNAUTHORIZED", headers={"WWW-Authenticate": told})

    def note(request: Request) -> None:
        asked.append(request.query["scope"])

    fake.fault("DELETE", "/manifests/", needs_more, times=9)
    fake.fault("GET", "/token", note, times=9)
    async with target(fake.host).open() as opened:
        assert await opened.has_blob(BLOB)
        assert asked == ["repository:models/langid:pull,push"]
        assert await opened.client.delete_manifest("1.0")
    assert asked[-1] == f"repository:models/langid:pull,push,{right}"


async def test_a_mount_asks_for_the_right_to_read_there(fake: FakeRegistry) -> None:
    fake.token_login = ""
    scopes: list[str] = []

    def origin_too(request: Request) -> Response | None:
        if fake.minted > 1:
            return None
        scope = "repository:models/langid:pull,push repository:models/other:pull"
        told = f'Bearer realm="http://{fake.host}/token",scope="{scope}"'
        return error(401, "UNAUTHORIZED", headers={"WWW-Authenticate": told})

    fake.fault("POST", "/uploads/", origin_too, times=9)
    fake.fault("GET", "/token", lambda request: scopes.append(request.query["scope"]), times=9)
    async with target(fake.host).open() as opened:
        await opened.has_blob(BLOB)
        assert await opened.mount_blob(BLOB, "models/other")
    assert fake.minted == 2


async def test_a_busy_token_endpoint_is_asked_again(fake: FakeRegistry) -> None:
    fake.token_login = Login("u", "p").basic
    fake.fault("GET", "/token", error(503, "BUSY"), times=2)
    async with target(fake.host, Login("u", "p")).open() as opened:
        assert await opened.has_blob(BLOB)


async def test_a_registry_error_that_nobody_explains_is_a_failed_push() -> None:
    assert RegistryError("x").exit_code == 6


async def test_an_authority_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for file in ("ca.pem", "missing.pem"):
        with pytest.raises(RegistryError, match=f"{file} can't be used"):
            new_http_client(Repository("registry.example.com", "x", ca_file=str(tmp_path / file)))


async def test_a_layout_answers_the_same_port(tmp_path: Path) -> None:
    place = tmp_path / "layout"
    remote = LayoutRegistry(ImageLayout(place))
    assert await remote.repository_exists() is False
    assert await remote.make_repository()
    assert not await remote.make_repository()
    async with remote.open() as opened:
        await opened.check_write()
        assert not await opened.mount_blob(BLOB, "other")
        ImageLayout(place).write_blob(BODY)
        await opened.download_blob(BLOB, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == BODY
        with pytest.raises(FileExistsError):
            await opened.download_blob(BLOB, tmp_path / "copy")
        ImageLayout(place).path(BLOB.digest).write_bytes(b"x" + BODY[1:])
        with pytest.raises(BrokenContent):
            await opened.download_blob(BLOB, tmp_path / "other")
        assert not (tmp_path / "other").exists()
        with pytest.raises(NotFound):
            await opened.download_blob(replace(BLOB, digest=sha256(b"?")), tmp_path / "other")
    with pytest.raises(RegistryError, match="can't be written to"):
        ImageLayout(tmp_path / "nowhere").check_writable()
