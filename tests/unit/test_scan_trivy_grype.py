"""The scanners of others: their reports as findings, and that their silence is never "no findings"."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.config_other_scanners import Grype as GrypeSection
from pipelines.config_other_scanners import Trivy as TrivySection
from pipelines.config_scan import ScanPolicy
from pipelines.scanners.contents import Contents, OsPackage, PythonPackage
from pipelines.scanners.grype import Grype
from pipelines.scanners.port import CouldNotLookError, Tool
from pipelines.scanners.trivy import Trivy

pytestmark = pytest.mark.anyio
FIXTURES = Path(__file__).parent.parent / "fixtures"
IMAGE = f"registry.example/tool@sha256:{'a' * 64}"
TODAY = date(2026, 11, 22)
JINJA = "/venv/lib/python3.11/site-packages/jinja2-2.10.dist-info"
CONTENTS = Contents(
    {"PRETTY_NAME": "Debian GNU/Linux 12"},
    (OsPackage("zlib1g", "1", "amd64", "zlib", "1", ""),),
    "",
    (PythonPackage("Jinja2", "2.10", JINJA, "", "", (), debian=False),),
    (),
    (),
)
EMPTY = Contents({}, (), "", (), (), ())


class FixedView:
    """An image over which every tool says what the test wants it to."""

    def __init__(self, answer: str, contents: Contents = CONTENTS) -> None:
        self.answer = answer
        self.inside = contents
        self.tools: list[Tool] = []

    async def run_tool(self, tool: Tool) -> str:
        self.tools.append(tool)
        return '{"Version": "0.59.1"}' if "version" in tool.command else self.answer

    async def contents(self) -> Contents:
        return self.inside


def report(name: str, **changes: Any) -> str:
    return json.dumps(json.loads((FIXTURES / name).read_text()) | changes)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    directory = tmp_path / "trivy-cache" / "db"
    directory.mkdir(parents=True)
    (directory / "trivy.db").write_bytes(b"..data-source..vulnerability..")
    (directory / "metadata.json").write_text('{"Version": 2, "UpdatedAt": "2026-11-21T06:00:00Z"}')
    return directory


def trivy(directory: Path, **section: Any) -> Trivy:
    given: dict[str, Any] = {"image": IMAGE, **section}
    if "database_repository" not in section:
        given["database"] = "trivy-cache"
    return Trivy(TrivySection.model_validate(given), directory, lambda: TODAY)


async def scanned(scanner: Trivy | Grype, view: FixedView) -> Any:
    return await scanner.scan(view, ScanPolicy())  # type: ignore[arg-type]  # what these scanners ask of it


async def test_trivys_findings_are_read_from_its_report(tmp_path: Path, database: Path) -> None:
    view = FixedView(report("trivy/debian.json"))
    result = await scanned(trivy(tmp_path), view)
    assert (result.audited, result.version, result.looked_at) == (True, "0.59.1", 3)
    assert (result.data_date, result.data) == ("2026-11-21T06:00:00Z", "trivy.db of 2026-11-21")
    assert result.data_digest.startswith("sha256:")
    zlib, jinja = result.findings
    assert (zlib.id, zlib.severity, zlib.subject, zlib.fixed_in) == (
        "CVE-2023-45853",
        "critical",
        "zlib1g",
        "1:9.9.9-1",
    )
    assert (jinja.subject, jinja.installed, jinja.where) == ("jinja2", "2.10", f"{JINJA}/METADATA")
    assert jinja.hint == "upgrade jinja2 to 2.10.1"


async def test_trivy_gets_its_database_and_no_network(tmp_path: Path, database: Path) -> None:
    view, scanner = FixedView(report("trivy/debian.json")), trivy(tmp_path, command=["/opt/trivy"])
    result = await scanned(scanner, view)
    tool = view.tools[-1]
    assert tool.image == IMAGE
    assert tool.command[:2] == ("/opt/trivy", "rootfs")
    assert {"--skip-db-update", "--offline-scan", "--skip-java-db-update"} <= set(tool.command)
    assert tool.directories == {"/modelport/trivy/db": database}
    assert (scanner.network, result.network) == ("", "")


async def test_a_repository_of_the_database_is_asked_once_a_day_and_said(tmp_path: Path) -> None:
    view, scanner = (
        FixedView(report("trivy/debian.json")),
        trivy(tmp_path, database_repository="r.example/db:2"),
    )
    result = await scanned(scanner, view)
    tool = view.tools[-1]
    assert "--db-repository=r.example/db:2" in tool.command
    assert "--skip-db-update" not in tool.command
    assert tool.env["MODELPORT_DAY"] == "2026-11-22"
    assert result.network == "its database, from r.example/db:2"
    assert result.data_date == "2026-11-22"


@pytest.mark.parametrize(
    ("name", "contents", "reason"),
    [
        ("trivy/not-recognised.json", CONTENTS, "it did not recognise the packages of Debian GNU/Linux 12"),
        ("trivy/end-of-life.json", EMPTY, "alpine 3.9.0 gets no security updates any more"),
        ("trivy/end-of-life.json", CONTENTS, "it did not recognise the Python packages"),
    ],
)
async def test_what_trivy_did_not_recognise_is_not_audited(
    tmp_path: Path, database: Path, name: str, contents: Contents, reason: str
) -> None:
    result = await scanned(trivy(tmp_path), FixedView(report(name), contents))
    assert not result.audited
    assert reason in result.reason


async def test_an_unrated_vulnerability_counts_as_the_policy_says(tmp_path: Path, database: Path) -> None:
    answer = report("trivy/debian.json").replace('"CRITICAL"', '"UNKNOWN"')
    zlib, _ = (await scanned(trivy(tmp_path, unrated="medium"), FixedView(answer))).findings
    assert zlib.severity == "medium"
    assert zlib.title.endswith("(not rated: counts as medium)")


@pytest.mark.parametrize("answer", ["", "FATAL no database", "[]", "{}", '{"SchemaVersion": 3}'])
async def test_what_is_no_report_of_trivy_is_could_not_look(
    tmp_path: Path, database: Path, answer: str
) -> None:
    with pytest.raises(CouldNotLookError, match="trivy"):
        await scanned(trivy(tmp_path), FixedView(answer))


async def test_a_report_with_other_fields_is_could_not_look(tmp_path: Path, database: Path) -> None:
    broken = report("trivy/debian.json", Results=[{"Vulnerabilities": [{"ID": "CVE-1"}]}])
    with pytest.raises(CouldNotLookError, match="not as its schema says"):
        await scanned(trivy(tmp_path), FixedView(broken))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("trivy.db", None, "there is no trivy.db in"),
        ("trivy.db", b"", "holds no advisories: there is no data-source in it"),
        ("trivy.db", b"data-source only", "there is no vulnerability in it"),
        ("metadata.json", None, "doesn't tell the database's date"),
        ("metadata.json", b"{}", "doesn't tell the database's date"),
    ],
)
async def test_without_a_database_trivy_is_not_asked(
    tmp_path: Path, database: Path, file: str, content: bytes | None, said: str
) -> None:
    """With metadata.json alone it makes itself an empty database, and would find nothing."""
    (database / file).unlink()
    if content is not None:
        (database / file).write_bytes(content)
    view = FixedView(report("trivy/debian.json"))
    with pytest.raises(CouldNotLookError, match=said):
        await scanned(trivy(tmp_path), view)
    assert not any("rootfs" in tool.command for tool in view.tools)


async def test_a_databases_digest_is_remembered_and_a_new_one_is_read(tmp_path: Path, database: Path) -> None:
    first = await scanned(trivy(tmp_path), FixedView(report("trivy/debian.json")))
    again = await scanned(trivy(tmp_path), FixedView(report("trivy/debian.json")))
    (database / "trivy.db").write_bytes(b"data-source vulnerability and more")
    other = await scanned(trivy(tmp_path), FixedView(report("trivy/debian.json")))
    assert first.data_digest == again.data_digest != other.data_digest


# --- grype ---


@pytest.fixture
def grype(tmp_path: Path) -> Grype:
    (tmp_path / "grype" / "6").mkdir(parents=True)
    (tmp_path / "grype" / "6" / "vulnerability.db").write_bytes(b"SQLite format 3 of some advisories")
    return Grype(GrypeSection(image=IMAGE, database="grype"), tmp_path, lambda: TODAY)


async def test_grypes_matches_are_read_from_its_report(tmp_path: Path, grype: Grype) -> None:
    view = FixedView(report("grype/debian.json"))
    result = await scanned(grype, view)
    assert (result.audited, result.version) == (True, "0.110.0")
    assert result.data_date == "2026-11-20T04:12:37Z"
    assert result.data_digest == f"sha256:{hashlib.sha256(b'SQLite format 3 of some advisories').hexdigest()}"
    jinja, apt, zlib = result.findings
    assert (jinja.id, jinja.aliases, jinja.severity) == ("CVE-2019-10906", ("GHSA-462w-v97r-4m45",), "high")
    assert (jinja.subject, jinja.fixed_in, jinja.where) == ("jinja2", "2.10.1", f"{JINJA}/METADATA")
    assert (apt.severity, apt.hint) == ("low", "no fixed version of apt is known")
    assert (zlib.severity, zlib.title) == ("high", "MiniZip overflow (not rated: counts as high)")
    (tool,) = view.tools
    assert tool.command == ("/grype", "dir:/image", "--output=json")
    assert tool.env["GRYPE_DB_AUTO_UPDATE"] == "false"
    assert tool.directories == {"/modelport/grype": tmp_path / "grype"}


async def test_a_report_that_grype_really_wrote(tmp_path: Path, grype: Grype) -> None:
    result = await scanned(grype, FixedView(report("grype/recorded.json")))
    assert (result.audited, result.version, result.data_date) == (True, "0.90.0", "2026-11-23T03:43:23Z")
    told = {one.subject: (one.id, one.severity, one.fixed_in, one.aliases) for one in result.findings}
    assert told == {
        "apt": ("CVE-2011-3374", "low", "", ()),
        "gzip": ("CVE-2026-0001", "high", "99", ()),
        "jinja2": ("CVE-2019-10906", "high", "2.10.1", ("GHSA-462w-v97r-4m45",)),
    }
    assert {one.where for one in result.findings} == {"/var/lib/dpkg/status", f"{JINJA}/METADATA"}


async def test_grypes_database_may_come_from_an_address_which_is_said(tmp_path: Path) -> None:
    scanner = Grype(GrypeSection(image=IMAGE, database_url="https://db.example"), tmp_path, lambda: TODAY)
    view = FixedView(report("grype/debian.json"))
    result = await scanned(scanner, view)
    assert result.network == "its database, from https://db.example"
    assert result.data_digest == f"sha256:{'a' * 64}"  # as it tells where the archive came from
    assert view.tools[0].env["GRYPE_DB_REQUIRE_UPDATE_CHECK"] == "true"
    assert view.tools[0].env["MODELPORT_DAY"] == "2026-11-22"


@pytest.mark.parametrize(
    ("descriptor", "said"),
    [
        ({"version": "1"}, "names no database"),
        ({"db": {"status": {"valid": False, "error": "no such file"}}}, "not valid: no such file"),
        ({"db": {"status": {"valid": True}}}, "it has no date"),
    ],
)
async def test_a_report_without_a_valid_database_is_could_not_look(
    grype: Grype, descriptor: Any, said: str
) -> None:
    with pytest.raises(CouldNotLookError, match=said):
        await scanned(grype, FixedView(report("grype/debian.json", descriptor=descriptor)))


async def test_grypes_older_reports_name_the_database_too(grype: Grype) -> None:
    older = {"version": "0.74.0", "db": {"built": "2026-11-19T01:00:00Z", "checksum": f"sha256:{'b' * 64}"}}
    result = await scanned(grype, FixedView(report("grype/debian.json", descriptor=older)))
    assert result.data_date == "2026-11-19T01:00:00Z"


async def test_what_grype_did_not_recognise_is_not_audited(grype: Grype) -> None:
    result = await scanned(grype, FixedView(report("grype/debian.json", distro={"name": ""}, matches=[])))
    assert (result.audited, result.reason) == (False, "it did not recognise Debian GNU/Linux 12")


@pytest.mark.parametrize("answer", ["", "error", "[]"])
async def test_what_is_no_report_of_grype_is_could_not_look(grype: Grype, answer: str) -> None:
    with pytest.raises(CouldNotLookError, match="grype"):
        await scanned(grype, FixedView(answer))


async def test_a_broken_match_or_no_database_is_could_not_look(tmp_path: Path, grype: Grype) -> None:
    with pytest.raises(CouldNotLookError, match="not as documented"):
        await scanned(grype, FixedView(report("grype/debian.json", matches=[{"vulnerability": {}}])))
    (tmp_path / "grype" / "6" / "vulnerability.db").write_bytes(b"")
    with pytest.raises(CouldNotLookError, match="holds no advisories"):
        await scanned(grype, FixedView(report("grype/debian.json")))
    (tmp_path / "grype" / "6" / "vulnerability.db").unlink()
    with pytest.raises(CouldNotLookError, match="there is no grype database"):
        await scanned(grype, FixedView(report("grype/debian.json")))


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        (TrivySection, {"image": "aquasec/trivy:latest", "database": "x"}, "has no digest"),
        (TrivySection, {"image": IMAGE}, "here are neither"),
        (TrivySection, {"image": IMAGE, "database": "x", "database_repository": "y"}, "here are both"),
        (GrypeSection, {"image": "anchore/grype", "database": "x"}, "has no digest"),
        (GrypeSection, {"image": IMAGE}, "here are neither"),
    ],
)
def test_a_scanner_without_a_digest_or_a_database_is_refused(section: Any, values: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        section.model_validate(values)


def test_they_are_among_the_scanners_where_they_are_configured(tmp_path: Path) -> None:
    from pipelines.config import Model
    from pipelines.scanners.selection import scanners_of

    both = {"trivy": {"image": IMAGE, "database": "x"}, "grype": {"image": IMAGE, "database": "x"}}
    file = tmp_path / "modelport.yaml"
    plain = Model(name="m", directory=tmp_path, file=file)
    more = Model(name="m", directory=tmp_path, file=file, scan=ScanPolicy.model_validate(both))
    added = {one.name for one in scanners_of(more)} - {one.name for one in scanners_of(plain)}
    assert added == {"trivy", "grype"}
