"""Uploads go on where they ended, whatever the registry's state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from registries_fake import CUT, FakeRegistry, Request, Response, Ways, error, target
from uploading import (
    CONTENT,
    PART,
    Sessions,
    fake,
    parts,
    registry,
    send,
    sent_bytes,
    source,
    source_of,
    stored,
)

from pipelines.registries.blob_source import BlobSource
from pipelines.registries.credentials import Login
from pipelines.registries.errors import RegistryError, RepositoryMissing, ServerFault
from pipelines.registries.quirks import Quirks

__all__ = ["fake", "source"]
pytestmark = pytest.mark.anyio


async def test_a_small_blob_goes_in_one_request(fake: FakeRegistry, tmp_path: Path) -> None:
    small_one = source_of(b"x" * PART, tmp_path / "small")
    assert await send(registry(fake), small_one) == PART
    assert parts(fake) == ["whole"]
    assert stored(fake, small_one)


async def test_an_empty_blob(fake: FakeRegistry, tmp_path: Path) -> None:
    empty = source_of(b"", tmp_path / "empty")
    assert await send(registry(fake), empty) == 0
    assert stored(fake, empty)


async def test_a_big_blob_goes_in_parts(fake: FakeRegistry, source: BlobSource) -> None:
    sessions = Sessions()
    assert await send(registry(fake), source, sessions) == len(CONTENT)
    assert stored(fake, source)
    assert parts(fake) == [
        *(f"{start}-{start + PART - 1}" for start in range(0, 5 * PART, PART)),
        f"{5 * PART}-{len(CONTENT) - 1}",
    ]
    assert len(sessions.remembered) == 6
    assert not sessions.locations


@pytest.mark.parametrize("fault", [error(503, "BUSY"), CUT, error(429, "SLOW", headers={"Retry-After": "0"})])
@pytest.mark.parametrize("at", (0, 2, 4))
async def test_a_fault_in_the_middle_sends_no_part_twice(
    fake: FakeRegistry, source: BlobSource, fault: Response, at: int
) -> None:
    answers = iter(range(100))
    fake.fault("PATCH", "/uploads/", lambda _: fault if next(answers) == at else None, times=100)
    assert await send(registry(fake), source) == len(CONTENT)
    assert stored(fake, source)
    assert fake.began == 1
    assert sent_bytes(fake) == len(CONTENT) + PART  # the one that was refused


async def test_what_arrived_of_a_part_that_was_cut_is_kept(fake: FakeRegistry, source: BlobSource) -> None:
    fake.cuts = [("PATCH", PART // 2), ("PATCH", 1000)]
    await send(registry(fake), source)
    assert stored(fake, source)
    assert sent_bytes(fake) == len(CONTENT)
    assert f"{PART // 2 + 1000}-{PART // 2 + 1000 + PART - 1}" in parts(fake)


async def test_a_registry_that_loses_cut_uploads_gets_the_blob_anew(source: BlobSource) -> None:
    """docker-registry's addresses hold an offset, and none fits after a cut."""
    async with FakeRegistry(ways=Ways(state_of_offset=True)).running() as fake:
        fake.cuts = [("PATCH", PART // 2)]
        sessions = Sessions()
        assert await send(registry(fake), source, sessions) == len(CONTENT)
        assert stored(fake, source)
        assert fake.began == 2
        assert not sessions.locations


async def test_a_registry_that_loses_every_upload_is_given_up(fake: FakeRegistry, source: BlobSource) -> None:
    fake.fault("PATCH", "/uploads/", error(404, "BLOB_UPLOAD_UNKNOWN"), times=100)
    with pytest.raises(ServerFault, match="lost"):
        await send(registry(fake), source)
    assert fake.began <= 5


async def test_the_answer_to_the_last_part_may_be_lost(fake: FakeRegistry, source: BlobSource) -> None:
    def takes_it_and_fails(request: Request) -> Response:
        fake._answer(request)
        return error(502, "BAD_GATEWAY")

    fake.fault("PUT", "/uploads/", takes_it_and_fails)
    assert await send(registry(fake), source) == len(CONTENT)
    assert stored(fake, source)
    assert sent_bytes(fake) == len(CONTENT)


async def test_the_next_run_goes_on(fake: FakeRegistry, source: BlobSource) -> None:
    sessions = Sessions()
    answers = iter(range(100))
    fake.fault("PATCH", "/uploads/", lambda _: error(503, "DOWN") if next(answers) >= 3 else None, times=8)
    with pytest.raises(ServerFault, match="503"):
        await send(registry(fake), source, sessions)
    assert fake.uploads_abandoned == 0
    fake.faults.clear()
    fake.log.clear()
    again = BlobSource(source.blob, source.path)
    assert await send(registry(fake), again, sessions) == len(CONTENT) - 3 * PART
    assert sent_bytes(fake) == len(CONTENT) - 3 * PART
    assert stored(fake, source)
    assert not sessions.locations


async def test_killed_before_the_last_request_only_it_is_sent(fake: FakeRegistry, source: BlobSource) -> None:
    sessions = Sessions()
    async with registry(fake).open(sessions) as opened:
        await opened.put_blob(source)
    place = sessions.remembered[-1].rpartition("/")[2].partition("?")[0]
    fake.uploads[place] = bytearray(CONTENT)
    fake.blobs.clear()
    sessions.locations[source.blob.digest] = sessions.remembered[-1]
    fake.log.clear()
    assert await send(registry(fake), BlobSource(source.blob, source.path), sessions) == 0
    assert sent_bytes(fake) == 0
    assert stored(fake, source)


async def test_an_upload_that_the_registry_forgot_begins_anew(fake: FakeRegistry, source: BlobSource) -> None:
    sessions = Sessions({source.blob.digest: "/v2/models/langid/blobs/uploads/77?_state=abc"})
    assert await send(registry(fake), source, sessions) == len(CONTENT)
    assert stored(fake, source)


async def test_without_a_journal_a_failed_upload_is_ended(fake: FakeRegistry, source: BlobSource) -> None:
    fake.fault("PATCH", "/uploads/", error(403, "DENIED"), times=100)
    with pytest.raises(RegistryError, match="DENIED"):
        await send(registry(fake), source)
    assert fake.uploads_abandoned == 1


async def test_the_registrys_place_counts_after_a_416(fake: FakeRegistry, source: BlobSource) -> None:
    def elsewhere(request: Request) -> Response | None:
        if not request.headers["content-range"].startswith(f"{2 * PART}-"):
            return None
        held = fake.uploads[request.path.rpartition("/")[2]]
        del held[PART + 10 :]
        return Response(416, fake._progress(request.path, held))

    fake.fault("PATCH", "/uploads/", elsewhere, times=3)
    await send(registry(fake), source)
    assert stored(fake, source)
    assert any(one.startswith(f"{PART + 10}-") for one in parts(fake))
    assert fake.began == 1


async def test_a_part_that_is_taken_in_part(fake: FakeRegistry, source: BlobSource) -> None:
    def half(request: Request) -> Response:
        held = fake.uploads[request.path.rpartition("/")[2]]
        held += request.body[: PART // 2]
        return Response(202, fake._progress(request.path, held))

    fake.fault("PATCH", "/uploads/", half)
    await send(registry(fake), source)
    assert stored(fake, source)
    assert parts(fake)[1].startswith(f"{PART // 2}-")


async def test_what_the_registry_finds_spoilt_is_sent_anew(fake: FakeRegistry, source: BlobSource) -> None:
    def spoil(request: Request) -> None:
        if fake.began == 1 and not request.headers["content-range"].startswith("0-"):
            fake.uploads[request.path.rpartition("/")[2]][0] = 255 - CONTENT[0]

    fake.fault("PATCH", "/uploads/", spoil, times=9)
    await send(registry(fake), source)
    assert fake.began >= 2
    assert stored(fake, source)


async def test_a_proxy_that_takes_smaller_bodies_gets_them(source: BlobSource) -> None:
    for status in (413, 416):
        ways = Ways(largest_body=PART // 3, too_large_answer=status)
        async with FakeRegistry(ways=ways).running() as fake:
            with pytest.raises(ServerFault, match=f"takes no request of {PART} bytes"):
                await send(registry(fake, Quirks(part_size=PART, least_part=PART)), source)
            fake.ways.largest_body = PART // 2
            remote = registry(fake, Quirks(part_size=4 * PART, least_part=1))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("pipelines.registries.uploads._LEAST_PART", 1)
                await send(remote, source)
            assert stored(fake, source)


async def test_the_least_size_that_the_registry_asks_for(source: BlobSource) -> None:
    async with FakeRegistry(ways=Ways(asks_least=2 * PART)).running() as fake:
        await send(registry(fake), source)
        assert parts(fake)[0] == f"0-{2 * PART - 1}"


async def test_where_parts_are_refused_the_blob_goes_whole(source: BlobSource) -> None:
    async with FakeRegistry(ways=Ways(takes_parts=False)).running() as fake:
        await send(registry(fake), source)
        assert parts(fake)[-1] == "whole"
        assert stored(fake, source)


async def test_a_repository_that_vanishes_is_told(fake: FakeRegistry, source: BlobSource) -> None:
    fake.fault("PATCH", "/uploads/", error(404, "NAME_UNKNOWN"), times=9)
    with pytest.raises(RepositoryMissing):
        await send(registry(fake), source)


async def test_a_stalled_answer_ends_and_we_go_on(fake: FakeRegistry, source: BlobSource) -> None:
    fake.fault("PATCH", "/uploads/", Response(202, {"Content-Length": "10"}, b"", stalls_after=0))
    fake.fault("PATCH", "/uploads/", Response(503, {"Content-Length": "10"}, b"", stalls_after=0))
    remote = registry(fake)
    remote = replace(remote, retries=replace(remote.retries, silence_s=0.2))
    with anyio.fail_after(5):
        await send(remote, source)
    assert stored(fake, source)


async def test_a_token_that_ends_in_the_middle_costs_one_part(fake: FakeRegistry, source: BlobSource) -> None:
    fake.token_login = ""
    requests = iter(range(100))

    def expire(_: Request) -> None:
        if next(requests) == 2:
            fake.valid_tokens.clear()

    fake.fault("PATCH", "/uploads/", expire, times=100)
    await send(registry(fake), source)
    assert stored(fake, source)
    assert fake.minted == 2
    assert fake.began == 1
    assert sent_bytes(fake) == len(CONTENT) + PART


async def test_a_login_does_not_go_to_another_host(fake: FakeRegistry, source: BlobSource) -> None:
    """An upload may lead elsewhere (a store's own address); the bytes go there, the password does not."""
    fake.basic = Login("u", "p").basic
    async with FakeRegistry().running() as store:
        store.uploads["77"] = bytearray()
        place = f"http://{store.host}/v2/x/blobs/uploads/77?_state=abc"
        fake.fault("POST", "/uploads/", lambda request: Response(202, {"Location": place}), times=9)
        remote = replace(registry(fake), login=target(fake.host, Login("u", "p")).login)
        async with remote.open() as opened:
            await opened.tag_digest("1")
            await opened.put_blob(source)
        assert stored(store, source)
        assert not any("authorization" in request.headers for request in store.log)
        assert any("authorization" in request.headers for request in fake.log)
