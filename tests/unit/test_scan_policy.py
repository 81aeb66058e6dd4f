"""The policy over several scanners: one finding each, what is published, fixes, old data, the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from pipelines.config import DockerfileBuild, Model, PythonBuild, load
from pipelines.config_scan import ScanPolicy
from pipelines.errors import ConfigError
from pipelines.published import CouldNotTell, Published
from pipelines.scan_table import table
from pipelines.scanners.known import known_findings, known_of, recorded_keys
from pipelines.scanners.merging import merged
from pipelines.scanners.places import placed
from pipelines.scanners.policy import KnownFindings, aged, judge
from pipelines.scanners.port import CouldNotLookError, Finding, ImageView, ScannerName, ScannerResult
from pipelines.scanners.programs import version_of_program
from pipelines.stages.attest import scan_verdict
from pipelines.stages.scan import blocked, decided
from pipelines.statements import GateVerdict, Result

pytestmark = pytest.mark.anyio
TODAY = date(2026, 11, 22)
LABELS = {"org.opencontainers.image.version": "1.0.0"}


def vulnerable(scanner: ScannerName = "python_packages", id_: str = "CVE-1", **more: Any) -> Finding:
    values: dict[str, Any] = {"severity": "high", "subject": "jinja2", "installed": "2.10", "title": "bad"}
    return Finding(scanner=scanner, id=id_, **values | more)


def result(*findings: Finding, **more: Any) -> ScannerResult:
    scanner = findings[0].scanner if findings else "python_packages"
    return ScannerResult(more.pop("scanner", scanner), more.pop("audited", True), findings=findings, **more)


def policy(**section: Any) -> ScanPolicy:
    return ScanPolicy.model_validate(section)


def waiver(id_: str = "CVE-1", **more: Any) -> dict[str, Any]:
    return {"id": id_, "reason": "not reachable", "owner": "mo", "expires": "2026-12-31", **more}


def published(facts: Mapping[str, Any], labels: Mapping[str, str]) -> Published:
    gates = {"scan": GateVerdict("scan", Result.PASSED, facts=facts)}
    fields = {"settings": {"Labels": labels}, "gates": gates, "tag": "latest", "name": "r", "reference": ""}
    rest = {"digest": "sha256:0", "sbom": None, "manifest": None, "registry": None, "store": None}
    return Published(**cast(Any, fields | rest))  # no more of it is read


def test_two_scanners_on_one_vulnerability_are_one_finding_with_what_either_knows() -> None:
    osv = vulnerable(aliases=("GHSA-x",), where="/site-packages/jinja2")
    trivy = vulnerable("trivy", "GHSA-x", subject="Jinja2", severity="critical", fixed_in="2.11")
    (one,) = judge([result(osv), result(trivy)], ScanPolicy(), TODAY).findings
    assert (one.scanners, one.severity, one.fixed_in) == (("trivy", "python_packages"), "critical", "2.11")
    assert one.where == "/site-packages/jinja2"
    assert one.names == {"CVE-1", "GHSA-x"}


@pytest.mark.parametrize(
    "other",
    [
        vulnerable("trivy", "CVE-2"),
        vulnerable("trivy", subject="urllib3"),
        vulnerable("trivy", installed="2.9"),
        vulnerable(where="/elsewhere"),
    ],
    ids=["id", "package", "version", "the same scanner"],
)
def test_what_differs_in_more_than_its_scanner_stays_apart(other: Finding) -> None:
    assert len(merged([vulnerable(), other])) == 2


def test_a_merged_finding_blocks_by_the_stricter_limit_and_counts_for_both() -> None:
    both = [result(vulnerable()), result(vulnerable("trivy"))]
    report = decided(both, policy(block_at={"python_packages": "never"}), TODAY)
    assert len(report.verdict.blocking) == 1
    assert report.summary() == "python 1 (1 blocking) · trivy 1 (1 blocking)"
    assert scan_verdict(report, {}).failed == ("python_packages", "trivy")


def test_without_a_fix_nothing_blocks_where_only_fixable_findings_count() -> None:
    found = [result(vulnerable()), result(vulnerable("os_packages", "dsa", fixed_in="3.0.10"))]
    verdict = judge(found, policy(fixable_only=True), TODAY)
    assert [one.id for one in verdict.blocking] == ["dsa"]
    assert [one.id for one in verdict.unfixed] == ["CVE-1"]
    assert len(judge(found, policy(fixable_only=["trivy"]), TODAY).blocking) == 2


def test_fixable_only_never_speaks_of_secrets_and_model_files() -> None:
    key = vulnerable("secrets", "private-key", subject="/k", severity="critical")
    assert judge([result(key)], policy(fixable_only=True), TODAY).blocking == (key,)
    with pytest.raises(ValidationError, match="no fixed version"):
        policy(fixable_only=["secrets"])


def test_what_the_published_image_has_too_is_told_with_its_version_and_does_not_block() -> None:
    old, new = vulnerable(), vulnerable(id_="CVE-2")
    known = known_of(
        published(scan_verdict(decided([result(old)], ScanPolicy(), TODAY), LABELS).facts, LABELS)
    )
    report = decided([result(old, new)], policy(new_since="published"), TODAY, known)
    assert [one.id for one in report.verdict.blocking] == ["CVE-2"]
    assert [(one.id, one.since) for one in report.verdict.known] == [("CVE-1", "1.0.0")]
    assert "1 known since 1.0.0" in report.summary()
    assert len(judge([result(old, new)], ScanPolicy(), TODAY, known).blocking) == 2, (
        "only where it is asked for"
    )


def test_since_is_handed_on_from_version_to_version_and_a_rerun_says_the_same() -> None:
    second = {"org.opencontainers.image.version": "2.0.0"}
    old, new = replace(vulnerable(), since="1.0.0"), vulnerable(id_="CVE-2")
    first_run = recorded_keys([old, new], second)
    again = known_of(published({"python_packages": {"known": first_run}}, second))
    assert again.since == {old.key: "1.0.0", new.key: "2.0.0"}
    rerun = [replace(one, since=again.since[one.key]) for one in (old, new)]
    assert recorded_keys(rerun, second) == first_run


def test_an_expired_waiver_is_not_covered_by_the_published_image() -> None:
    waived = policy(waivers=[waiver()])
    facts = scan_verdict(decided([result(vulnerable())], waived, TODAY), LABELS).facts
    assert known_of(published(facts, LABELS)).since == {}
    known = KnownFindings({vulnerable().key: "1.0.0"})
    expired = policy(new_since="published", waivers=[waiver(expires="2026-11-01")])
    assert judge([result(vulnerable())], expired, TODAY, known).blocking


@pytest.mark.parametrize("case", ["nothing", "silent", "unrecorded", "nobody"])
async def test_with_nothing_to_compare_with_every_finding_counts_and_it_is_told(case: str) -> None:
    async def source() -> Published | None:
        if case == "silent":
            raise CouldNotTell("no route")
        return None if case == "nothing" else published({}, LABELS)

    known = await known_findings(None if case == "nobody" else source)
    report = decided([result(vulnerable())], policy(new_since="published"), TODAY, known)
    assert report.verdict.blocking
    assert "all count as new: " in report.summary()
    assert report.to_json()["not_compared_because"] == known.unknown != ""


def test_another_pending_update_and_another_secret_are_not_the_known_ones() -> None:
    update = vulnerable("os_packages", "suite:openssl", fixed_in="2")
    assert update.key != replace(update, fixed_in="3").key
    secret = vulnerable("secrets", "aws-key", subject="/app/.env", title="key AKIA…1")
    assert secret.key != replace(secret, title="key AKIA…2").key
    assert vulnerable().key == vulnerable("trivy", where="/x", fixed_in="3").key


def test_old_data_is_a_verdict_of_its_own() -> None:
    old = result(data_date="2026-11-01", data="all.zip")
    assert aged(replace(old, data_date="2026-11-15"), ScanPolicy(), TODAY).stale == ""
    told = decided([old], ScanPolicy(), TODAY)
    assert not told.verdict.blocks
    assert told.summary() == "python 0 (stale: its data is of 2026-11-01, 21 days old; policy: warn)"
    assert scan_verdict(told, {}).warned == ("python_packages",)
    strict = decided([old], policy(stale_data={"answer": "block"}), TODAY)
    model = Model(name="m", directory=Path("/m"), file=Path("/m/modelport.yaml"))
    assert "its data is of 2026-11-01" in str(blocked(strict, model))
    assert scan_verdict(strict, {}).failed == ("python_packages",)
    assert not decided([old], policy(stale_data={"after_days": 30, "answer": "block"}), TODAY).verdict.blocks


def test_a_waiver_for_a_package_knows_its_other_spelling_and_no_other_package() -> None:
    rules = policy(waivers=[waiver(package="Jinja2"), waiver("CVE-2", package="urllib3")])
    verdict = judge([result(vulnerable(), vulnerable(id_="CVE-2"))], rules, TODAY)
    assert [one.id for one, _ in verdict.waived] == ["CVE-1"]
    assert [one.id for one in verdict.blocking] == ["CVE-2"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"expires": "2029-01-01"}, "more than a year ahead"),
        ({"reason": " "}, "is empty"),
        ({"owner": ""}, "is empty"),
    ],
)
def test_a_waiver_for_ever_or_without_a_reason_is_a_mistake_with_its_line(
    tmp_path: Path, more: dict[str, str], said: str
) -> None:
    entry = "".join(f"      {key}: '{value}'\n" for key, value in (waiver() | more).items())
    file = tmp_path / "modelport.yaml"
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    file.write_text(f"scan:\n  waivers:\n    -\n{entry}")
    with pytest.raises(ConfigError, match=said) as raised:
        load(file, {})
    assert raised.value.place is not None
    assert (raised.value.place.line or 0) >= 3


def test_the_table_has_a_line_for_each_finding_and_an_end() -> None:
    found = [
        vulnerable(id_=f"CVE-{number}", fixed_in="2.11", file="requirements.txt", line=3)
        for number in range(30)
    ]
    verdict = judge([result(*found)], policy(waivers=[waiver("CVE-7")]), TODAY)
    lines = table(verdict).splitlines()
    assert lines[0].split() == ["severity", "id", "package", "installed", "→", "fixed", "where"]
    assert lines[1].split() == [
        "high",
        "CVE-0",
        "jinja2",
        "2.10",
        "→",
        "2.11",
        "requirements.txt:3",
        "blocks",
    ]
    assert lines[-1] == "and 10 more, in the record"
    assert len(lines) == 22
    assert table(judge([result()], ScanPolicy(), TODAY)) == ""
    low, medium = vulnerable(id_="LOW", severity="low"), vulnerable(id_="MEDIUM", severity="medium")
    assert table(judge([result(low)], ScanPolicy(), TODAY)) == ""
    shown = table(judge([result(low, medium)], ScanPolicy(), TODAY))
    assert ("LOW" in shown, "MEDIUM" in shown, "and 1 more" in shown) == (False, True, True)
    assert "LOW" in table(judge([result(low)], policy(block_at={"python_packages": "low"}), TODAY))
    assert (
        max(map(len, table(judge([result(vulnerable(id_="x" * 900))], ScanPolicy(), TODAY)).splitlines()))
        < 120
    )


class Layered:
    """An image of one layer with the given paths; or of none that could be read."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths

    async def layers(self) -> Any:
        if not self.paths:
            raise CouldNotLookError("not exported")
        entries = [SimpleNamespace(path=path, layer="sha256:a", deleted_by=None) for path in self.paths]
        gone = SimpleNamespace(path=self.paths[0], layer="sha256:b", deleted_by=3)
        return SimpleNamespace(entries=lambda: iter([*entries, gone]))


async def test_findings_are_told_with_their_layer_and_the_line_to_change(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# pinned\nflask==3.0\nJinja2[i18n] == 2.10  # old\n")
    (tmp_path / "Dockerfile").write_text("FROM a AS b\nRUN true\nFROM b\nENV PATH=/x TOKEN=abc\n")
    model = Model(name="m", directory=tmp_path, file=tmp_path / "modelport.yaml", build=DockerfileBuild())
    found = (
        vulnerable(where="/site/jinja2.dist-info"),
        vulnerable("os_packages", "suite:openssl", subject="openssl"),
        vulnerable("secrets", "environment", subject="ENV TOKEN"),
        vulnerable("secrets", "private-key", subject="/app/key.pem", where="/app/key.pem:3", line=3),
    )
    view = cast(ImageView, Layered("/site/jinja2.dist-info", "/app/key.pem"))
    (told,) = await placed([result(*found)], view, model)
    assert [(one.file, one.line, one.layer) for one in told.findings] == [
        ("requirements.txt", 3, "sha256:a"),
        ("Dockerfile", 3, ""),
        ("Dockerfile", 4, ""),
        ("", 3, "sha256:a"),
    ]
    (unread,) = await placed([result(*found)], cast(ImageView, Layered()), model)
    assert [one.layer for one in unread.findings] == [""] * 4
    error = blocked(decided([result(told.findings[0])], ScanPolicy(), TODAY), model)
    assert str(error).startswith(f"{tmp_path}/requirements.txt:3: python: high: CVE-1: jinja2 2.10")


async def test_the_dependencies_of_a_python_build_are_read_where_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "deps.txt").write_text("jinja2==2.10\n")
    build = PythonBuild(dependencies="deps.txt", code=("app.py",), command=("python",))
    model = Model(name="m", directory=tmp_path, file=tmp_path / "modelport.yaml", build=build)
    (told,) = await placed([result(vulnerable())], cast(ImageView, Layered()), model)
    assert (told.findings[0].file, told.findings[0].line) == ("deps.txt", 1)


def test_a_scanners_version_changes_with_whatever_its_program_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.scanners.programs._IN_ENGINE", tmp_path)
    (tmp_path / "one.py").write_text("from pipelines.in_engine.two import x\n")
    (tmp_path / "two.py").write_text("def f():\n    from pipelines.in_engine.three import y\n")
    (tmp_path / "three.py").write_text("y = 1\n")
    before = version_of_program("one")
    assert before == version_of_program("one")
    (tmp_path / "three.py").write_text("y = 2\n")
    assert before != version_of_program("one")
