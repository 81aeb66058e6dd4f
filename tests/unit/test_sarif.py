"""SARIF: its shape as the standard and GitHub want it, places in repository and image, waivers, silence."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from official_schemas import GITHUB_MOST_BYTES, errors, hold_sarif

from pipelines.config import Model
from pipelines.config_scan import ScanPolicy
from pipelines.documents import with_documents
from pipelines.errors import ScanBlocked
from pipelines.sarif import MOST_RESULTS, Subject, sarif
from pipelines.scanners.port import Finding, ScannerResult
from pipelines.stages.scan import ScanReport, blocked, decided

pytestmark = pytest.mark.anyio

TODAY = date(2026, 11, 22)
SUBJECT = Subject("langid", "examples/langid", "0.1.0")


def finding(
    scanner: Any = "python_packages", id_: str = "CVE-1", severity: Any = "high", **more: Any
) -> Finding:
    values = {"subject": "jinja2", "installed": "2.10", "title": "bad", "hint": "upgrade"} | more
    return Finding(scanner=scanner, id=id_, severity=severity, **values)


def run_of(*findings: Finding, waivers: Any = (), **more: Any) -> Any:
    scanner = findings[0].scanner if findings else "python_packages"
    one = ScannerResult(scanner, more.pop("audited", True), findings=findings, **more)
    report = decided([one], ScanPolicy.model_validate({"waivers": waivers}), TODAY)
    log = sarif(report, SUBJECT)
    assert hold_sarif(json.dumps(log)) == log
    return log["runs"][0]


def physical(result: Any) -> Any:
    return result["locations"][0]["physicalLocation"]


def test_a_finding_is_a_result_of_a_rule_with_help_and_a_number() -> None:
    run = run_of(finding(url="https://osv.dev/CVE-1", aliases=("GHSA-x",), fixed_in="2.11", since="1.0.0"))
    (rule,) = run["tool"]["driver"]["rules"]
    assert (rule["id"], rule["helpUri"]) == ("CVE-1", "https://osv.dev/CVE-1")
    assert rule["properties"]["security-severity"] == "8.0"
    assert "upgrade" in rule["help"]["text"]
    (result,) = run["results"]
    assert (result["ruleId"], result["ruleIndex"], result["level"]) == ("CVE-1", 0, "error")
    assert "jinja2 2.10: bad. Fixed in 2.11. Known since 1.0.0." in result["message"]["text"]
    assert run["automationDetails"]["id"] == "modelport/scan/langid/"


@pytest.mark.parametrize(
    ("found", "uri", "line"),
    [
        (finding(file="requirements.txt", line=3), "examples/langid/requirements.txt", 3),
        (finding(file="../Dockerfile", line=1), "examples/Dockerfile", 1),
        (finding("secrets", "k", subject="/a b/k.pem", where="/a b/k.pem:7"), "image/a%20b/k.pem", 7),
        (
            finding("model_files", "os.system", subject="/m:1/x.pkl", where="/m:1/x.pkl"),
            "image/m%3A1/x.pkl",
            None,
        ),
        (finding("os_packages"), "examples/langid/modelport.yaml", 1),
    ],
    ids=["a line", "above the model", "in the image", "a colon", "nowhere"],
)
def test_every_result_has_a_place_relative_to_the_repository(
    found: Finding, uri: str, line: int | None
) -> None:
    place = physical(run_of(found)["results"][0])
    assert place["artifactLocation"]["uri"] == uri
    assert place.get("region", {}).get("startLine") == line


def test_fingerprints_stay_when_lines_move_and_differ_between_findings() -> None:
    def fingerprints(*found: Finding) -> list[str]:
        return [one["partialFingerprints"]["primaryLocationLineHash"] for one in run_of(*found)["results"]]

    before = fingerprints(finding(file="requirements.txt", line=3))
    assert before == fingerprints(finding(file="requirements.txt", line=9))
    assert len({*fingerprints(finding(), finding(id_="CVE-2"), finding(subject="urllib3"))}) == 3


def test_a_waived_finding_is_a_suppressed_result_with_its_justification() -> None:
    waiver = {"id": "CVE-1", "reason": "not reached", "owner": "mo@x", "expires": "2026-12-31"}
    waived, other = run_of(finding(), finding(id_="CVE-2"), waivers=[waiver])["results"]
    (suppression,) = waived["suppressions"]
    assert suppression["status"] == "accepted"
    assert suppression["justification"] == "not reached (mo@x, until 2026-12-31)"
    assert "suppressions" not in other


def test_a_scanner_that_could_not_look_is_no_clean_run() -> None:
    run = run_of(
        audited=False,
        reason="OSV unreachable",
        stale="its data is old",
        waivers=[{"id": "CVE-9", "reason": "r", "owner": "o", "expires": "2026-12-31"}],
    )
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    told = [one["message"]["text"] for one in invocation["toolExecutionNotifications"]]
    assert told == ["python_packages: OSV unreachable", "python_packages: its data is old"]
    assert "CVE-9" in invocation["toolConfigurationNotifications"][0]["message"]["text"]
    assert run["results"] == []


def test_a_rule_counts_as_its_worst_finding() -> None:
    run = run_of(
        finding("secrets", "key", "medium", subject="/a"), finding("secrets", "key", "critical", subject="/b")
    )
    (rule,) = run["tool"]["driver"]["rules"]
    assert (rule["id"], rule["properties"]["security-severity"]) == ("secrets/key", "9.5")
    assert [one["level"] for one in run["results"]] == ["error", "warning"]


def test_an_advisorys_words_are_bounded_and_no_markdown() -> None:
    run = run_of(finding(title="![x](https://evil) " + "y" * 3000, url="javascript:alert(1)"))
    (rule,) = run["tool"]["driver"]["rules"]
    assert len(rule["shortDescription"]["text"]) == 1024
    assert "![x](" not in rule["help"]["markdown"]
    assert "helpUri" not in rule


def test_the_official_schema_refuses_what_is_wrong() -> None:
    run = run_of(finding())
    log = {"version": "2.1.0", "runs": [run]}
    assert errors("sarif-schema-2.1.0.json", log) == []
    wrong = {**log, "runs": [{**run, "results": [{**run["results"][0], "level": "bad"}]}]}
    assert "'bad' is not one of" in errors("sarif-schema-2.1.0.json", wrong)[0]


def test_the_most_findings_that_github_takes_fit_into_its_largest_file() -> None:
    title = "A flaw in a parser lets a caller write beyond a buffer, in one of a thousand ways: "
    found = [
        finding(id_=f"CVE-2026-{n}", subject=f"package{n}", title=f"{title}{n}", where=f"/usr/lib/{n}/x.so")
        for n in range(MOST_RESULTS // 10)
    ]
    report = decided(
        [ScannerResult("python_packages", audited=True, findings=tuple(found))], ScanPolicy(), TODAY
    )
    text = json.dumps(sarif(report, SUBJECT))
    assert 10 * len(gzip.compress(text.encode(), 6)) < GITHUB_MOST_BYTES


def test_a_run_has_no_more_results_than_github_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.sarif.MOST_RESULTS", 2)
    results = run_of(*(finding(subject=f"p{number}") for number in range(3)), finding(severity="critical"))[
        "results"
    ]
    assert [one["properties"]["severity"] for one in results] == ["critical", "high"]
    assert MOST_RESULTS == 25_000


@pytest.mark.parametrize("severity", ["high", "low"])
async def test_the_file_is_there_whether_the_release_is_blocked_or_not(tmp_path: Path, severity: str) -> None:
    (tmp_path / ".git").mkdir()
    model = Model(name="m", directory=tmp_path / "a" / "b", file=tmp_path / "a" / "b" / "modelport.yaml")
    one = ScannerResult("python_packages", audited=True, findings=(finding(severity=severity),))
    report = decided([one], ScanPolicy(), TODAY)

    async def work() -> ScanReport:
        if report.verdict.blocks:
            raise blocked(report, model)
        return report

    if severity == "high":
        with pytest.raises(ScanBlocked):
            await with_documents(work(), tmp_path, model)
    else:
        assert await with_documents(work(), tmp_path, model) is report
    (written,) = hold_sarif((tmp_path / "scan.sarif").read_text())["runs"]
    assert physical(written["results"][0])["artifactLocation"]["uri"] == "a/b/modelport.yaml"
