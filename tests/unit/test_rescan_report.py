"""Stored SBOMs read back, the advisories on a distribution, and what the report says."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sboms import contents, python, revision

from pipelines.config import Model
from pipelines.config_scan import ScanPolicy
from pipelines.errors import ScanBlocked
from pipelines.rescan_report import Place, Rejudged, RescannedModel, RescanReport
from pipelines.rescan_sources import Asked, rejudged_os
from pipelines.sbom_contents import stored_inventory
from pipelines.scanners.advisories import AdvisoryData, Package
from pipelines.scanners.contents import OsPackage
from pipelines.scanners.licences import licensed
from pipelines.scanners.policy import judge
from pipelines.scanners.port import CouldNotLookError, Finding, ScannerResult
from pipelines.stages.inventory import listed

pytestmark = pytest.mark.anyio
DEBIAN = replace(
    contents(python({"jinja2": "3.1"})),
    os_packages=(OsPackage("libssl3", "3.0.9-1", "amd64", "openssl", "3.0.9-1", "", "deb", ("Apache-2.0",)),),
)


def model(directory: Path = Path("/src/langid"), **scan: Any) -> Model:
    policy = ScanPolicy.model_validate(scan)
    return Model(name="langid", directory=directory, file=directory / "modelport.yaml", scan=policy)


def record(name: str, ecosystem: str, fixed: str) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]
    package = {"ecosystem": ecosystem, "name": "openssl"}
    return {
        "id": name,
        "modified": "2026-11-22T00:00:00Z",
        "summary": "x",
        "affected": [{"package": package, "ranges": ranges}],
    }


def write_zip(file: Path, *records: dict[str, Any]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for one in records:
            archive.writestr(f"{one['id']}.json", json.dumps(one))


def test_an_sbom_of_ours_says_again_what_it_was_made_of() -> None:
    by_debian = replace(python({"six": "1.16"})[0], debian=True)
    made = replace(DEBIAN, python=(*DEBIAN.python, by_debian))
    read = stored_inventory([listed(made, model(), revision(3)).sbom])
    assert {(one.name, one.version, one.debian) for one in read.contents.python} == {
        ("jinja2", "3.1", False),
        ("six", "1.16", True),
    }
    (package,) = read.contents.os_packages
    assert (package.source, package.source_version, package.kind) == ("openssl", "3.0.9-1", "deb")
    assert read.contents.os_release["ID"] == "debian"
    assert not read.contents.problems
    assert read.timestamp == "2026-01-03T00:00:00Z"
    told = {(one.kind, one.name, one.expression) for one in read.licensed if one.kind != "model"}
    assert told == {(one.kind, one.name, one.expression) for one in licensed(made)}


def test_an_incomplete_sbom_is_not_taken_for_all_there_is() -> None:
    made = listed(replace(DEBIAN, problems=("/x: not readable",)), model(), revision())
    assert stored_inventory([made.sbom]).contents.problems


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"bomFormat": "SPDX"}', b'{"bomFormat": "CycloneDX"}'])
def test_what_is_no_sbom_is_could_not_look(body: bytes) -> None:
    with pytest.raises(CouldNotLookError, match="can't be read"):
        stored_inventory([body])


async def test_debians_own_security_updates_count_and_no_other_record(tmp_path: Path) -> None:
    update = record("DSA-1-1", "Debian:12", "3.0.11-1")
    unfixed = record("DEBIAN-CVE-2026-1", "Debian:12", "99")
    write_zip(tmp_path / "debian.zip", update, unfixed, record("DSA-2-1", "Debian:11", "99"))
    one = model(tmp_path, os_packages={"source": "debian.zip"})
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    result = await rejudged_os(DEBIAN, one, environ, {})
    assert [(finding.id, finding.severity, finding.fixed_in) for finding in result.findings] == [
        ("DSA-1-1", "high", "3.0.11-1")
    ]
    write_zip(tmp_path / "debian.zip", unfixed)
    told = await rejudged_os(DEBIAN, one, environ, {})
    assert not told.audited
    assert "knows nothing of Debian:12" in told.reason


async def test_the_advisories_on_all_images_are_asked_for_once() -> None:
    class Source:
        title, version, network = "test", "1", ""

        def __init__(self) -> None:
            self.questions: list[Sequence[Package]] = []

        async def advisories(self, packages: Sequence[Package]) -> dict[Package, list[Any]]:
            self.questions.append(packages)
            return {package: [] for package in packages}

        async def data(self) -> AdvisoryData:
            return AdvisoryData("2026-11-22")

    source = Source()
    asked = Asked(source)
    await asked.ask({("a", "1"), ("b", "2")})
    assert await asked.advisories([("a", "1")]) == {("a", "1"): []}
    assert source.questions == [[("a", "1"), ("b", "2")]]
    await asked.advisories([("c", "3"), ("a", "1")])
    assert source.questions[1:] == [[("c", "3")]]


def rejudged(*findings: Finding, audited: bool = True) -> Rejudged:
    results = (ScannerResult("python_packages", audited=audited, reason="no SBOM", findings=findings),)
    verdict = judge(results, model().scan, date(2026, 11, 23))
    since = {(one.id, one.subject): "1.0.0" for one in findings}
    places = (Place("one/langid", ("1.10.0", "1.9.0", "latest")),)
    return Rejudged("sha256:" + "a" * 64, places, "", results, verdict, since)


def test_a_finding_below_the_limit_is_told_and_passes() -> None:
    low = Finding("python_packages", "CVE-1", "low", "jinja2", "a title", "3.1", hint="upgrade")
    report = RescanReport((RescannedModel(model(), (rejudged(low),), (), 1),))
    report.verify()
    assert "low CVE-1 jinja2 3.1: below the limit" in report.text()
    assert "1 digest in 1 registry" in report.text()
    assert "nothing blocks, 1 finding told" in report.text()


def test_an_image_is_called_by_its_lowest_version() -> None:
    assert rejudged().name == "1.9.0"


def test_nothing_released_is_said() -> None:
    report = RescanReport((RescannedModel(model(), (), (), 0),))
    report.verify()
    assert "nothing is released" in report.text()


def test_a_registry_that_was_not_asked_blocks() -> None:
    report = RescanReport((RescannedModel(model(), (), (("one/langid", "timeout"),), 1),))
    with pytest.raises(ScanBlocked, match="one/langid could not be asked: timeout"):
        report.verify()
