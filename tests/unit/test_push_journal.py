"""What one push leaves for the next: unfinished uploads, names that were begun, blobs that can be mounted."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from images import COMMITTED, names, release_image
from registries_fake import FakeRegistry, Request, Response, error, target
from registry_in_memory import MemoryRegistry

from pipelines import push_journal
from pipelines.errors import PartialPush, PushFailed
from pipelines.push_journal import Journal
from pipelines.receipt import NothingPushed, State
from pipelines.registries.descriptors import short
from pipelines.registries.errors import Unreachable
from pipelines.registries.oci import OpenRepository
from pipelines.release_image import ReleaseImage
from pipelines.stages import delivery, moving_tags
from pipelines.stages.interrupted import finish_interrupted
from pipelines.stages.push import push
from pipelines.stages.tag import Names
from pipelines.statements import GateVerdict, Result, verdict_referrer
from pipelines.under_way import Phase

pytestmark = pytest.mark.anyio
DIGEST = "sha256:" + "1" * 64


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving_tags, "SETTLE_S", 0.001)
    monkeypatch.setattr(delivery, "READ_BACK_WAITS_S", (0.001,))
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().running() as registry:
        yield registry


@pytest.fixture
async def other() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().running() as registry:
        yield registry


def journal(tmp_path: Path, model: str = "langid") -> Journal:
    """As the next run opens it."""
    return Journal.open(tmp_path / ".modelport", model)


# Files


def test_an_upload_is_remembered_for_the_next_run(tmp_path: Path) -> None:
    sessions = journal(tmp_path).sessions("host/a")
    sessions.remember(DIGEST, "https://host/v2/a/uploads/1?_state=signed")
    again = journal(tmp_path)
    assert again.sessions("host/a").recall(DIGEST) == "https://host/v2/a/uploads/1?_state=signed"
    assert again.sessions("host/b").recall(DIGEST) == ""
    file = tmp_path / ".modelport/push/langid/uploads.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "signed" not in f"{again!r} {again.sessions('host/a')!r}"
    again.sessions("host/a").forget(DIGEST)
    assert journal(tmp_path).sessions("host/a").recall(DIGEST) == ""


def test_old_uploads_are_left_and_their_number_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_journal, "_MOST_UPLOADS", 2)
    book = journal(tmp_path)
    for number in range(3):
        book.sessions("host/a").remember(f"sha256:{number:064d}", "/there")
    assert list(journal(tmp_path).uploads["host/a"]) == [f"sha256:{number:064d}" for number in (1, 2)]
    file = tmp_path / ".modelport/push/langid/uploads.json"
    document = json.loads(file.read_text())
    document["repositories"]["host/a"][f"sha256:{1:064d}"][1] -= 8 * 24 * 3600
    file.write_text(json.dumps(document))
    assert list(journal(tmp_path).uploads["host/a"]) == [f"sha256:{2:064d}"]


@pytest.mark.parametrize(
    "body", ["", "{", "[]", '{"releases": 1}', '{"releases": [{"digest": "x"}]}', "\udcff"]
)
async def test_a_damaged_journal_is_told_and_left_out(tmp_path: Path, fake: FakeRegistry, body: str) -> None:
    directory = tmp_path / ".modelport/push/langid"
    directory.mkdir(parents=True)
    for name in ("releases", "uploads", "blobs"):
        (directory / f"{name}.json").write_bytes(body.encode("utf-8", "surrogateescape"))
    wanted = names()
    book = journal(tmp_path)
    receipt = await push(release_image(tmp_path, wanted), wanted, [target(fake.host)], journal=book)
    assert len(receipt.notes) == 3
    assert all("is damaged and was left out" in note for note in receipt.notes)
    assert journal(tmp_path).notes == []


async def test_a_journal_that_can_not_be_written_stops_the_push_before_it_begins(
    tmp_path: Path, fake: FakeRegistry
) -> None:
    (tmp_path / ".modelport").write_text("a file in the way")
    wanted = names()
    with pytest.raises(PushFailed, match="can't be written"):
        await push(
            release_image(tmp_path, wanted),
            wanted,
            [target(fake.host)],
            journal=Journal(tmp_path / ".modelport/x"),
        )
    assert fake.log == []


# The release under way


async def test_a_push_that_ended_well_leaves_nothing_under_way(tmp_path: Path, fake: FakeRegistry) -> None:
    wanted = names(moving=("latest",))
    receipt = await push(
        release_image(tmp_path, wanted), wanted, [target(fake.host)], journal=journal(tmp_path)
    )
    assert receipt.notes == ()
    assert journal(tmp_path).releases == ()


async def test_the_same_release_goes_on(tmp_path: Path, fake: FakeRegistry) -> None:
    wanted = names()
    release = release_image(tmp_path, wanted)
    fake.fault("PUT", "/blobs/uploads", error(403, "DENIED"))
    with pytest.raises(NothingPushed):
        await push(release, wanted, [target(fake.host)], journal=journal(tmp_path))
    [under_way] = journal(tmp_path).releases
    assert (under_way.digest, under_way.phase) == (release.digest, Phase.BRINGING)
    receipt = await push(release, wanted, [target(fake.host)], journal=journal(tmp_path))
    assert re.search(r"continues the push of \d\d:\d\d, which ended in the middle", receipt.summary())


async def test_a_release_that_was_never_named_is_forgotten(tmp_path: Path, fake: FakeRegistry) -> None:
    old, new = names("1.0.0"), names("1.1.0", created=COMMITTED + timedelta(hours=1))
    first = release_image(tmp_path, old, "one")
    fake.fault("PUT", "/blobs/uploads", error(403, "DENIED"))
    with pytest.raises(NothingPushed):
        await push(first, old, [target(fake.host)], journal=journal(tmp_path))
    receipt = await push(
        release_image(tmp_path, new, "two"), new, [target(fake.host)], journal=journal(tmp_path)
    )
    assert f"({short(first.digest)}) ended before it named anything" in receipt.notes[0]
    assert set(fake.tags) == {"1.1.0"}


async def test_names_that_were_begun_are_finished_before_the_next_release(
    tmp_path: Path, fake: FakeRegistry, other: FakeRegistry
) -> None:
    old = names("1.0.0", moving=("latest",))
    new = names("1.1.0", moving=("latest",), created=COMMITTED + timedelta(hours=1))
    targets = [target(fake.host), target(other.host)]
    first = release_image(tmp_path, old, "one")
    other.fault("PUT", r"/manifests/1\.0\.0", error(403, "DENIED"), times=1)
    with pytest.raises(PartialPush):
        await push(first, old, targets, journal=journal(tmp_path))
    assert (fake.tags, other.tags) == ({"1.0.0": first.digest}, {})
    second = release_image(tmp_path, new, "two")
    receipt = await push(second, new, targets, journal=journal(tmp_path))
    for registry in (fake, other):
        assert registry.tags == {"1.0.0": first.digest, "1.1.0": second.digest, "latest": second.digest}
    assert [note.partition(" ")[0] for note in receipt.notes] == [f"{short(first.digest)},"] * 2
    assert all("has its names in" in note for note in receipt.notes)
    assert journal(tmp_path).releases == ()


@pytest.fixture
def begun(tmp_path: Path) -> tuple[ReleaseImage, MemoryRegistry, MemoryRegistry]:
    """A release that both registries hold, and none names."""
    wanted = names("1.0.0", moving=("latest",))
    release = release_image(tmp_path / "build", wanted)
    blobs = {blob.digest: release.layout.read_blob(blob.digest, blob.size) for blob in release.image.blobs}
    manifests = {release.digest: release.manifest}
    one, two = (MemoryRegistry(f"{host}/m", blobs=blobs, manifests=manifests) for host in ("one", "two"))
    book = journal(tmp_path)
    book.begin(release.digest, wanted)
    book.past_barrier(release.digest, [one.name, two.name])
    return release, one, two


Begun = tuple[ReleaseImage, MemoryRegistry, MemoryRegistry]


async def test_what_can_not_be_finished_is_told_and_stays_for_the_next_run(
    tmp_path: Path, begun: Begun
) -> None:
    release, one, two = begun

    def unreachable(what: str) -> None:
        raise Unreachable("two: nothing listens there")

    two.called = unreachable
    notes = await finish_interrupted(journal(tmp_path), release.layout, [one, two])
    assert "has its names in one/m now" in notes[0]
    assert "is still not named in two/m: two: nothing listens there" in notes[1]
    [under_way] = journal(tmp_path).releases
    assert under_way.unnamed == ("two/m",)
    two.called = lambda what: None
    assert len(await finish_interrupted(journal(tmp_path), release.layout, [one, two])) == 1
    assert one.tag_list == two.tag_list == dict.fromkeys(("1.0.0", "latest"), release.digest)
    assert journal(tmp_path).releases == ()


async def test_the_release_that_goes_on_is_left_to_its_push(tmp_path: Path, begun: Begun) -> None:
    release, one, two = begun
    book = journal(tmp_path)
    assert await finish_interrupted(book, release.layout, [one, two], going_on=release.digest) == ()
    assert (one.tag_list, two.tag_list) == ({}, {})


async def test_a_tag_that_was_taken_meanwhile_ends_it(tmp_path: Path, begun: Begun) -> None:
    release, one, _ = begun
    foreign = release_image(tmp_path / "foreign", names("1.0.0"), "foreign")
    one.manifests[foreign.digest] = foreign.manifest
    one.tag_list["1.0.0"] = foreign.digest
    book = journal(tmp_path)
    book.named(release.digest, "two/m")
    [note] = await finish_interrupted(book, release.layout, [one])
    assert "stays without its names in one/m: one/m:1.0.0 is" in note
    assert one.tag_list == {"1.0.0": foreign.digest}
    assert journal(tmp_path).releases == ()


async def test_a_release_that_is_gone_from_the_layout_is_left_as_it_is(
    tmp_path: Path, fake: FakeRegistry
) -> None:
    wanted = names("1.0.0")
    release = release_image(tmp_path, wanted)
    book = journal(tmp_path)
    book.begin(release.digest, wanted)
    book.past_barrier(release.digest, [f"{fake.host}/models/langid"])
    release.layout.path(release.digest).unlink()
    [note] = await finish_interrupted(journal(tmp_path), release.layout, [target(fake.host)])
    assert "is left as it is" in note
    assert journal(tmp_path).releases == ()
    assert fake.log == []


async def test_a_registry_that_is_not_configured_any_more_is_left(tmp_path: Path, fake: FakeRegistry) -> None:
    wanted = names("1.0.0")
    release = release_image(tmp_path, wanted)
    book = journal(tmp_path)
    book.begin(release.digest, wanted)
    book.past_barrier(release.digest, ["gone.example/models/langid"])
    [note] = await finish_interrupted(journal(tmp_path), release.layout, [target(fake.host)])
    assert "not configured any more" in note
    assert journal(tmp_path).releases == ()


def test_when_it_was(tmp_path: Path) -> None:
    book = journal(tmp_path)
    book.begin(DIGEST, names())
    [entry] = book.releases
    assert re.fullmatch(r"\d\d:\d\d", entry.when)
    long_ago = replace(entry, began=datetime(2020, 1, 2, tzinfo=UTC))
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d", long_ago.when)


# Killed at any request


class KilledError(Exception):
    """The process ends here."""


class Killer:
    """Ends the push at one of the moments before and after each call of any of its registries."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.fired = False

    def __call__(self, what: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.fired = True
            raise KilledError(what)


async def killed_at(
    at: int, release: ReleaseImage, wanted: Names, where: list[MemoryRegistry], state: Path
) -> bool:
    """A push that ends at the ``at``-th moment; False: it was through before."""
    killer = Killer(at)
    for one in where:
        one.called = killer
    referrer = verdict_referrer(GateVerdict("check", Result.PASSED), "m", release.manifest, release.layout)
    try:
        await push(release, wanted, where, referrers=[referrer], journal=journal(state))
    except* KilledError:
        pass
    return killer.fired


async def test_killed_at_any_moment_and_run_again_it_ends_the_same(tmp_path: Path) -> None:
    wanted = names("1.0.0", moving=("latest",))
    release = release_image(tmp_path / "build", wanted, "one")
    for at in range(1, 10**3):
        where = [MemoryRegistry(f"host{number}/m") for number in range(2)]
        killed = await killed_at(at, release, wanted, where, tmp_path / str(at))
        named = [one for one in where if one.tag_list]
        if named:  # nothing is named before all hold everything, the verdict included
            assert all(len(one.manifests) == 2 for one in where), at
            assert all(blob.digest in one.blobs for blob in release.image.blobs for one in where), at
        if any("latest" in one.tag_list for one in where):
            assert all("1.0.0" in one.tag_list for one in where), at
        assert not await killed_at(0, release, wanted, where, tmp_path / str(at))
        for one in where:
            assert one.tag_list == dict.fromkeys(wanted.tags, release.digest), at
            assert len(one.manifests) == 2
        assert journal(tmp_path / str(at)).releases == (), at
        if not killed:
            break
    assert at > 60


async def test_killed_at_any_moment_the_next_release_finishes_the_names_that_were_begun(
    tmp_path: Path,
) -> None:
    old = names("1.0.0", moving=("latest",))
    new = names("1.1.0", moving=("latest",), created=COMMITTED + timedelta(hours=1))
    first, second = (
        release_image(tmp_path / "build", old, "one"),
        release_image(tmp_path / "build", new, "two"),
    )
    finished = 0
    for at in range(1, 10**3, 3):  # the other moments are those of the test above
        where = [MemoryRegistry(f"host{number}/m") for number in range(2)]
        killed = await killed_at(at, first, old, where, tmp_path / str(at))
        begun = any(one.tag_list for one in where)
        assert not await killed_at(0, second, new, where, tmp_path / str(at))
        for one in where:
            assert one.tag_list["latest"] == one.tag_list["1.1.0"] == second.digest
            assert not begun or one.tag_list["1.0.0"] == first.digest, at
        finished += begun
        assert journal(tmp_path / str(at)).releases == (), at
        if not killed:
            break
    assert finished > 4


# Mounts and resumed uploads


async def test_a_blob_of_another_repository_of_the_host_is_mounted(
    tmp_path: Path, fake: FakeRegistry
) -> None:
    wanted = names()
    release = release_image(tmp_path, wanted, "base", "code")
    await push(release, wanted, [target(fake.host)], journal=journal(tmp_path, "langid"))
    fake.log.clear()

    mounted = []

    def mount(request: Request) -> Response | None:
        if request.query.get("from") == "models/langid" and request.query["mount"] in fake.blobs:
            mounted.append(request.query["mount"])
            return Response(201, {"Docker-Content-Digest": request.query["mount"]})
        return None

    def unknown(request: Request) -> Response | None:
        return None if request.path.rpartition("/")[2] in mounted else error(404, "BLOB_UNKNOWN")

    fake.fault("POST", "models/sentiment/blobs/uploads", mount, times=99)
    fake.fault("HEAD", "models/sentiment/blobs/", unknown, times=99)
    second = target(fake.host, path="models/sentiment")
    receipt = await push(release, wanted, [second], journal=journal(tmp_path, "sentiment"))
    assert sorted(mounted) == sorted(blob.digest for blob in release.image.blobs)
    assert receipt.deliveries[0].mounted == release.image.size
    assert receipt.deliveries[0].uploaded == len(release.manifest.body)
    assert "MB taken over from other repositories" in receipt.summary()


async def test_a_registry_that_does_not_mount_is_sent_the_blobs(tmp_path: Path, fake: FakeRegistry) -> None:
    wanted = names()
    release = release_image(tmp_path, wanted, "a", "b", "c", "d")
    book = journal(tmp_path)
    book.holds(f"{fake.host}/models/beside", [blob.digest for blob in release.image.blobs])
    receipt = await push(release, wanted, [target(fake.host)], journal=book)
    [one] = receipt.deliveries
    assert (one.state, one.mounted, one.uploaded) == (State.PUSHED, 0, release.size)
    assert len([request for request in fake.log if "mount" in request.query]) < 5


async def test_what_an_earlier_run_had_sent_is_told(
    tmp_path: Path, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = OpenRepository.put_blob

    async def resumed(self: OpenRepository, source: object) -> int:
        return await whole(self, source) - 10  # type: ignore[arg-type]  # the source of any blob

    monkeypatch.setattr(OpenRepository, "put_blob", resumed)
    wanted = names()
    receipt = await push(
        release_image(tmp_path, wanted), wanted, [target(fake.host)], journal=journal(tmp_path)
    )
    assert receipt.deliveries[0].resumed == 30
    assert "0.1 MB were sent by an earlier run" in receipt.summary()


def test_origins_are_of_the_same_host_and_few(tmp_path: Path) -> None:
    for number in range(4):
        journal(tmp_path, f"m{number}").holds(f"host:5000/models/m{number}", [DIGEST])
    journal(tmp_path, "far").holds("elsewhere/models/far", [DIGEST])
    origins = journal(tmp_path, "m0").origins("host:5000/models/m0")
    assert origins(DIGEST) == ("models/m1", "models/m2")
    assert origins("sha256:" + "2" * 64) == ()
