"""What is installed, Debian's pending updates, and advisories on Python packages."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines.in_engine import apt_updates, collect
from pipelines.scanners import os_packages
from pipelines.scanners.contents import Contents, PythonPackage
from pipelines.scanners.cvss import base_score, rating
from pipelines.scanners.osv import NotComparableError, affects, severity, vulnerabilities
from pipelines.scanners.osv_source import AdvisorySource, OsvService, OsvZip, Remembered, source_of
from pipelines.scanners.port import CouldNotLookError, ScannerResult
from pipelines.scanners.python_packages import judged

pytestmark = pytest.mark.anyio
SHARED_ZIP = Path(__file__).parents[3] / "shared" / "data" / "osv-pypi.zip"

OS_RELEASE = (
    'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
)
STATUS = """Package: openssl
Status: install ok installed
Architecture: amd64
Multi-Arch: foreign
Version: 3.0.11-1~deb12u2
Maintainer: Debian OpenSSL Team <team@example.org>
Description: toolkit
 with a continued: line

Package: libgcc-s1
Status: install ok installed
Source: gcc-12 (12.2.0-14)
Architecture: amd64
Version: 12.2.0-14+b1

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: held
Status: hold ok installed
Architecture: all
Version: 2
"""


def put(root: Path, path: str, text: str | bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(text.encode() if isinstance(text, str) else text)


def collected(root: Path, capsys: pytest.CaptureFixture[str], *globs: str) -> Contents:
    collect.main([str(root), *globs])
    return Contents.parse(json.loads(capsys.readouterr().out))


def test_collect_reads_debian_python_and_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "usr/lib/os-release", OS_RELEASE)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").symlink_to("../usr/lib/os-release")
    put(tmp_path, "var/lib/dpkg/status", STATUS)
    put(
        tmp_path,
        "var/lib/dpkg/info/python3-pip.list",
        "/usr/lib/python3/dist-packages/pip-23.0.dist-info/METADATA\n",
    )
    put(
        tmp_path,
        "usr/lib/python3/dist-packages/pip-23.0.dist-info/METADATA",
        "Name: pip\nVersion: 23.0\n\ntext",
    )
    put(
        tmp_path,
        "opt/app/lib/Foo_Bar-1.0.dist-info/METADATA",
        "Name: Foo.Bar\nVersion: 1.0\nClassifier: License :: OSI Approved :: MIT License\n\nName: no",
    )
    put(tmp_path, "venv/lib/old.egg-info/PKG-INFO", "Name: old\nVersion: 0.1\nLicense-Expression: MIT\n")
    put(tmp_path, "srv/METADATA", "Name: not a distribution\n")
    put(tmp_path, "app/model.safetensors", b"abc")
    put(tmp_path, "app/own.weights", b"x")
    put(tmp_path, "opt/app/lib/numpy/tests/data.npy", b"\x93NUMPY")
    contents = collected(tmp_path, capsys, "own.weights")
    assert contents.os_release["VERSION_CODENAME"] == "bookworm"
    assert [(one.name, one.source, one.source_version) for one in contents.os_packages] == [
        ("openssl", "openssl", "3.0.11-1~deb12u2"),
        ("libgcc-s1", "gcc-12", "12.2.0-14"),
        ("held", "held", "2"),
    ]
    assert {(one.name, one.version, one.debian) for one in contents.python} == {
        ("Foo.Bar", "1.0", False),
        ("old", "0.1", False),
        ("pip", "23.0", True),
    }
    assert [(one.path, one.format, one.size) for one in contents.weights] == [
        ("/app/model.safetensors", "safetensors", 3),
        ("/app/own.weights", "unknown", 1),
    ]
    assert contents.weights[0].sha256.startswith("ba7816bf")
    assert contents.problems == ()


def test_a_distribution_without_a_name_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "x/y-1.dist-info/METADATA", "Version: 1\n")
    assert collected(tmp_path, capsys).problems == (
        "/x/y-1.dist-info/METADATA: no name or no version in the package's metadata",
    )


def test_a_link_leading_out_of_the_image_is_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "image"
    put(tmp_path, "outside", OS_RELEASE)
    (root / "etc").mkdir(parents=True)
    (root / "etc/os-release").symlink_to(tmp_path / "outside")
    assert collected(root, capsys).os_release == {}


# --- Debian ---


POLICY = """openssl:
  Installed: 3.0.11-1~deb12u2
  Candidate: 3.0.17-1~deb12u2
  Version table:
     3.0.17-1~deb12u2 500
        500 http://deb.debian.org/debian-security bookworm-security/main amd64 Packages
 *** 3.0.11-1~deb12u2 100
        100 /var/lib/dpkg/status
libgcc-s1:
  Installed: 12.2.0-14+b1
  Candidate: 12.2.0-14+b1
  Version table:
 *** 12.2.0-14+b1 100
        100 /var/lib/dpkg/status
"""


def test_pending_updates_are_read_from_apt() -> None:
    assert apt_updates.updates(POLICY) == [
        {"name": "openssl", "installed": "3.0.11-1~deb12u2", "fixed": "3.0.17-1~deb12u2"}
    ]


def test_held_packages_are_asked_about_and_removed_ones_are_not() -> None:
    foreign = STATUS + "\nPackage: libc6\nStatus: install ok installed\nArchitecture: i386\nVersion: 2\n"
    assert apt_updates.installed(foreign, "amd64") == ["openssl", "libgcc-s1", "held", "libc6:i386"]


def test_the_suite_is_the_images_own() -> None:
    assert "bookworm-security main contrib non-free non-free-firmware" in apt_updates.sources(
        "bookworm", "http://m"
    )
    assert "bullseye-security main contrib non-free\n" in apt_updates.sources("bullseye", "http://m")


@pytest.mark.parametrize(
    ("release", "said"),
    [
        (
            {"ID": "alpine", "PRETTY_NAME": "Alpine Linux v3.20"},
            "Alpine Linux v3.20 is not a release of Debian",
        ),
        ({"ID": "ubuntu", "VERSION_CODENAME": "noble"}, "not a release of Debian"),
        ({"ID": "debian"}, "not a release of Debian"),
        ({}, "the image is not a release of Debian"),
    ],
)
def test_another_distribution_is_not_looked_at(release: dict[str, str], said: str) -> None:
    with pytest.raises(apt_updates.CannotLookError, match=said):
        apt_updates.codename(release)


def test_apts_reason_is_its_first_error() -> None:
    said = "W: something\nW: Failed to fetch http://x  No route\nE: Some index files failed to download.\n"
    assert apt_updates.reason(said) == "Some index files failed to download."
    assert apt_updates.reason("") == "it gave no reason"


def test_no_dpkg_list_is_could_not_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "etc/os-release", "ID=debian\nPRETTY_NAME=Debian\n")
    assert apt_updates.main([str(tmp_path), "http://127.0.0.1:9"]) == 1
    with pytest.raises(CouldNotLookError, match="no dpkg package list in Debian"):
        os_packages.result_of(json.loads(capsys.readouterr().out))


def test_a_pending_update_is_a_high_finding() -> None:
    update = {"name": "openssl", "installed": "1", "fixed": "2"}
    told = {"suite": "bookworm-security", "updates": [update], "packages": 9, "archive": "today"}
    told |= {"archive_date": "2026-11-21T08:00:00+00:00", "archive_digest": "sha256:ab"}
    result = os_packages.result_of(told)
    assert (result.audited, result.looked_at, result.data) == (True, 9, "bookworm-security of today")
    assert (result.data_date, result.data_digest) == ("2026-11-21T08:00:00+00:00", "sha256:ab")
    assert len(result.version) == 12
    assert [(one.id, one.severity, one.fixed_in) for one in result.findings] == [
        ("bookworm-security:openssl", "high", "2")
    ]


# --- advisories ---


def advisory(name: str, *events: tuple[str, str], **more: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{kind: at} for kind, at in events]}]
    affected = [{"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges}]
    return {"id": "PYSEC-1", "affected": affected, **more}


@pytest.mark.parametrize(
    ("version", "hit"),
    [
        ("0.9", True),
        ("1.0", False),
        ("1.5", False),
        ("2.0", True),
        ("2.1rc1", True),
        ("2.1", False),
        ("3", False),
    ],
)
def test_ranges_with_several_events(version: str, hit: bool) -> None:
    record = advisory(
        "Foo_Bar", ("introduced", "0"), ("fixed", "1.0"), ("introduced", "2.0"), ("fixed", "2.1")
    )
    assert affects(record, "foo.bar", version) is hit


def test_last_affected_includes_its_version() -> None:
    record = advisory("a", ("introduced", "1"), ("last_affected", "2.0"))
    assert [affects(record, "a", version) for version in ("0.9", "2.0", "2.0.1")] == [False, True, False]


def test_the_list_of_versions_is_enough_and_git_ranges_are_not() -> None:
    package = {"ecosystem": "PyPI", "name": "a"}
    git = {"type": "GIT", "events": [{"introduced": "0"}]}
    record = {"id": "x", "affected": [{"package": package, "versions": ["1.0", "1.10"], "ranges": [git]}]}
    assert [affects(record, "a", version) for version in ("1.0", "1.0.0", "1.1", "1.10")] == [
        True,
        True,
        False,
        True,
    ]


def test_withdrawn_and_other_ecosystems_are_passed_over() -> None:
    assert not affects(advisory("a", ("introduced", "0"), withdrawn="2024-01-01T00:00:00Z"), "a", "1")
    record = advisory("a", ("introduced", "0"))
    record["affected"][0]["package"]["ecosystem"] = "npm"
    assert not affects(record, "a", "1")


def test_a_version_without_an_order_is_never_taken_for_unaffected() -> None:
    with pytest.raises(NotComparableError):
        affects(advisory("a", ("introduced", "1"), ("fixed", "2")), "a", "1.0-custom-build")


def test_aliases_are_one_vulnerability_with_the_worst_rating() -> None:
    records = [
        advisory("a", ("introduced", "0"), ("fixed", "1.2"), aliases=["CVE-2024-1", "GHSA-x"]),
        {**advisory("a", ("introduced", "0"), ("fixed", "1.1")), "id": "GHSA-x", "summary": "bad"}
        | {"database_specific": {"severity": "HIGH"}},
        {**advisory("a", ("introduced", "0")), "id": "PYSEC-2"},
    ]
    first, second = vulnerabilities(records, "a", "1.0")
    assert (first.id, first.aliases, first.severity) == ("CVE-2024-1", ("GHSA-x", "PYSEC-1"), "high")
    assert (first.title, first.fixed_in) == ("bad", "1.1")
    assert (second.id, second.severity, second.fixed_in) == ("PYSEC-2", None, "")


@pytest.mark.parametrize(
    ("vector", "score"),
    [
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        ("CVSS:3.0/AV:L/AC:H/PR:L/UI:N/S:U/C:L/I:N/A:N", 2.5),
        ("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:H/I:H/A:H", 9.9),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
        ("CVSS:4.0/AV:N", None),
        ("CVSS:3.1/AV:N", None),
    ],
)
def test_base_scores_are_those_of_the_cvss_calculator(vector: str, score: float | None) -> None:
    assert base_score(vector) == score


def test_severity_is_the_databases_word_then_the_vector() -> None:
    vector = {"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]}
    assert severity({**vector, "database_specific": {"severity": "MODERATE"}}) == "medium"
    assert severity(vector) == "critical"
    assert severity({}) is None
    assert rating("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N") == "low"


def python(*packages: tuple[str, str], debian: bool = False) -> Contents:
    found = tuple(
        PythonPackage(name, version, f"/x/{name}", "", "", (), debian) for name, version in packages
    )
    return Contents({}, (), "", found, (), ())


async def matched(contents: Contents, source: AdvisorySource) -> ScannerResult:
    return await judged(contents, source, "high")


@pytest.mark.shared
async def test_known_vulnerable_pins_give_the_known_numbers() -> None:
    if not SHARED_ZIP.is_file():
        pytest.skip(f"needs {SHARED_ZIP}")
    pins = {"Jinja2": ("2.10", 2), "urllib3": ("1.24.1", 7), "pillow": ("8.0.0", 26)}
    result = await matched(python(*((name, pin[0]) for name, pin in pins.items())), OsvZip(SHARED_ZIP))
    counted = {name: sum(one.subject == name.lower() for one in result.findings) for name in pins}
    assert counted == {name: pin[1] for name, pin in pins.items()}
    assert all(one.fixed_in for one in result.findings if one.subject == "jinja2")
    assert (result.data_date, result.network) == ("2024-10-10T17:22:00Z", "")
    assert result.data_digest == f"sha256:{hashlib.sha256(SHARED_ZIP.read_bytes()).hexdigest()}"


def osv_zip(path: Path, *records: dict[str, Any]) -> OsvZip:
    with zipfile.ZipFile(path, "w") as archive:
        for number, record in enumerate(records):
            archive.writestr(f"{record['id']}-{number}.json", json.dumps(record))
    return OsvZip(path)


async def test_unrated_counts_as_the_policy_says_and_debians_own_are_left_to_debian(tmp_path: Path) -> None:
    source = osv_zip(tmp_path / "a.zip", advisory("a", ("introduced", "0"), ("fixed", "2")))
    result = await matched(python(("a", "1")), source)
    (finding,) = result.findings
    assert (finding.severity, finding.fixed_in, finding.where) == ("high", "2", "/x/a")
    assert "not rated: counts as high" in finding.title
    assert finding.hint == "upgrade a to 2 or later"
    theirs = await matched(python(("a", "1"), debian=True), source)
    assert (theirs.findings, theirs.note) == ((), "1 more from Debian packages")


async def test_an_empty_or_broken_zip_is_could_not_look(tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    for source in (osv_zip(tmp_path / "empty.zip"), OsvZip(tmp_path / "broken.zip")):
        with pytest.raises(CouldNotLookError):
            await matched(python(("a", "1")), source)
    with pytest.raises(CouldNotLookError, match="there is no OSV zip"):
        source_of("nowhere.zip", tmp_path, {})


class FakeOsv:
    """OSV's API over a few records, with a page for each: what a test changes is what goes wrong."""

    def __init__(self, *records: dict[str, Any]) -> None:
        self.records = {record["id"]: record for record in records}
        self.asked = 0
        self.fail: dict[str, httpx.Response] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if request.url.path in self.fail:
            return self.fail[request.url.path]
        if request.url.path == "/v1/querybatch":
            queries = json.loads(request.content)["queries"]
            return httpx.Response(200, json={"results": [self.page(query) for query in queries]})
        return httpx.Response(200, json=self.records[request.url.path.rpartition("/")[2]])

    def page(self, query: dict[str, Any]) -> dict[str, Any]:
        hits = [
            one
            for one in self.records.values()
            if one["affected"][0]["package"]["name"] == query["package"]["name"]
        ]
        at = int(query.get("page_token", 0))
        page: dict[str, Any] = {"vulns": [{"id": hit["id"]} for hit in hits[at : at + 1]]}
        return page | ({"next_page_token": str(at + 1)} if at + 1 < len(hits) else {})

    def service(self) -> OsvService:
        return OsvService("https://osv.example", httpx.MockTransport(self))


async def test_the_service_is_asked_for_every_page_and_record() -> None:
    fake = FakeOsv(
        advisory("a", ("introduced", "0")), {**advisory("a", ("introduced", "0")), "id": "PYSEC-2"}
    )
    result = await matched(python(("A", "1"), ("b", "1")), fake.service())
    assert [one.id for one in result.findings] == ["PYSEC-1", "PYSEC-2"]
    assert result.data == "OSV (osv.example)"


@pytest.mark.parametrize(
    ("path", "response", "said"),
    [
        ("/v1/querybatch", httpx.Response(503), "OSV answered 503"),
        ("/v1/vulns/PYSEC-1", httpx.Response(404), "OSV answered 404"),
        ("/v1/querybatch", httpx.Response(200, json={"results": []}), "not as its API says"),
        ("/v1/querybatch", httpx.Response(200, text="<html>"), "not as its API says"),
        ("/v1/vulns/PYSEC-1", httpx.Response(200, json={"id": "other"}), "not as its API says"),
    ],
)
async def test_a_partial_answer_is_no_answer(path: str, response: httpx.Response, said: str) -> None:
    fake = FakeOsv(advisory("a", ("introduced", "0")))
    fake.fail[path] = response
    with pytest.raises(CouldNotLookError, match=said):
        await matched(python(("a", "1")), fake.service())


async def test_an_unreachable_service_is_said() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[Errno 111] connection refused")

    with pytest.raises(CouldNotLookError, match="OSV unreachable: connection refused"):
        await matched(python(("a", "1")), OsvService("https://osv.example", httpx.MockTransport(refuse)))


async def test_an_answer_is_remembered_and_a_failure_is_not(tmp_path: Path) -> None:
    fake = FakeOsv(advisory("a", ("introduced", "0")))
    source = Remembered(fake.service(), tmp_path)
    fake.fail["/v1/querybatch"] = httpx.Response(503)
    with pytest.raises(CouldNotLookError):
        await matched(python(("a", "1")), source)
    fake.fail.clear()
    first = await matched(python(("a", "1")), source)
    asked = fake.asked
    again = await matched(python(("a", "1")), source)
    assert (again.findings, fake.asked) == (first.findings, asked)
    await matched(python(("a", "2")), source)
    assert fake.asked > asked
