"""Promotions: what goes along, what has to be proved, in which order, and what is told."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from images import COMMIT, COMMITTED, names, release_image
from registries_fake import FakeRegistry, Response, Ways, error, target

from pipelines.config import Model
from pipelines.errors import PipelineError, PushFailed, TraceFailed, UsageError
from pipelines.promote import promote
from pipelines.promotion import NotProved, Promotion
from pipelines.promotion_content import Fetched
from pipelines.registries.descriptors import (
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    canonical_json,
    sha256,
)
from pipelines.registries.oci import OpenRepository
from pipelines.release_image import ReleaseImage
from pipelines.release_tags import is_release_tag
from pipelines.stages import moving_tags
from pipelines.stages.push import push
from pipelines.stages.tag import Names
from pipelines.statements import GateVerdict, Result, sbom_referrer, verdict_referrer

pytestmark = pytest.mark.anyio
PATH = "models/langid"
SBOM = b'{"bomFormat":"CycloneDX","components":[],"compositions":[{"aggregate":"complete"}]}'
PASSED = (GateVerdict("check", Result.PASSED, ("golden",)), GateVerdict("scan", Result.WARNED, (), ("old",)))


@dataclass
class World:
    """A registry that releases go to, two of production, and a checkout with the configuration."""

    source: FakeRegistry
    one: FakeRegistry
    two: FakeRegistry
    checkout: Path

    def configure(self, *registries: FakeRegistry, more: str = "") -> None:
        addresses = ", ".join(f"{fake.host}/models" for fake in registries or (self.one,))
        (self.checkout / "modelport.yaml").write_text(
            f"name: langid\nregistries: [{self.source.host}/models]\n"
            f"environments:\n  production:\n    registries: [{addresses}]\n    moving_tags: [production]\n"
            + more
        )

    async def release(
        self,
        *version_tags: str,
        verdicts: tuple[GateVerdict, ...] = PASSED,
        sbom: bool = True,
        hours: int = 0,
    ) -> ReleaseImage:
        tags = version_tags or (COMMIT[:12], "1.2.0")
        wanted = names(*tags, moving=("latest",), created=COMMITTED + timedelta(hours=hours))
        image = release_image(self.checkout.parent / "layout", wanted, *tags)
        beside = [verdict_referrer(one, "langid", image.manifest, image.layout) for one in verdicts]
        beside += [sbom_referrer(SBOM, image.manifest, image.layout)] if sbom else []
        await push(image, wanted, [target(self.source.host)], referrers=beside)
        return image

    async def promote(self, wanted: str = "1.2.0", *, dry_run: bool = False) -> Promotion:
        separator = "@" if wanted.startswith("sha256:") else ":"
        reference = f"{self.source.host}/{PATH}{separator}{wanted}"
        return await promote(reference, "production", self.checkout, dict(os.environ), dry_run)


@pytest.fixture(autouse=True)
def no_other_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else moves a tag here: there is nothing to wait for."""
    monkeypatch.setattr(moving_tags, "SETTLE_S", 0)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        fakes = [
            await stack.enter_async_context(FakeRegistry(ways=Ways(lists_referrers=True)).running())
            for _ in range(3)
        ]
        checkout = tmp_path / "langid"
        checkout.mkdir()
        (checkout / "Dockerfile").write_text("FROM scratch\n")
        made = World(*fakes, checkout)
        made.configure()
        yield made


def writes(fake: FakeRegistry) -> list[str]:
    return [request.path for request in fake.log if request.method in ("PUT", "POST", "PATCH")]


def attached(world: World, subject: Manifest, text: str) -> Manifest:
    """Something that refers to ``subject``, put into the source by hand."""
    body = text.encode()
    config = b"{}"
    content = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.example.signature",
        "config": Descriptor("application/vnd.oci.empty.v1+json", sha256(config), 2).to_json(),
        "layers": [Descriptor("text/plain", sha256(body), len(body)).to_json()],
        "subject": subject.descriptor.to_json(),
    }
    manifest = Manifest(OCI_MANIFEST, canonical_json(content))
    world.source.blobs |= {sha256(config): config, sha256(body): body}
    world.source.manifests[manifest.digest] = (OCI_MANIFEST, manifest.body)
    return manifest


async def test_a_release_goes_by_digest_with_its_referrers_and_release_tags(world: World) -> None:
    image = await world.release()
    world.configure(world.one, world.two)
    done = await world.promote()
    assert done.digest == image.digest
    for fake in (world.one, world.two):
        assert fake.tags == {COMMIT[:12]: image.digest, "1.2.0": image.digest, "production": image.digest}
        assert set(fake.manifests) == set(world.source.manifests), "with the verdicts and the SBOM"
        assert set(fake.blobs) == set(world.source.blobs)
        order = fake.order()
        assert order.index("tag 1.2.0") > max(
            place for place, what in enumerate(order) if what in ("blob", "manifest")
        )
        assert order[-1] == "tag production", "moving tags last"
    assert [share.tags for share in done.shares] == [("1.2.0", COMMIT[:12], "production")] * 2
    assert "check passed · scan warned · inventory passed" in done.text()
    assert json.loads(json.dumps(done.to_json()))["gates"]["scan"]["result"] == "WARNED"
    assert [share.copied for share in done.shares] == [world_size(world)] * 2


def world_size(world: World) -> int:
    return sum(map(len, world.source.blobs.values())) + sum(
        len(body) for _, body in world.source.manifests.values()
    )


async def test_what_refers_to_a_referrer_goes_along_and_later_additions_follow(world: World) -> None:
    image = await world.release()
    [sbom] = [Manifest(kind, body) for kind, body in world.source.manifests.values() if b"cyclonedx" in body]
    signature = attached(world, sbom, "signed")
    await world.promote()
    assert signature.digest in world.one.manifests
    assert world.one.blobs[sha256(b"signed")] == b"signed"
    second = attached(world, signature, "countersigned")
    foreseen = await world.promote(image.digest, dry_run=True)
    again = await world.promote(image.digest)
    assert second.digest in world.one.manifests
    assert foreseen.shares == again.shares
    assert 0 < again.shares[0].copied < 1500
    assert (await world.promote()).shares[0].copied == 0, "and then there is nothing to do"


async def test_each_blob_is_fetched_once_for_all_registries_and_nothing_stays_on_disk(world: World) -> None:
    image = await world.release()
    world.source.log.clear()
    world.configure(world.one, world.two)
    await world.promote()
    for layer in image.image.layers:
        assert len(world.source.asked("GET", layer.digest)) == 1
    assert not list((world.checkout / ".modelport").glob("promote-*"))


async def test_what_a_killed_promotion_left_is_removed_after_a_day(world: World) -> None:
    await world.release()
    state = world.checkout / ".modelport"
    for name, age_s in (("promote-old", 90_000), ("promote-busy", 60)):
        (state / name).mkdir(parents=True)
        when = time.time() - age_s
        os.utime(state / name, (when, when))
    await world.promote()
    assert [path.name for path in state.glob("promote-*")] == ["promote-busy"]


async def test_a_full_disk_is_told_as_such(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.release()

    async def full(self: object, blob: Descriptor, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(OpenRepository, "download_blob", full)
    with pytest.raises(PushFailed, match="No space left on device") as caught:
        await world.promote()
    assert "are needed there" in caught.value.hint
    assert world.one.tags == {}


async def test_a_blob_s_file_goes_when_the_last_registry_has_it(world: World, tmp_path: Path) -> None:
    image = await world.release()
    blob = image.image.layers[0]
    origin = target(world.source.host)
    async with origin.open() as registry:
        fetched = Fetched(origin, registry, tmp_path, readers=2)
        path = (await fetched.source(blob)).path
        fetched.sent(blob)
        assert path.exists()
        fetched.sent(blob)
        assert not path.exists()


@pytest.mark.parametrize(
    ("verdicts", "sbom", "says"),
    [
        (PASSED[:1], True, "scan is not recorded"),
        (PASSED, False, "inventory is not recorded"),
        ((), False, "check is not recorded; scan is not recorded; inventory is not recorded"),
        ((PASSED[0], GateVerdict("scan", Result.FAILED, failed=("CVE-1",))), True, "scan failed (CVE-1)"),
    ],
)
async def test_without_its_gates_nothing_is_copied(
    world: World, verdicts: tuple[GateVerdict, ...], sbom: bool, says: str
) -> None:
    await world.release(verdicts=verdicts, sbom=sbom)
    with pytest.raises(NotProved) as caught:
        await world.promote()
    assert says in str(caught.value)
    assert caught.value.exit_code == 9
    assert "modelport run" in caught.value.hint
    assert not writes(world.one)


async def test_an_environment_may_ask_for_less(world: World) -> None:
    await world.release(verdicts=PASSED[:1], sbom=False)
    world.configure(world.one, more="    gates: [check]\n")
    assert set((await world.promote()).gates) == {"check"}


async def test_a_failed_registry_keeps_all_from_naming_it(world: World) -> None:
    await world.release()
    world.configure(world.one, world.two)
    world.two.fault("PUT", r"/manifests/sha256:", error(403, "DENIED"), times=99)
    with pytest.raises(PushFailed) as caught:
        await world.promote()
    assert caught.value.exit_code == 6
    assert world.two.host in str(caught.value)
    assert world.one.tags == world.two.tags == {}
    world.two.faults.clear()
    again = await world.promote()
    assert again.shares[0].copied == 0, "what was brought the first time counts"
    assert set(world.one.tags) == set(world.two.tags) == {COMMIT[:12], "1.2.0", "production"}


async def test_a_release_tag_that_is_taken_there_stops_it_before_a_byte(world: World) -> None:
    await world.release()
    other = await world.release("2.0.0")
    world.configure(world.one, world.two)
    await world.promote("2.0.0")
    world.two.tags["1.2.0"] = other.digest
    world.one.log.clear()
    with pytest.raises(PushFailed, match="already") as caught:
        await world.promote()
    assert "never moves" in caught.value.hint
    assert not writes(world.one)
    with pytest.raises(PushFailed, match="already"):
        await world.promote(dry_run=True)


async def test_moving_tags_of_the_environment_only_move_forward(world: World) -> None:
    newer = await world.release("1.3.0", hours=-1)
    await world.promote("1.3.0")
    older = await world.release("1.2.9", hours=1)
    done = await world.promote("1.2.9")
    assert world.one.tags == {"1.3.0": newer.digest, "1.2.9": older.digest, "production": newer.digest}
    assert done.shares[0].kept == {"production": "it is 1.3.0, which is newer than 1.2.9"}
    assert "production not moved: it is 1.3.0" in done.text()
    latest = await world.release("1.3.1")
    await world.promote("1.3.1")
    assert world.one.tags["production"] == latest.digest


async def test_by_a_moving_tag_the_release_s_own_tags_go_and_not_that_one(world: World) -> None:
    image = await world.release()
    await world.promote("latest")
    assert world.one.tags == {COMMIT[:12]: image.digest, "1.2.0": image.digest, "production": image.digest}


async def test_an_index_goes_with_its_images(world: World) -> None:
    images = [await world.release("1.0.0"), await world.release("1.0.1")]
    entries = [
        image.manifest.descriptor.to_json() | {"platform": {"os": "linux", "architecture": architecture}}
        for image, architecture in zip(images, ("arm64", "amd64"), strict=True)
    ]
    index = Manifest(
        OCI_INDEX, canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    )
    world.source.manifests[index.digest] = (OCI_INDEX, index.body)
    world.source.tags = {"1.1.0": index.digest}
    signature = attached(world, index, "signed")
    done = await world.promote("1.1.0")
    assert done.digest == index.digest
    assert world.one.tags == {"1.1.0": index.digest, "production": index.digest}
    assert {index.digest, signature.digest, *(image.digest for image in images)} <= set(world.one.manifests)
    assert set(world.one.manifests) == set(world.source.manifests)
    stored = [request.path.rpartition("/")[2] for request in world.one.log if request.method == "PUT"]
    assert max(stored.index(image.digest) for image in images) < stored.index(index.digest), "children first"
    assert (await world.promote("1.1.0")).shares[0].copied == 0


async def test_an_index_is_proved_only_when_all_its_images_are(world: World) -> None:
    proved, bare = await world.release("1.0.0"), await world.release("1.0.1", verdicts=(), sbom=False)
    entries = [
        image.manifest.descriptor.to_json() | {"platform": {"os": "linux", "architecture": "amd64"}}
        for image in (proved, bare)
    ]
    index = Manifest(
        OCI_INDEX, canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    )
    world.source.manifests[index.digest] = (OCI_INDEX, index.body)
    world.source.tags = {"1.1.0": index.digest}
    with pytest.raises(NotProved, match="check is not recorded"):
        await world.promote("1.1.0")


async def test_a_dry_run_writes_nothing_and_tells_what_the_run_does(world: World) -> None:
    await world.release()
    foreseen = await world.promote(dry_run=True)
    assert not writes(world.one)
    assert foreseen.text().startswith("would promote ")
    done = await world.promote()
    assert {**done.to_json(), "dry_run": True} == foreseen.to_json()
    assert (await world.promote(dry_run=True)).shares == (await world.promote()).shares, "when all is there"


async def test_uncommitted_changes_are_not_promoted(world: World) -> None:
    wanted = Names((), ("x-dirty",), names(commit=f"{COMMIT}-dirty").labels)
    image = release_image(world.checkout.parent / "layout", wanted)
    await push(image, wanted, [target(world.source.host)])
    with pytest.raises(NotProved, match="uncommitted changes"):
        await world.promote("x-dirty")


@pytest.mark.parametrize(
    ("reference", "environment", "kind", "says"),
    [
        ("{host}/models/langid:1.2.0", "staging", UsageError, "langid has no environment staging"),
        (
            "{host}/models/filetype:1.2.0",
            "production",
            UsageError,
            "is an image of filetype, and here is langid",
        ),
        ("{host}/models/langid:9.9.9", "production", TraceFailed, "can't be read"),
        ("127.0.0.1:1/models/langid:1.2.0", "production", TraceFailed, "can't be read"),
    ],
)
async def test_what_can_not_be_promoted_is_explained(
    world: World, reference: str, environment: str, kind: type[PipelineError], says: str
) -> None:
    await world.release()
    with pytest.raises(kind, match=says) as caught:
        await promote(reference.format(host=world.source.host), environment, world.checkout, dict(os.environ))
    assert caught.value.hint


async def test_a_referrer_that_refers_to_another_image_is_refused(world: World) -> None:
    image = await world.release()
    stray = attached(world, image.manifest, "x")
    lie = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [stray.descriptor.to_json()]}
    config = next(one for one in world.source.manifests if one not in (image.digest, stray.digest))
    answer = json.dumps(lie).encode()
    world.source.fault(
        "GET", f"/referrers/{config}", Response(200, {"Content-Type": OCI_INDEX}, answer), times=9
    )
    with pytest.raises(TraceFailed, match="does not"):
        await world.promote()
    assert not writes(world.one)


def test_which_tags_are_the_release_s_own() -> None:
    def model(**values: object) -> Model:
        return Model.model_validate(
            {"name": "langid", "directory": Path("/m"), "file": Path("/m/modelport.yaml"), **values}
        )

    labels = names().labels
    plain = model(moving_tags=["latest", "{major}.{minor}", "{branch}"])
    own = {COMMIT[:12], "1.2.0", "1.2.0-rc.1", "1.2.0_cpu.5", "2026.1.0"}
    others = {"latest", "1.2", "main", "f" * 12, COMMIT[:7], "v1", f"{COMMIT[:12]}-dirty", "sha256-abc"}
    assert {tag for tag in own | others if is_release_tag(tag, plain, labels)} == own
    composed = model(tags=["{name}-{version}-{commit:7}", "build-{run}", "{date}-{commit}"])
    fits = {f"langid-1.2.0-{COMMIT[:7]}", "build-41", f"20260304-{COMMIT}", COMMIT[:12]}
    assert {tag for tag in fits | own if is_release_tag(tag, composed, labels)} == fits
    assert not is_release_tag("1.2.0", composed, labels)
    assert not is_release_tag(COMMIT[:12], plain, {}), "nothing tells that it is this image's"
