"""Distributions other than Debian: their package lists, what OSV calls them, the order of their versions."""

from __future__ import annotations

import base64
import json
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipelines.in_engine import apt_updates
from pipelines.in_engine.os_package_lists import (
    apk_packages,
    dpkg_packages,
    rpm_header,
    rpm_packages,
    unread_database,
)
from pipelines.in_engine.rootfs import Problems
from pipelines.scanners.contents import Contents, OsPackage
from pipelines.scanners.os_advisories import asked_of, ecosystem_of, judged
from pipelines.scanners.osv import affects, vulnerabilities
from pipelines.scanners.osv_zip import OsvZip
from pipelines.scanners.port import CouldNotLookError, ScannerResult
from pipelines.scanners.versions import (
    NotComparableError,
    compare_apk,
    compare_dpkg,
    compare_rpm,
    order_of,
    rpmvercmp,
)

pytestmark = pytest.mark.anyio
HEADERS = Path(__file__).parent.parent / "fixtures" / "rpm" / "headers.json"
APK = """C:Q1abc=
P:libssl3
V:3.3.1-r0
A:x86_64
L:Apache-2.0
o:openssl
m:Natanael <n@example.org>

P:musl
V:1.2.5-r0
A:x86_64
L:MIT
"""


def put(root: Path, path: str, text: str | bytes) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


# --- the lists ---


@pytest.mark.parametrize("path", ["lib/apk/db/installed", "usr/lib/apk/db/installed"])
def test_alpines_list_names_sources_and_licences(tmp_path: Path, path: str) -> None:
    put(tmp_path, path, APK)
    ssl, musl = apk_packages(tmp_path)
    assert (ssl["name"], ssl["version"], ssl["source"], ssl["licences"]) == (
        "libssl3",
        "3.3.1-r0",
        "openssl",
        ["Apache-2.0"],
    )
    assert (musl["source"], musl["licence_file"]) == ("musl", f"/{path}")


def rpm_database(root: Path, *, wal: bool = False) -> Path:
    file = put(root, "var/lib/rpm/rpmdb.sqlite", b"")
    connection = sqlite3.connect(file)
    if wal:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
    blobs = [(base64.b64decode(text),) for text in json.loads(HEADERS.read_text())]
    connection.executemany("INSERT INTO Packages (blob) VALUES (?)", blobs)
    connection.commit()
    if wal:  # as an image has it that was cut off in use: the rows are in the log alone
        kept = {name: (file.parent / name).read_bytes() for name in ("rpmdb.sqlite", "rpmdb.sqlite-wal")}
        connection.close()
        for name, content in kept.items():
            (file.parent / name).write_bytes(content)
    connection.close()
    return file


@pytest.mark.parametrize("wal", [False, True])
def test_rpms_database_is_read_with_its_log_and_not_written_to(tmp_path: Path, wal: bool) -> None:
    file, problems = rpm_database(tmp_path, wal=wal), Problems()
    before = sorted((one.name, one.stat().st_mtime_ns) for one in file.parent.iterdir())
    found = {one["name"]: one for one in rpm_packages(tmp_path, problems)}
    assert problems.told() == []
    assert found["openssl-libs"]["version"] == "1:3.0.7-24.el9"
    assert found["openssl-libs"]["licences"] == ["Apache-2.0"]
    assert (found["bash"]["version"], found["bash"]["source"]) == ("5.1.8-6.el9", "bash")
    assert sorted((one.name, one.stat().st_mtime_ns) for one in file.parent.iterdir()) == before


@pytest.mark.parametrize("broken", [b"", b"SQLite format 3\0 and no more", b"x" * 5000])
def test_an_rpm_database_that_can_not_be_read_is_said(tmp_path: Path, broken: bytes) -> None:
    put(tmp_path, "usr/lib/sysimage/rpm/rpmdb.sqlite", broken)
    problems = Problems()
    assert rpm_packages(tmp_path, problems) == []
    assert "/usr/lib/sysimage/rpm/rpmdb.sqlite: not readable as an rpm database" in problems.told()[0]


def test_a_header_that_is_cut_off_is_refused() -> None:
    blob = base64.b64decode(json.loads(HEADERS.read_text())[0])
    for cut in (blob[:100], b"\xff" * 64):
        with pytest.raises(ValueError, match="cut off"):
            rpm_header(cut)


@pytest.mark.parametrize(("name", "kind"), [("Packages", "Berkeley DB"), ("Packages.db", "ndb")])
def test_older_databases_of_rpm_are_said_not_to_be_read(tmp_path: Path, name: str, kind: str) -> None:
    put(tmp_path, f"var/lib/rpm/{name}", b"x")
    assert kind in unread_database(tmp_path)


def test_distroless_parts_are_installed_packages_to_apt(tmp_path: Path) -> None:
    put(tmp_path, "var/lib/dpkg/status.d/libc6", "Package: libc6\nArchitecture: amd64\nVersion: 2.36-9\n")
    put(tmp_path, "var/lib/dpkg/status.d/libc6.md5sums", "abc  usr/lib/x\n")
    put(tmp_path, "var/lib/dpkg/status.d/tzdata", "Package: tzdata\nArchitecture: all\nVersion: 2024a\n")
    assert [one["name"] for one in dpkg_packages(tmp_path)] == ["libc6", "tzdata"]
    status = apt_updates.package_list(tmp_path)
    assert apt_updates.installed(status, apt_updates.architecture(status)) == ["libc6", "tzdata"]


def test_a_release_files_date_is_a_day() -> None:
    assert apt_updates.day("Sat, 21 Nov 2026 00:53:02 UTC") == "2026-11-21T00:53:02+00:00"
    assert apt_updates.day("yesterday") == ""


def test_another_distribution_is_left_to_advisories(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "etc/os-release", 'ID=alpine\nPRETTY_NAME="Alpine Linux v3.20"\n')
    assert apt_updates.main([str(tmp_path), "http://127.0.0.1:9"]) == 0
    assert json.loads(capsys.readouterr().out) == {"other": "Alpine Linux v3.20"}


# --- OSV ---


@pytest.mark.parametrize(
    ("release", "ecosystem"),
    [
        ({"ID": "alpine", "VERSION_ID": "3.20.1"}, "Alpine:v3.20"),
        ({"ID": "ubuntu", "VERSION_ID": "22.04", "VERSION": "22.04.4 LTS (Jammy)"}, "Ubuntu:22.04:LTS"),
        ({"ID": "ubuntu", "VERSION_ID": "23.10", "VERSION": "23.10 (Mantic)"}, "Ubuntu:23.10"),
        ({"ID": "almalinux", "VERSION_ID": "9.3"}, "AlmaLinux:9"),
        ({"ID": "rocky", "VERSION_ID": "9.3"}, "Rocky Linux:9"),
        ({"ID": "wolfi", "VERSION_ID": "20230201"}, "Wolfi"),
    ],
)
def test_distributions_are_called_as_osv_calls_them(release: dict[str, str], ecosystem: str) -> None:
    assert ecosystem_of(release) == ecosystem


@pytest.mark.parametrize(
    "release",
    [{}, {"ID": "alpine", "VERSION_ID": "3.21_alpha20240923"}, {"ID": "fedora", "VERSION_ID": "40"}],
)
def test_a_release_that_osv_does_not_know_is_could_not_look(release: dict[str, str]) -> None:
    with pytest.raises(CouldNotLookError, match="no advisories"):
        ecosystem_of(release)


def advisory(one: str, ecosystem: str, name: str, fixed: str, **more: Any) -> dict[str, Any]:
    events = [{"introduced": "0"}, {"fixed": fixed}]
    entry = {
        "package": {"ecosystem": ecosystem, "name": name},
        "ranges": [{"type": "ECOSYSTEM", "events": events}],
    }
    return {"id": one, "modified": f"2026-11-0{len(one) % 9 + 1}T00:00:00Z", "affected": [entry], **more}


def osv_zip(path: Path, ecosystem: str, *records: dict[str, Any]) -> OsvZip:
    with zipfile.ZipFile(path, "w") as archive:
        for record in records:
            archive.writestr(f"{record['id']}.json", json.dumps(record))
    return OsvZip(path, ecosystem)


def package(name: str, version: str, source: str = "", kind: str = "apk") -> OsPackage:
    return OsPackage(name, version, "x86_64", source or name, version, "", kind)


async def matched(source: OsvZip, *packages: OsPackage) -> ScannerResult:
    return await judged(Contents({}, packages, "", (), (), ()), source, source.ecosystem, "high")


async def test_alpines_packages_are_matched_by_source_and_release(tmp_path: Path) -> None:
    alpine = "Alpine:v3.20"
    source = osv_zip(
        tmp_path / "all.zip",
        alpine,
        advisory("ALPINE-CVE-2024-1", alpine, "openssl", "3.3.2-r0", upstream=["CVE-2024-1"]),
        advisory("ALPINE-CVE-2024-2", "Alpine:v3.19", "openssl", "9-r0", upstream=["CVE-2024-2"]),
        advisory("ALPINE-CVE-2024-3", alpine, "musl", "1.2.4-r2", upstream=["CVE-2024-3"]),
    )
    result = await matched(
        source,
        package("libssl3", "3.3.1-r0", "openssl"),
        package("libcrypto3", "3.3.1-r0", "openssl"),
        package("musl", "1.2.5-r0"),
    )
    (finding,) = result.findings
    assert (finding.id, finding.aliases) == ("CVE-2024-1", ("ALPINE-CVE-2024-1",))
    assert (finding.subject, finding.installed, finding.fixed_in) == ("openssl", "3.3.1-r0", "3.3.2-r0")
    assert "upgrade libcrypto3, libssl3 to 3.3.2-r0" in finding.hint
    assert (result.audited, result.looked_at, result.network) == (True, 3, "")
    assert result.data_digest.startswith("sha256:")
    assert result.data_date.startswith("2026-11-0")


async def test_a_release_of_which_nothing_is_known_is_could_not_look(tmp_path: Path) -> None:
    """OSV answers for a release it never heard of as for one without any vulnerability."""
    alpine = "Alpine:v3.20"
    other = osv_zip(tmp_path / "a.zip", alpine, advisory("A-1", alpine, "musl", "9-r0"))
    with pytest.raises(CouldNotLookError, match=r"knows nothing of Alpine:v3\.20"):
        await matched(other, package("busybox", "1.36-r0"))
    older = advisory("A-2", "Alpine:v3.19", "openssl", "9-r0")
    with pytest.raises(CouldNotLookError, match=r"no advisories on Alpine:v3\.20"):
        await matched(osv_zip(tmp_path / "b.zip", alpine, older), package("openssl", "3.3.1-r0"))


async def test_an_image_without_a_readable_list_is_could_not_look(tmp_path: Path) -> None:
    source = osv_zip(tmp_path / "a.zip", "Rocky Linux:9", advisory("A", "Rocky Linux:9", "openssl", "9"))
    for contents, said in (
        (Contents({}, (), "rpm (ndb)", (), (), ()), "the rpm .ndb. package database is not read"),
        (Contents({}, (), "", (), (), ("/x: broken",)), "not read: /x: broken"),
        (Contents({"PRETTY_NAME": "Rocky"}, (), "", (), (), ()), "no package list in Rocky"),
    ):
        with pytest.raises(CouldNotLookError, match=said):
            await judged(contents, source, source.ecosystem, "high")


async def test_rpms_are_asked_for_by_both_names_and_found_once(tmp_path: Path) -> None:
    rocky = "Rocky Linux:9"
    source = osv_zip(
        tmp_path / "a.zip",
        rocky,
        advisory("RLSA-2024:1", rocky, "openssl", "1:3.0.7-25.el9", severity=[{"type": "x", "score": "low"}]),
    )
    openssl = OsPackage("openssl-libs", "1:3.0.7-24.el9", "x", "openssl", "1:3.0.7-24.el9", "", "rpm")
    assert len(asked_of(openssl)) == 2
    (finding,) = (await matched(source, openssl)).findings
    assert (finding.id, finding.severity) == ("RLSA-2024:1", "low")


def test_a_notice_on_several_vulnerabilities_is_told_only_where_it_alone_knows_one() -> None:
    ubuntu = "Ubuntu:22.04:LTS"
    records = [
        advisory("UBUNTU-CVE-1", ubuntu, "curl", "2", upstream=["CVE-1"]),
        advisory("UBUNTU-CVE-2", ubuntu, "curl", "2", upstream=["CVE-2"]),
        advisory("USN-1", ubuntu, "curl", "2", upstream=["CVE-1", "CVE-2"]),
        advisory("USN-2", ubuntu, "curl", "2", upstream=["CVE-1", "CVE-3"]),
    ]
    assert [one.id for one in vulnerabilities(records, "curl", "1", ubuntu)] == ["CVE-1", "CVE-2", "USN-2"]


def test_other_releases_and_the_paid_archive_do_not_count() -> None:
    paid = advisory("USN-1", "Ubuntu:Pro:22.04:LTS", "curl", "2")
    assert not affects(paid, "curl", "1", "Ubuntu:22.04:LTS")
    assert affects(paid, "curl", "1", "Ubuntu:Pro:22.04:LTS")


# --- the order of versions; each list is what the tool itself says ---


def sign(number: int) -> int:
    return (number > 0) - (number < 0)


@pytest.mark.parametrize(
    ("one", "other", "order"),
    [
        ("1.0", "1.0-0", 0),
        ("1.0~rc1", "1.0", -1),
        ("1.0~rc1-1", "1.0-1~bpo1", -1),
        ("1:0.9", "1.0", 1),
        ("1.0-1+deb12u10", "1.0-1+deb12u2", 1),
        ("1.0+b1", "1.0a", 1),
        ("1.0-1-1", "1.0-1", 1),
        ("2.36-9+deb12u4", "2.36-9+deb12u10", -1),
        ("1.00-01", "1.0-1", 0),
    ],
)
def test_dpkgs_order(one: str, other: str, order: int) -> None:
    """By ``dpkg --compare-versions`` 1.21."""
    assert sign(compare_dpkg(one, other)) == order
    assert sign(compare_dpkg(other, one)) == -order


@pytest.mark.parametrize(
    ("one", "other", "order"),
    [
        ("1.0", "2.0", -1),
        ("2.0.1a", "2.0.1", 1),
        ("5.5p10", "5.5p1", 1),
        ("10xyz", "10.1xyz", -1),
        ("xyz.4", "8", -1),
        ("6.0.rc1", "6.0", 1),
        ("10.0001", "10.1", 0),
        ("2_0", "2.0", 0),
        ("1.0~rc1", "1.0", -1),
        ("1.0~rc1~git123", "1.0~rc1", -1),
        ("1.0^", "1.0", 1),
        ("1.0^git1", "1.01", -1),
        ("1.0^20160101", "1.0.1", -1),
        ("1.0^git1~pre", "1.0^git1", -1),
    ],
)
def test_rpms_order(one: str, other: str, order: int) -> None:
    """By ``rpm.vercmp`` of rpm 4.18."""
    assert sign(rpmvercmp(one, other)) == order
    assert sign(rpmvercmp(other, one)) == -order


@pytest.mark.parametrize(
    ("one", "other", "order"),
    [("1:1.0-1", "2.0-1", 1), ("1.0-2.el9", "1.0-10.el9", -1), ("1.0", "1.0-5", 0), ("0:1.0-1", "1.0-1", 0)],
)
def test_rpms_epoch_and_release(one: str, other: str, order: int) -> None:
    assert sign(compare_rpm(one, other)) == order


@pytest.mark.parametrize(
    ("one", "other", "order"),
    [
        ("2.34", "0.1.0_alpha", 1),
        ("0.1.0_alpha2", "0.1.0_alpha", 1),
        ("1.0_rc1", "1.0", -1),
        ("1.0_p1", "1.0", 1),
        ("1.2.3-r0", "1.2.3-r10", -1),
        ("1.0.1a", "1.0.1", 1),
        ("1.2.10", "1.2.9", 1),
        ("1.02", "1.1", -1),
        ("1.0", "1.0.0", -1),
        ("6.4_p20230506-r0", "6.4_p20231125-r0", -1),
        ("1.0_alpha_rc", "1.0_alpha", -1),
    ],
)
def test_apks_order(one: str, other: str, order: int) -> None:
    assert sign(compare_apk(one, other)) == order
    assert sign(compare_apk(other, one)) == -order


@pytest.mark.parametrize(
    ("ecosystem", "version"),
    [("Alpine:v3.20", "not-a-version"), ("PyPI", "1.0-custom-build"), ("Rocky Linux:9", "a:1"), ("npm", "1")],
)
def test_what_has_no_order_is_refused(ecosystem: str, version: str) -> None:
    with pytest.raises(NotComparableError):
        order_of(ecosystem)(version)
