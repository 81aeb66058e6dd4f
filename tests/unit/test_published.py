"""What is published now: read whole, asked once, and never "nothing" where nobody could be asked."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from images import COMMITTED, built_image, names, release_image
from registries_fake import FakeRegistry, target

from pipelines.config import Model
from pipelines.plan import Plan
from pipelines.published import CouldNotTell, Published, find_published, once, published_in
from pipelines.published_image import _archive
from pipelines.registries.archive import take_archive
from pipelines.registries.descriptors import canonical_json
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.errors import Unreachable
from pipelines.registries.layout import ImageLayout
from pipelines.registries.port import Registry
from pipelines.release_image import ReleaseImage
from pipelines.stages.push import push
from pipelines.statements import GateVerdict, Result, sbom_referrer, verdict_referrer

pytestmark = pytest.mark.anyio
NAMES = names("latest")
SBOM = canonical_json(
    {"bomFormat": "CycloneDX", "components": [{}], "compositions": [{"aggregate": "complete"}]}
)
CHECK = GateVerdict("check", Result.PASSED, facts={"quality": {"value": "0.964"}})


class Silent:
    """A registry that nobody reaches."""

    name = "silent.example.com/models/langid"
    is_directory = False

    @asynccontextmanager
    async def open(self, sessions: object = None) -> AsyncIterator[None]:
        raise Unreachable("silent.example.com: connection refused")
        yield


@pytest.fixture
def release(tmp_path: Path) -> ReleaseImage:
    return release_image(tmp_path / "layout", NAMES)


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().running() as registry:
        yield registry


def plan(release: ReleaseImage, *targets: object, model: object = None) -> Plan:
    known = model or SimpleNamespace(name="langid", registries=())
    return cast(Plan, SimpleNamespace(model=known, layout=release.layout, targets=targets))


async def pushed(release: ReleaseImage, to: Registry) -> None:
    referrers = (
        verdict_referrer(CHECK, "langid", release.manifest, release.layout),
        sbom_referrer(SBOM, release.manifest, release.layout),
    )
    await push(release, NAMES, [to], referrers=referrers)


async def test_labels_records_sbom_and_size(fake: FakeRegistry, release: ReleaseImage) -> None:
    to = target(fake.host)
    await pushed(release, to)
    found = await find_published(plan(release, to), "latest")
    assert found is not None
    assert found.reference == f"{fake.host}/models/langid@{release.digest}"
    assert found.labels == release.labels
    assert found.facts("check") == {"quality": {"value": "0.964"}}
    assert found.facts("scan") == {}
    assert found.sbom == SBOM
    assert found.size == release.size


async def test_nothing_there_yet_is_none(fake: FakeRegistry, release: ReleaseImage) -> None:
    assert await find_published(plan(release, target(fake.host)), "latest") is None


async def test_the_first_that_answers_counts(fake: FakeRegistry, release: ReleaseImage) -> None:
    await pushed(release, target(fake.host))
    found = await find_published(plan(release, Silent(), target(fake.host)), "latest")
    assert found is not None
    assert found.digest == release.digest


async def test_nobody_to_ask_is_not_nothing(release: ReleaseImage) -> None:
    with pytest.raises(CouldNotTell, match="connection refused"):
        await find_published(plan(release, Silent()), "latest")


async def test_a_registry_that_takes_too_long_is_passed_over(
    release: ReleaseImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    import anyio

    class Slow(Silent):
        @asynccontextmanager
        async def open(self, sessions: object = None) -> AsyncIterator[None]:
            await anyio.sleep(60)
            yield

    monkeypatch.setattr("pipelines.published.LIMIT_S", 0.05)
    with pytest.raises(CouldNotTell, match="did not answer within"):
        await find_published(plan(release, Slow()), "latest")


async def test_a_secret_that_is_not_set_is_could_not_tell(
    fake: FakeRegistry, release: ReleaseImage, tmp_path: Path
) -> None:
    fake.basic = "Basic Y2k6cmlnaHQ="
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    secrets = {"username": "env://NO_SUCH", "password": "env://NO_SUCH"}
    model = Model.model_validate(
        {
            "name": "langid",
            "registries": [{"repository": f"{fake.host}/models", **secrets}],
            "directory": tmp_path,
            "file": tmp_path / "modelport.yaml",
        }
    )
    with pytest.raises(CouldNotTell, match="NO_SUCH is not set"):
        await find_published(plan(release, model=model), "latest", {})


async def test_a_held_back_commit_is_compared_too(release: ReleaseImage) -> None:
    """A pull request has no targets; what is published is asked of the layout, or the registries."""
    await pushed(release, LayoutRegistry(release.layout))
    found = await find_published(plan(release), "latest", {})
    assert found is not None
    assert (found.reference, found.digest) == ("", release.digest)


async def test_it_is_asked_once_however_many_want_to_know() -> None:
    import anyio

    asked: list[int] = []

    async def ask() -> Published | None:
        asked.append(1)
        await anyio.sleep(0.01)
        raise CouldNotTell("no")

    source = once(ask)
    for _ in range(2):
        with pytest.raises(CouldNotTell, match="no"):
            await source()
    assert len(asked) == 1


async def test_it_is_what_was_built_now_but_for_its_labels(tmp_path: Path) -> None:
    layout = ImageLayout.create(tmp_path / "layout")
    built = built_image(layout)
    release = built.release(NAMES, COMMITTED)
    await pushed(release, LayoutRegistry(layout))
    found = await published_in(LayoutRegistry(layout), "latest", layout)
    assert found is not None
    assert found.holds(built)
    assert not found.holds(built_image(layout, "base", "other code"))


async def test_the_archive_for_an_engine_is_whole(
    fake: FakeRegistry, release: ReleaseImage, tmp_path: Path
) -> None:
    """Blobs that this machine has not are fetched; the archive is the same each time, and there is one."""
    to = target(fake.host)
    await pushed(release, to)
    store = ImageLayout.create(tmp_path / "empty")
    found = await published_in(to, "latest", store)
    assert found is not None
    archive = await _archive(found)
    first = archive.read_bytes()
    assert take_archive(archive, ImageLayout.create(tmp_path / "taken")).digest == release.digest
    archive.unlink()
    (archive.parent / "old.tar").write_text("")
    assert (await _archive(found)).read_bytes() == first
    assert [one.name for one in archive.parent.iterdir()] == [archive.name]
    with tarfile.open(archive) as tar:
        assert {one.mtime for one in tar} == {0}


def test_printing_it_tells_no_secret() -> None:
    fields: dict[str, Any] = Published.__dataclass_fields__
    assert not fields["registry"].repr
