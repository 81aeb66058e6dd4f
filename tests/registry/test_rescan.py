"""Released digests judged again from their stored SBOMs, on a real registry: no image is pulled for it."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from images import names, release_image
from registries_fake import FakeRegistry, Response, target
from registry_process import RegistryProcess, need_registry, registry, running_registry
from sboms import contents, python, revision

from pipelines.config import load
from pipelines.errors import ScanBlocked
from pipelines.registries.blob_source import BlobSource
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.layout import ImageLayout
from pipelines.registries.port import Registry
from pipelines.release_image import ReleaseImage
from pipelines.rescan import rescan
from pipelines.rescan_report import RescanReport
from pipelines.stages.inventory import listed
from pipelines.stages.push import push
from pipelines.statements import sbom_referrer

__all__ = ["registry"]  # the fixture

pytestmark = [pytest.mark.anyio, pytest.mark.registry]
PATH = "models/langid"
TODAY = date(2026, 11, 23)
LENIENT = {"os_packages": "warn"}


def advisory(name: str = "CVE-2026-1", package: str = "jinja2", fixed: str = "3.2") -> dict[str, Any]:
    return {
        "id": name,
        "modified": "2026-11-22T00:00:00Z",
        "summary": "Templates run what they are told",
        "database_specific": {"severity": "HIGH"},
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": package},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}],
            }
        ],
    }


def write_advisories(file: Path, *records: dict[str, Any]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for record in records:
            archive.writestr(f"{record['id']}.json", json.dumps(record))


def configure(checkout: Path, *registries: str, **scan: Any) -> None:
    checkout.mkdir(exist_ok=True)
    (checkout / "Dockerfile").write_text("FROM scratch\n")
    policy = {"python_packages": {"source": "osv.zip"}, "could_not_look": LENIENT} | scan
    document = {"name": "langid", "registries": list(registries), "scan": policy}
    (checkout / "modelport.yaml").write_text(json.dumps(document))  # JSON is YAML


async def released(
    directory: Path, registries: list[Registry], tags: tuple[str, ...], packages: dict[str, str], day: int
) -> ReleaseImage:
    """An image with its SBOM, pushed as a run pushes it."""
    wanted = names(*tags, moving=("latest",), commit=f"{day:040x}")
    image = release_image(directory, wanted, f"code of {tags[0]}")
    made = listed(
        contents(python=python(packages)), load(directory.parent / "team" / "modelport.yaml"), revision(day)
    )
    beside = [sbom_referrer(made.sbom, image.manifest, image.layout)]
    await push(image, wanted, registries, referrers=beside)
    return image


async def again(checkout: Path, **more: Any) -> RescanReport:
    return await rescan(checkout, dict(os.environ) | {"XDG_CACHE_HOME": str(checkout)}, today=TODAY, **more)


async def test_a_new_advisory_names_the_live_tags_in_every_registry(
    registry: RegistryProcess, tmp_path: Path
) -> None:
    need_registry()
    checkout = tmp_path / "team"
    with running_registry(tmp_path / "second") as second:
        configure(checkout, f"{registry.host}/models", f"{second.host}/models")
        both: list[Registry] = [target(registry.host), target(second.host)]
        write_advisories(checkout / "osv.zip", advisory("CVE-2020-9", "numpy", "1.0"))
        old = await released(tmp_path / "a", both, ("1.0.0",), {"jinja2": "3.1", "numpy": "2.4"}, 1)
        new = await released(tmp_path / "b", both[:1], ("1.1.0",), {"jinja2": "3.2"}, 2)
        calm = await again(checkout)
        calm.verify()
        assert "nothing blocks" in calm.text()

        write_advisories(checkout / "osv.zip", advisory("CVE-2020-9", "numpy", "1.0"), advisory())
        report = await again(checkout)
        # Between the two nothing was written to a registry, and no layer was read from one.
        (affected,) = report.models[0].affected()
        assert (affected.finding.id, affected.since, affected.standing) == ("CVE-2026-1", "1.0.0", "blocks")
        told = affected.to_json()["tags"]
        assert told == [
            {"registry": f"{registry.host}/{PATH}", "digest": old.digest, "tags": ["1.0.0"]},
            {"registry": f"{second.host}/{PATH}", "digest": old.digest, "tags": ["1.0.0", "latest"]},
        ]
        assert new.digest not in json.dumps(told)
        with pytest.raises(ScanBlocked, match=r"CVE-2026-1: jinja2 3\.1") as caught:
            report.verify()
        assert caught.value.exit_code == 5
        assert "upgrade jinja2 to 3.2" in caught.value.hint

        only_new = await again(checkout, tag="1.1.*")
        only_new.verify()
        assert [image.digest for image in only_new.models[0].images] == [new.digest]


async def test_a_waiver_of_today_counts_for_what_was_released_before(
    registry: RegistryProcess, tmp_path: Path
) -> None:
    checkout = tmp_path / "team"
    waiver = {"id": "CVE-2026-1", "reason": "not reached", "owner": "team", "expires": "2026-11-30"}
    configure(checkout, f"{registry.host}/models")
    write_advisories(checkout / "osv.zip", advisory())
    await released(tmp_path / "a", [target(registry.host)], ("1.0.0",), {"jinja2": "3.1"}, 1)
    with pytest.raises(ScanBlocked):
        (await again(checkout)).verify()
    configure(checkout, f"{registry.host}/models", waivers=[waiver])
    report = await again(checkout)
    report.verify()
    assert "waived until 2026-11-30" in report.text()


async def test_no_sbom_and_no_data_are_told_and_block_as_the_policy_says(
    registry: RegistryProcess, tmp_path: Path
) -> None:
    checkout = tmp_path / "team"
    configure(checkout, f"{registry.host}/models", could_not_look={})
    write_advisories(checkout / "osv.zip", advisory())
    bare = release_image(tmp_path / "bare", names("0.9.0"), "bare")
    await push(bare, names("0.9.0"), [target(registry.host)])
    report = await again(checkout)
    assert "could not look: os, python, licences of" in report.text()
    assert "no SBOM is recorded of it" in report.text()
    with pytest.raises(ScanBlocked, match="not audited: no SBOM"):
        report.verify()
    everything = {"os_packages": "warn", "python_packages": "warn", "licences": "warn"}
    configure(checkout, f"{registry.host}/models", could_not_look=everything)
    report = await again(checkout)
    report.verify()
    assert "no SBOM is recorded of it" in report.text(), "passed, and still said"

    await released(tmp_path / "a", [target(registry.host)], ("1.0.0",), {"jinja2": "3.1"}, 1)
    (checkout / "osv.zip").unlink()
    configure(checkout, f"{registry.host}/models", could_not_look=LENIENT | {"python_packages": "block"})
    with pytest.raises(ScanBlocked, match="no OSV zip"):
        (await again(checkout, tag="1.0.0")).verify()


async def test_a_registry_that_is_away_is_never_taken_for_empty(
    registry: RegistryProcess, tmp_path: Path
) -> None:
    checkout = tmp_path / "team"
    configure(checkout, f"{registry.host}/models", "127.0.0.1:1/models")
    write_advisories(checkout / "osv.zip", advisory("CVE-2020-9", "numpy", "1.0"))
    await released(tmp_path / "a", [target(registry.host)], ("1.0.0",), {"jinja2": "3.1"}, 1)
    report = await again(checkout)
    with pytest.raises(ScanBlocked, match=r"127\.0\.0\.1:1/models/langid could not be asked"):
        report.verify()
    assert report.to_json()["models"][0]["could_not_ask"][0]["registry"] == "127.0.0.1:1/models/langid"  # type: ignore[index,call-overload]  # JSON


async def test_only_manifests_and_sboms_are_read(tmp_path: Path) -> None:
    checkout = tmp_path / "team"
    async with FakeRegistry().running() as fake:
        configure(checkout, f"{fake.host}/models")
        write_advisories(checkout / "osv.zip", advisory())
        image = await released(tmp_path / "a", [target(fake.host)], ("1.0.0",), {"jinja2": "3.1"}, 1)
        fake.log.clear()
        await again(checkout)
        assert {request.method for request in fake.log} <= {"GET", "HEAD"}
        read = {path.rpartition("/")[2] for path in fake.asked("GET", "/blobs/")}
        assert not read & {blob.digest for blob in image.image.blobs}
        fake.fault("GET", "/blobs/", Response(403), times=99)
        report = await again(checkout)
        assert "could not look: os, python, licences of" in report.text()


async def test_the_layout_of_a_run_without_a_registry(tmp_path: Path) -> None:
    checkout = tmp_path / "team"
    configure(checkout)
    write_advisories(checkout / "osv.zip", advisory())
    layout = ImageLayout.create(checkout / ".modelport" / "images" / "langid")
    made = await released(tmp_path / "a", [LayoutRegistry(layout)], ("1.0.0",), {"jinja2": "3.1"}, 1)
    (image,) = (await again(checkout)).models[0].images
    assert (image.digest, image.name) == (made.digest, "1.0.0")
    assert image.verdict.blocks


async def test_a_second_sbom_hides_nothing(tmp_path: Path) -> None:
    checkout = tmp_path / "team"
    async with FakeRegistry().running() as fake:
        configure(checkout, f"{fake.host}/models")
        write_advisories(checkout / "osv.zip", advisory())
        image = await released(tmp_path / "a", [target(fake.host)], ("1.0.0",), {"jinja2": "3.1"}, 1)
        clean = listed(replace(contents(), python=()), load(checkout / "modelport.yaml"), revision(1))
        async with target(fake.host).open() as opened:
            referrer = sbom_referrer(clean.sbom, image.manifest, image.layout)
            for blob in referrer.image().blobs:
                await opened.put_blob(BlobSource(blob, image.layout.path(blob.digest)))
            await opened.attach(referrer)
        (found,) = (await again(checkout)).models[0].affected()
        assert found.finding.id == "CVE-2026-1"
