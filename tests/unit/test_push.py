"""The order of a push, what it sends, and what it says when a registry fails."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from images import COMMITTED, names, release_image
from registries_fake import CUT, FakeRegistry, Request, Response, error, target
from registry_in_memory import MemoryRegistry

from pipelines.errors import PartialPush, PushFailed
from pipelines.receipt import NothingPushed, PushedInPart, State
from pipelines.registries.credentials import Login
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.layout import ImageLayout
from pipelines.stages import delivery, moving_tags
from pipelines.stages.push import push
from pipelines.statements import GateVerdict, Result, verdict_referrer

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving_tags, "SETTLE_S", 0.01)
    monkeypatch.setattr(delivery, "READ_BACK_WAITS_S", (0.01,))


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().running() as registry:
        yield registry


async def test_tags_come_after_everything_else_and_moving_tags_last(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    wanted = names("8f3c2a1b9d04", "1.2.0", moving=("latest", "main"))
    release = release_image(tmp_path, wanted)
    receipt = await push(release, wanted, [target(fake.host)])
    blobs, rest = fake.order()[:3], fake.order()[3:]
    assert blobs == ["blob"] * 3
    assert rest == ["manifest", "tag 8f3c2a1b9d04", "tag 1.2.0", "tag latest", "tag main"]
    assert set(fake.tags.values()) == {release.digest}
    [delivery] = receipt.deliveries
    assert delivery.state is State.PUSHED
    assert delivery.tags == ("8f3c2a1b9d04", "1.2.0", "latest", "main")
    assert delivery.uploaded == delivery.total == release.size
    first_tag = fake.asked("PUT").index("/v2/models/langid/manifests/8f3c2a1b9d04")
    assert first_tag == 4
    reads = [request.path for request in fake.log if request.method == "GET"]
    assert f"/v2/models/langid/manifests/{release.digest}" in reads


async def test_what_is_there_is_not_sent_again(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names(moving=("latest",))
    release = release_image(tmp_path, wanted)
    await push(release, wanted, [target(fake.host)])
    fake.log.clear()
    receipt = await push(release, wanted, [target(fake.host)])
    assert fake.order() == []
    assert fake.asked("POST") == []
    assert receipt.deliveries[0].state is State.UNCHANGED
    assert receipt.summary() == "0 of 0.1 MB uploaded to 1 of 1 registry · already released"


async def test_only_the_changed_layer_travels(fake: FakeRegistry, tmp_path: Path) -> None:
    first, second = names("one"), names("two")
    await push(release_image(tmp_path, first, "base", "code"), first, [target(fake.host)])
    fake.log.clear()
    await push(release_image(tmp_path, second, "base", "changed"), second, [target(fake.host)])
    assert fake.order() == ["blob", "blob", "manifest", "tag two"]  # the layer and the config


async def test_a_release_tag_never_moves(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names("1.2.0", moving=("latest",))
    first = release_image(tmp_path, wanted, "one")
    await push(first, wanted, [target(fake.host)])
    fake.log.clear()
    with pytest.raises(PushFailed, match=r"langid:1\.2\.0 is .* already") as caught:
        await push(release_image(tmp_path, wanted, "two"), wanted, [target(fake.host)])
    assert "modelport trace" in caught.value.hint
    assert fake.order() == []
    assert set(fake.tags.values()) == {first.digest}


async def test_a_tag_set_by_another_during_the_upload_is_not_overwritten(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    wanted = names("1.2.0")
    release = release_image(tmp_path, wanted)

    def race(request: Request) -> Response | None:
        fake.manifests["sha256:" + "0" * 64] = ("application/vnd.oci.image.manifest.v1+json", b"{}")
        fake.tags["1.2.0"] = "sha256:" + "0" * 64
        return None

    fake.fault("PUT", "/manifests/sha256:", race)
    with pytest.raises(PushFailed, match="already"):
        await push(release, wanted, [target(fake.host)])
    assert fake.tags == {"1.2.0": "sha256:" + "0" * 64}


@pytest.mark.parametrize(
    "response", [error(503, "BUSY"), error(429, "SLOW", headers={"Retry-After": "0"}), CUT]
)
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "GET"])
async def test_a_fault_that_passes_is_tried_again(
    fake: FakeRegistry, tmp_path: Path, method: str, response: Response
) -> None:
    wanted = names()
    release = release_image(tmp_path, wanted)
    fake.fault(method, "/v2/", response, times=2)
    receipt = await push(release, wanted, [target(fake.host)])
    assert receipt.deliveries[0].tags == wanted.version_tags
    assert fake.tags[wanted.version_tags[0]] == release.digest


async def test_retry_after_is_waited_for(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names()
    fake.fault("POST", "/uploads", error(429, "SLOW", headers={"Retry-After": "1"}), times=1)
    began = anyio.current_time()
    await push(release_image(tmp_path, wanted, "one"), wanted, [target(fake.host)])
    assert anyio.current_time() - began >= 1


async def test_a_registry_that_asks_to_wait_for_too_long_fails(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names()
    fake.fault("POST", "/uploads", error(429, "TOOMANYREQUESTS", headers={"Retry-After": "900"}), times=9)
    with anyio.fail_after(5), pytest.raises(PushFailed, match="asks to slow down"):
        await push(release_image(tmp_path, wanted), wanted, [target(fake.host)])
    assert not fake.tags


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (
            error(503, "UNAVAILABLE", "storage is down"),
            r"answered POST with 503 UNAVAILABLE: storage is down",
        ),
        (CUT, "the connection was cut"),
        (error(403, "DENIED", "no push"), r"may not write models/langid \(403 DENIED: no push\)"),
    ],
)
async def test_a_fault_that_stays_is_told_and_nothing_is_named(
    fake: FakeRegistry, tmp_path: Path, response: Response, says: str
) -> None:
    wanted = names(moving=("latest",))
    fake.fault("POST", "/uploads", response, times=999)
    with pytest.raises(NothingPushed, match=says) as caught:
        await push(release_image(tmp_path, wanted), wanted, [target(fake.host)])
    assert fake.host in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 6
    assert (fake.tags, fake.manifests) == ({}, {})


async def test_one_registry_that_fails_keeps_the_others_from_naming(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    wanted = names(moving=("latest",))
    async with FakeRegistry(creates_repositories=False).running() as other:
        with pytest.raises(NothingPushed) as caught:
            await push(release_image(tmp_path, wanted), wanted, [target(other.host), target(fake.host)])
    assert caught.value.exit_code == 6
    assert f"{other.host} has no repository models/langid" in str(caught.value)
    assert "1 of 2 registries holds the image, so nothing was named" in str(caught.value)
    failed, fine = caught.value.receipt.deliveries
    assert (failed.state, fine.state) == (State.FAILED, State.HELD)
    assert "create it" in caught.value.hint
    assert fake.tags == {}
    assert len(fake.manifests) == 1  # a rerun only has to name it


async def test_enough_registries_are_enough_and_the_failure_is_told(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    wanted = names(moving=("latest",))
    async with FakeRegistry(creates_repositories=False).running() as other:
        targets = [target(other.host), target(fake.host)]
        receipt = await push(release_image(tmp_path, wanted), wanted, targets, enough=1)
    assert [one.state for one in receipt.deliveries] == [State.FAILED, State.PUSHED]
    assert receipt.summary().startswith(
        "0.1 of 0.1 MB uploaded to 1 of 2 registries, at least 1 asked · "
        f"{other.host}/models/langid failed: {other.host} has no repository models/langid"
    )
    assert set(fake.tags) == set(wanted.tags)


async def test_names_that_only_some_registries_took_are_told(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names(moving=("latest",))
    release = release_image(tmp_path, wanted)
    async with FakeRegistry().running() as other:
        other.fault("PUT", f"/manifests/{wanted.version_tags[0]}", error(403, "DENIED"), times=99)
        with pytest.raises(PartialPush) as caught:
            await push(release, wanted, [target(other.host), target(fake.host)])
        assert other.tags == {}
    assert isinstance(caught.value, PushedInPart)
    assert caught.value.exit_code == 7
    assert "pushed to 1 of 2 registries" in str(caught.value)
    assert fake.tags == {wanted.version_tags[0]: release.digest}  # a moving tag waits for all release tags
    [failed, named] = caught.value.receipt.deliveries
    assert (failed.state, named.state) == (State.FAILED, State.PUSHED)
    assert "fewer than 2 registries" in named.kept["latest"]


async def test_a_conflict_in_one_registry_stops_all_of_them_before_a_byte_is_sent(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    wanted = names("1.2.0")
    async with FakeRegistry().running() as other:
        await push(release_image(tmp_path, wanted, "one"), wanted, [target(other.host)])
        with pytest.raises(NothingPushed, match=r"1\.2\.0 is .* already") as caught:
            await push(
                release_image(tmp_path, wanted, "two"),
                wanted,
                [target(fake.host), target(other.host)],
                enough=1,
            )
    assert (fake.asked("POST"), fake.asked("PUT"), fake.tags) == ([], [], {})
    assert [one.state for one in caught.value.receipt.deliveries] == [State.WITHHELD, State.FAILED]


async def test_a_tag_that_is_taken_and_not_kept_is_a_failure(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names("1.2.0", moving=("latest",))
    fake.fault("PUT", r"/manifests/1\.2\.0", Response(201), times=99)
    with pytest.raises(NothingPushed, match=r"took the tag 1\.2\.0 and it does not name"):
        await push(release_image(tmp_path, wanted), wanted, [target(fake.host)])
    assert fake.tags == {}


async def test_a_tag_that_was_written_though_the_answer_was_lost_is_ours(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    """The first request did it; the second is refused, for the tag is immutable and taken by then."""
    wanted = names("1.2.0")
    release = release_image(tmp_path, wanted)
    refused = error(409, "TAG_INVALID", "The image tag '1.2.0' already exists and can't be overwritten")

    def write(request: Request) -> Response | None:
        if release.digest not in fake.tags.values():
            fake.tags["1.2.0"] = release.digest
            return CUT
        return refused

    fake.fault("PUT", r"/manifests/1\.2\.0", write, times=9)
    receipt = await push(release, wanted, [target(fake.host)])
    assert receipt.deliveries[0].tags == ("1.2.0",)


async def test_a_tag_that_may_stand_is_not_told_as_nothing_named(fake: FakeRegistry, tmp_path: Path) -> None:
    """The registry did it and never answered: exit 6 would say that there is no name."""
    wanted = names("1.2.0")
    release = release_image(tmp_path, wanted)

    def write(request: Request) -> Response | None:
        fake.tags["1.2.0"] = release.digest
        return CUT

    fake.fault("PUT", r"/manifests/1\.2\.0", write, times=99)
    with pytest.raises(PushedInPart) as caught:
        await push(release, wanted, [target(fake.host)])
    assert caught.value.receipt.deliveries[0].doubtful == ("1.2.0",)


async def test_released_before_to_some_registries_is_told_as_such(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names(moving=("latest",))
    release = release_image(tmp_path, wanted)
    await push(release, wanted, [target(fake.host)])
    async with FakeRegistry().running() as gone:
        pass
    with pytest.raises(PushedInPart, match="pushed to 1 of 2 registries") as caught:
        await push(release, wanted, [target(fake.host), target(gone.host)])
    assert [one.state for one in caught.value.receipt.deliveries] == [State.UNCHANGED, State.FAILED]


async def test_a_repository_is_made_before_the_first_blob_and_only_then(tmp_path: Path) -> None:
    wanted = names()
    release = release_image(tmp_path, wanted)
    registry, calls = MemoryRegistry("host/m"), []
    registry.called = calls.append
    await push(release, wanted, [registry])
    assert registry.made
    registry.made = False
    await push(release, wanted, [registry])
    assert not registry.made  # what is whole there needs no question


async def test_referrers_are_attached_one_after_the_other_and_once(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    """This registry has no referrers API: each write of the tag that lists them reads it first."""
    wanted = names()
    release = release_image(tmp_path, wanted)
    referrers = [
        verdict_referrer(GateVerdict(gate, Result.PASSED), "m", release.manifest, release.layout)
        for gate in ("check", "scan")
    ]
    receipt = await push(release, wanted, [target(fake.host)], referrers=referrers)
    fallback = release.digest.replace(":", "-")
    assert fake.order().count(f"tag {fallback}") == 2
    assert receipt.deliveries[0].uploaded == receipt.deliveries[0].total
    fake.log.clear()
    again = await push(release, wanted, [target(fake.host)], referrers=referrers)
    assert (again.deliveries[0].state, fake.order()) == (State.UNCHANGED, [])


async def test_a_referrer_that_is_not_listed_keeps_the_names_away(tmp_path: Path) -> None:
    class Forgetful(MemoryRegistry):
        async def call(self, what: str, effect: Callable[[], Any]) -> Any:
            return () if what == "GET referrers" else await MemoryRegistry.call(self, what, effect)

    wanted = names()
    release = release_image(tmp_path, wanted)
    referrer = verdict_referrer(GateVerdict("scan", Result.PASSED), "m", release.manifest, release.layout)
    registry = Forgetful("host/m")
    with pytest.raises(NothingPushed, match="and does not list it"):
        await push(release, wanted, [registry], referrers=[referrer])
    assert registry.tag_list == {}


async def test_nothing_listens(tmp_path: Path) -> None:
    wanted = names()
    async with FakeRegistry().running() as gone:
        pass
    with anyio.fail_after(5), pytest.raises(PushFailed, match="nothing listens there"):
        await push(release_image(tmp_path, wanted), wanted, [target(gone.host)])


async def test_a_wrong_manifest_read_back_is_not_tagged(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names()
    release = release_image(tmp_path, wanted)
    answers = [error(404, "MANIFEST_UNKNOWN"), Response(200, {}, b'{"schemaVersion":2}')]
    fake.fault(
        "GET", "/manifests/sha256:", lambda request: answers.pop(0) if answers[1:] else answers[0], times=9
    )
    with pytest.raises(PushFailed, match="gives other content than asked for"):
        await push(release, wanted, [target(fake.host)])
    assert not fake.tags


async def test_a_blob_that_is_lost_after_the_upload_is_not_tagged(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names()
    release = release_image(tmp_path, wanted)

    def lose(request: Request) -> Response | None:
        fake.blobs.pop(release.image.layers[0].digest)
        return None

    fake.fault("PUT", "/manifests/sha256:", lose)
    with pytest.raises(PushFailed, match=r"took the blob .* and does not have it"):
        await push(release, wanted, [target(fake.host)])
    assert not fake.tags


async def test_a_layer_that_changed_on_disk_does_not_go_out(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names()
    release = release_image(tmp_path, wanted)
    path = release.layout.path(release.image.layers[1].digest)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(PushFailed, match="any more"):
        await push(release, wanted, [target(fake.host)])
    assert release.image.layers[1].digest not in fake.blobs
    assert not fake.tags


async def test_cancelled_during_the_upload_nothing_is_named(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names(moving=("latest",))
    release = release_image(tmp_path, wanted)
    with anyio.CancelScope() as scope:

        def interrupt(request: Request) -> Response | None:
            scope.cancel()
            return None

        fake.fault("PUT", "/uploads", interrupt)
        await push(release, wanted, [target(fake.host)])
    assert scope.cancelled_caught
    assert (fake.tags, fake.manifests) == ({}, {})
    assert fake.uploads_abandoned  # the registry need not keep the pieces


# Logins


async def test_a_token_is_minted_once_and_again_when_it_expires(fake: FakeRegistry, tmp_path: Path) -> None:
    login = Login("ci", "secret-pass")
    fake.token_login = login.basic

    def expire(request: Request) -> Response | None:
        fake.valid_tokens.clear()
        return None

    fake.fault("PUT", "/manifests/sha256:", expire)
    wanted = names()
    await push(release_image(tmp_path, wanted), wanted, [target(fake.host, login)])
    assert fake.minted == 2
    assert fake.tags


async def test_a_refused_login_is_explained_without_the_secret(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.basic = "Basic " + base64.b64encode(b"ci:right").decode()
    wanted = names()
    with pytest.raises(NothingPushed, match="refuses this login") as caught:
        await push(release_image(tmp_path, wanted), wanted, [target(fake.host, Login("ci", "wr0ng-secret"))])
    assert "docker login" in caught.value.hint
    told = f"{caught.value!r} {caught.value.receipt.to_json()} {Login('ci', 'wr0ng-secret')}"
    assert "wr0ng-secret" not in told


async def test_no_login_at_all_is_told(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.basic = "Basic eDp5"
    wanted = names()
    with pytest.raises(PushFailed, match="wants a login and there is none"):
        await push(release_image(tmp_path, wanted), wanted, [target(fake.host)])


# Moving tags


async def test_latest_does_not_go_back_to_an_older_version(fake: FakeRegistry, tmp_path: Path) -> None:
    new = names("1.10.0", moving=("latest",), version="1.10.0")
    old = names("1.9.0", moving=("latest",), version="1.9.0", created=COMMITTED + timedelta(days=1))
    newer = release_image(tmp_path, new, "new")
    await push(newer, new, [target(fake.host)])
    receipt = await push(release_image(tmp_path, old, "old"), old, [target(fake.host)])
    assert fake.tags["latest"] == newer.digest
    assert fake.tags["1.9.0"] != newer.digest
    assert receipt.deliveries[0].tags == ("1.9.0",)
    assert "latest not moved: it is 1.10.0, which is newer than 1.9.0" in receipt.summary()


async def test_a_version_that_is_only_a_tag_counts(fake: FakeRegistry, tmp_path: Path) -> None:
    new = names("1.10.0", "1.2.3", moving=("latest",))
    old = names("1.9.0", moving=("latest",), created=COMMITTED + timedelta(days=1))
    newer = release_image(tmp_path, new, "new")
    await push(newer, new, [target(fake.host)])
    await push(release_image(tmp_path, old, "old"), old, [target(fake.host)])
    assert fake.tags["latest"] == newer.digest


async def test_a_branch_tag_follows_the_commits_time(fake: FakeRegistry, tmp_path: Path) -> None:
    first, later = (
        names("a1", moving=("main",)),
        names("b2", moving=("main",), created=COMMITTED + timedelta(hours=1)),
    )
    await push(release_image(tmp_path, first, "first"), first, [target(fake.host)])
    second = release_image(tmp_path, later, "second")
    await push(second, later, [target(fake.host)])
    assert fake.tags["main"] == second.digest
    receipt = await push(release_image(tmp_path, first, "first"), first, [target(fake.host)])
    assert fake.tags["main"] == second.digest
    assert "newer than this commit" in receipt.deliveries[0].kept["main"]


async def test_tags_are_listed_page_by_page(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names("a", "b", "c", "d", "e")
    await push(release_image(tmp_path, wanted), wanted, [target(fake.host)])
    async with target(fake.host).open() as opened:
        assert await opened.tags() == ("a", "b", "c", "d", "e")
    assert len(fake.asked("GET", "/tags/list")) == 3


# A directory


async def test_a_layout_is_pushed_to_by_the_same_path(tmp_path: Path) -> None:
    wanted = names("1.0.0", moving=("latest",))
    release = release_image(tmp_path / "build", wanted)
    own = LayoutRegistry(release.layout, ".modelport/images/langid")
    copy = LayoutRegistry(ImageLayout.create(tmp_path / "copy"))
    receipt = await push(release, wanted, [own, copy])
    assert [one.state for one in receipt.deliveries] == [State.PUSHED, State.PUSHED]
    for layout in (own.layout, copy.layout):
        tags = {tag: blob.digest for tag, blob in layout.tags().items()}
        assert tags == dict.fromkeys(wanted.tags, release.digest)
    assert all(copy.layout.has_blob(blob) for blob in release.image.blobs)
    alone = await push(release, wanted, [own])
    assert alone.summary() == "0.1 MB in .modelport/images/langid · already released"
