"""Referrers: by the API, by the fallback tag where there is none, in a layout as entries without a name."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest
from images import names, release_image
from registries_fake import FakeRegistry, Request, Response, Ways, error, target

from pipelines.registries.descriptors import (
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    canonical_json,
    sha256,
)
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.errors import BrokenContent, ServerFault
from pipelines.registries.layout import ImageLayout
from pipelines.registries.port import Registry
from pipelines.registries.referrers import fallback_tag

pytestmark = pytest.mark.anyio
SUBJECT = Descriptor(OCI_MANIFEST, sha256(b"image"), 5)
SBOM = "application/vnd.cyclonedx+json"


def referrer(kind: str = SBOM, subject: Descriptor = SUBJECT, **annotations: str) -> Manifest:
    empty = Descriptor("application/vnd.oci.empty.v1+json", sha256(b"{}"), 2)
    content = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": empty.to_json(),
        "layers": [empty.to_json()],
        "subject": subject.to_json(),
        "annotations": annotations,
    }
    return Manifest(OCI_MANIFEST, canonical_json(content))


async def attach(remote: Registry, *referrers: Manifest) -> tuple[Descriptor, ...]:
    async with remote.open() as opened:
        async with anyio.create_task_group() as tasks:
            for one in referrers:
                tasks.start_soon(opened.attach, one)
        return await opened.referrers(SUBJECT.digest)


@pytest.mark.parametrize(
    "ways",
    [Ways(lists_referrers=True), Ways(lists_referrers=True, tells_subject=False), Ways()],
    ids=["api", "api that forgets the header", "tag"],
)
async def test_referrers_are_listed_with_their_kind(ways: Ways) -> None:
    api = ways.lists_referrers
    ours = [referrer(SBOM), referrer("application/vnd.in-toto+json", note="gate"), referrer("x", note="y")]
    async with FakeRegistry(ways=ways).running() as fake:
        found = await attach(target(fake.host), *ours)
        assert {entry.digest: entry.artifact_type for entry in found} == {
            one.digest: json.loads(one.body)["artifactType"] for one in ours
        }
        assert {"note": "gate"} in [entry.annotations for entry in found]
        assert bool(fake.tags) is not api
        written = len(fake.asked("PUT"))
        again = await attach(target(fake.host), *ours)
        assert again == found
        assert len(fake.asked("PUT")) == written + len(ours)  # the index did not change


async def test_the_fallback_index_keeps_what_others_wrote() -> None:
    theirs = {
        "mediaType": OCI_MANIFEST,
        "digest": sha256(b"other"),
        "size": 3,
        "platform": {"os": "x"},
        "new": 1,
    }
    index = Manifest(
        OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": [theirs], "kept": True}).encode()
    )
    async with FakeRegistry().running() as fake:
        async with target(fake.host).open() as opened:
            await opened.client.put_manifest(fallback_tag(SUBJECT.digest), index)
        assert len(await attach(target(fake.host), referrer())) == 2
        written = json.loads(fake.manifests[fake.tags[fallback_tag(SUBJECT.digest)]][1])
        assert written["kept"] is True
        assert written["manifests"][0] == theirs | {"new": 1}


async def test_a_referrer_that_another_client_overwrote_is_added_again() -> None:
    async with FakeRegistry().running() as fake:
        tag = fallback_tag(SUBJECT.digest)
        other = referrer("theirs")

        def overwrite(request: Request) -> Response:
            """The other client read before we wrote, and writes after us."""
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [other.as_referrer().to_json()]}
            body = json.dumps(index).encode()
            fake._answer(Request("PUT", request.path, {}, {"content-type": OCI_INDEX}, body))
            return Response(201)

        fake.fault("PUT", f"/manifests/{tag}", overwrite, times=2)
        found = await attach(target(fake.host), referrer())
        assert {entry.artifact_type for entry in found} == {"theirs", SBOM}


async def test_it_does_not_fight_for_ever() -> None:
    async with FakeRegistry().running() as fake:
        fake.fault("PUT", f"/manifests/{fallback_tag(SUBJECT.digest)}", Response(201), times=100)
        async with target(fake.host).open() as opened:
            with pytest.raises(ServerFault, match="others write to sha256-"):
                await opened.attach(referrer())


async def test_nothing_refers_to_it() -> None:
    async with FakeRegistry().running() as fake, target(fake.host).open() as opened:
        assert await opened.referrers(SUBJECT.digest) == ()
        fake.creates_repositories = False
        fake.fault("GET", "/manifests/", error(404, "NAME_UNKNOWN"), times=1)
        assert await opened.referrers(SUBJECT.digest) == ()


async def test_a_page_of_a_website_is_no_list() -> None:
    async with FakeRegistry().running() as fake, target(fake.host).open() as opened:
        await opened.attach(referrer())
        fake.fault("GET", "/referrers/", Response(200, {"Content-Type": "text/html"}, b"<html>"))
        assert len(await opened.referrers(SUBJECT.digest)) == 1


async def test_pages_of_the_api() -> None:
    first, second = (referrer(kind).as_referrer().to_json() for kind in ("a", "b"))

    def page(request: Request) -> Response:
        entry = second if request.query.get("page") else first
        body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
        link = {} if request.query.get("page") else {"Link": f'<{request.path}?page=2>; rel="next"'}
        return Response(200, {"Content-Type": OCI_INDEX, **link}, body)

    async with FakeRegistry().running() as fake, target(fake.host).open() as opened:
        fake.fault("GET", "/referrers/", page, times=2)
        assert [entry.artifact_type for entry in await opened.referrers(SUBJECT.digest)] == ["a", "b"]


async def test_a_tag_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    async with FakeRegistry().running() as fake, target(fake.host).open() as opened:
        image = release_image(tmp_path, names()).manifest
        await opened.client.put_manifest(fallback_tag(SUBJECT.digest), image)
        with pytest.raises(BrokenContent, match="lists no referrers"):
            await opened.attach(referrer())
        assert fake.tags[fallback_tag(SUBJECT.digest)] == image.digest


async def test_a_manifest_without_a_subject_refers_to_nothing(tmp_path: Path) -> None:
    async with FakeRegistry().running() as fake, target(fake.host).open() as opened:
        with pytest.raises(BrokenContent, match="without a subject"):
            await opened.attach(release_image(tmp_path, names()).manifest)


async def test_a_layout_keeps_referrers_without_a_name(tmp_path: Path) -> None:
    layout = ImageLayout.create(tmp_path)
    remote = LayoutRegistry(layout)
    one, other = referrer(SBOM, note="kept"), referrer("x")
    found = await attach(remote, one, other, one)
    assert {entry.artifact_type for entry in found} == {SBOM, "x"}
    assert len(await attach(remote, one)) == 2
    assert layout.tags() == {}
    release = release_image(tmp_path, names("1.0"))
    async with remote.open() as opened:
        await opened.tag("1.0", release.manifest)
        assert await opened.tags() == ("1.0",)
        assert await opened.referrers(release.digest) == ()
        assert len(await opened.referrers(SUBJECT.digest)) == 2
    layout.path(one.digest).unlink()  # an entry whose blob somebody removed
    assert [entry.artifact_type for entry in layout.referrers(SUBJECT.digest)] == ["x"]
