"""Each row of the table of quirks, against a registry that behaves so."""

from __future__ import annotations

import pytest
from registries_fake import FakeRegistry, Request, Response, Ways, error
from uploading import CONTENT, PART, Sessions, parts, registry, send, small, source, stored

from pipelines.config_clouds import Kind
from pipelines.registries.blob_source import BlobSource
from pipelines.registries.errors import RegistryError, RepositoryMissing
from pipelines.registries.quirks import MIB, Quirks, quirks_of

__all__ = ["source"]
pytestmark = pytest.mark.anyio


async def test_ecr(source: BlobSource) -> None:
    """201 to a part, a Range that does not advance, no progress to ask for, 416 that says where to go on."""
    ways = Ways(
        part_answer=201,
        range_is_stuck=True,
        tells_progress=False,
        explains_position=True,
        least_part=PART // 2,
    )
    quirks = small(Kind.ECR)
    assert quirks_of(Kind.ECR, "x").least_part >= 5_000_000
    async with FakeRegistry(ways=ways).running() as fake:
        assert await send(registry(fake, quirks), source) == len(CONTENT)
        assert stored(fake, source)
        assert len(parts(fake)) == 6
        fake.blobs.clear()

        def takes_it_and_fails(request: Request) -> Response:
            fake._answer(request)
            return error(500, "INTERNAL")

        fake.fault("PATCH", "/uploads/", takes_it_and_fails, times=1)
        fake.log.clear()
        sessions = Sessions()
        await send(registry(fake, quirks), source, sessions)
        assert stored(fake, source)
        assert parts(fake).count(f"0-{PART - 1}") == 2  # the second got the 416
        assert fake.began == 2

        fake.uploads["77"] = bytearray(CONTENT[: 2 * PART])
        fake.blobs.clear()
        sessions.locations[source.blob.digest] = "/v2/models/langid/blobs/uploads/77?_state=abc"
        assert await send(registry(fake, quirks), source, sessions) == len(CONTENT) - 2 * PART
        assert stored(fake, source)


async def test_ecr_answers_mounts_with_an_upload_unless_the_account_allows_them(source: BlobSource) -> None:
    async with FakeRegistry(ways=Ways(mounts=False)).running() as fake:
        fake.blobs[source.blob.digest] = CONTENT
        async with registry(fake, small(Kind.ECR)).open() as opened:
            assert not await opened.mount_blob(source.blob, "models/other")
            fake.ways.mounts = True
            assert await opened.mount_blob(source.blob, "models/other")
        assert fake.uploads_abandoned == 1


@pytest.mark.parametrize(
    ("kind", "host"), [(Kind.GAR, "europe-docker.pkg.dev"), (Kind.OCI, "ghcr.io"), (Kind.OCI, "quay.io")]
)
async def test_monolithic_only(source: BlobSource, kind: Kind, host: str) -> None:
    async with FakeRegistry(ways=Ways(takes_parts=False)).running() as fake:
        quirks = small(kind, host)
        fake.cuts = [("PUT", 3 * PART)]
        sessions = Sessions()
        await send(registry(fake, quirks), source, sessions)
        assert parts(fake) == ["whole", "whole"]
        assert stored(fake, source)
        assert not sessions.remembered


async def test_azure_forgets_an_upload_whose_part_was_cut(source: BlobSource) -> None:
    async with FakeRegistry(ways=Ways(state_of_offset=True)).running() as fake:
        fake.cuts = [("PATCH", 10)]
        await send(registry(fake, small(Kind.ACR)), source)
        assert fake.began == 2
        assert stored(fake, source)


@pytest.mark.parametrize(
    ("kind", "host", "says"),
    [
        (Kind.ECR, "x", "create-repository --repository-name models/langid"),
        (Kind.GAR, "x", "gcloud artifacts repositories create"),
        (Kind.OCI, "harbor.example.com", 'make the project "models" in Harbor'),
        (Kind.OCI, "registry.example.com:5000", "create it in the registry first"),
    ],
)
async def test_what_to_do_where_it_is_missing(source: BlobSource, kind: Kind, host: str, says: str) -> None:
    async with FakeRegistry(creates_repositories=False).running() as fake:
        with pytest.raises(RepositoryMissing) as caught:
            await send(registry(fake, quirks_of(kind, host)), source)
        assert says in caught.value.hint


async def test_harbor_says_that_the_project_is_missing_in_ways_of_its_own(source: BlobSource) -> None:
    quirks = quirks_of(Kind.OCI, "harbor.example.com")
    async with FakeRegistry().running() as fake:
        fake.fault("HEAD", "/blobs/", error(403, "DENIED"), times=1)
        fake.fault("GET", "/manifests/", error(404, "NOT_FOUND", "project models not found"), times=1)
        async with registry(fake, quirks).open() as opened:
            with pytest.raises(RegistryError) as caught:
                await opened.has_blob(source.blob)
            assert 'make the project "models"' in caught.value.hint
            with pytest.raises(RepositoryMissing, match="project models not found"):
                await opened.read_manifest("1.0")


def test_every_other_host_gets_what_the_specification_has() -> None:
    assert quirks_of(Kind.OCI, "registry.example.com") == Quirks()
    assert quirks_of(Kind.OCI, "notghcr.io") == Quirks()
    assert quirks_of(Kind.OCI, "docker.io").refused_hint
    assert 5 * MIB < Quirks().part_size < 100_000_000
