"""The scan stage: failures contained, the policy's decision, waivers, what a blocked release is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.config import Model
from pipelines.config_scan import ScanPolicy
from pipelines.scanners.contents import Contents
from pipelines.scanners.model_files import ModelFiles
from pipelines.scanners.os_packages import DAY, OsPackages
from pipelines.scanners.policy import judge
from pipelines.scanners.port import CouldNotLookError, Finding, ScannerName, ScannerResult
from pipelines.scanners.python_packages import PythonPackages
from pipelines.scanners.secrets import Secrets
from pipelines.stages.scan import blocked, decided, look
from pipelines.values import JSON

pytestmark = pytest.mark.anyio
TODAY = date(2026, 11, 22)
NOTHING: dict[str, dict[str, JSON]] = {
    "apt_updates": {
        "suite": "bookworm-security",
        "updates": [],
        "packages": 131,
        "archive": "today",
        "archive_date": "2026-11-21",
        "archive_digest": "",
    },
    "find_secrets": {"found": [], "looked_at": 9, "bytes": 9, "problems": []},
    "model_files": {
        "files": [{"path": "/m.onnx", "format": "onnx", "calls": [], "unread": []}],
        "looked_at": 9,
        "problems": [],
    },
}


@dataclass
class FixedView:
    """An image whose programs answer with what a test gives; an exception is raised."""

    answers: Mapping[str, Any]
    asked: dict[str, Mapping[str, str]]

    async def run(
        self, program: str, *arguments: str, env: Mapping[str, str] | None = None, network: str = ""
    ) -> dict[str, JSON]:
        self.asked[program] = dict(env or {})
        answer = self.answers[program]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    async def contents(self) -> Contents:
        return Contents({}, (), "", (), (), ())

    async def environment(self) -> dict[str, str]:
        return {"PATH": "/usr/bin"}

    async def layers(self) -> Any:
        nothing: dict[str, Any] = {"found": [], "looked_at": 0, "bytes": 0, "problems": []}
        return SimpleNamespace(config={}, layers=(), recall=lambda name: nothing)


def finding(id_: str = "CVE-1", severity: Any = "high", **more: Any) -> Finding:
    values: dict[str, Any] = {"scanner": "python_packages", "subject": "jinja2", "installed": "2.10"}
    values |= {"title": "bad", **more}
    return Finding(id=id_, severity=severity, **values)


def result(*findings: Finding, scanner: ScannerName = "python_packages", **more: Any) -> ScannerResult:
    return ScannerResult(scanner, more.pop("audited", True), findings=findings, **more)


def policy(**section: Any) -> ScanPolicy:
    return ScanPolicy.model_validate(section)


def waiver(id_: str = "CVE-1", expires: str = "2026-12-31", **more: Any) -> dict[str, Any]:
    return {"id": id_, "reason": "not reachable", "owner": "mo", "expires": expires, **more}


def model(tmp_path: Path, scan: ScanPolicy | None = None) -> Model:
    return Model(name="m", directory=tmp_path, file=tmp_path / "modelport.yaml", scan=scan or ScanPolicy())


async def test_a_clean_image_passes_with_the_default_policy(tmp_path: Path) -> None:
    view = FixedView(NOTHING, {})
    scanners = (OsPackages(tmp_path, lambda: TODAY), PythonPackages(tmp_path), Secrets(), ModelFiles())
    report = decided(await look(view, scanners, ScanPolicy()), ScanPolicy(), TODAY)
    assert not report.verdict.blocks
    assert report.summary() == "os 0 · python 0 · secrets 0 · model files 1, safe format"
    assert view.asked["apt_updates"] == {DAY: "2026-11-22"}
    assert report.to_json()["verdict"] == "passed"


async def test_one_scanners_failure_does_not_stop_the_others_and_is_never_green(tmp_path: Path) -> None:
    broken = {**NOTHING, "apt_updates": CouldNotLookError("apt-get update: no route")}
    scanners = (OsPackages(tmp_path, lambda: TODAY), Secrets(), ModelFiles())
    report = decided(await look(FixedView(broken, {}), scanners, ScanPolicy()), ScanPolicy(), TODAY)
    assert report.verdict.blocks
    assert report.summary().startswith(
        "os not audited (apt-get update: no route; policy: block) · secrets 0 · "
    )
    error = blocked(report, model(tmp_path))
    assert error.exit_code == 5
    assert error.report is report
    assert "os not audited: apt-get update: no route" in str(error)
    assert "scan: could_not_look: os_packages: warn" in error.hint


def test_osv_unreachable_warns_by_default_and_blocks_where_asked() -> None:
    silent = result(audited=False, reason="OSV unreachable")
    assert not judge([silent], ScanPolicy(), TODAY).blocks
    assert decided([silent], ScanPolicy(), TODAY).summary() == (
        "python not audited (OSV unreachable; policy: warn)"
    )
    assert judge([silent], policy(could_not_look={"python_packages": "block"}), TODAY).blocks


@pytest.mark.parametrize(
    ("severity", "limit", "blocks"),
    [
        ("critical", "high", True),
        ("high", "high", True),
        ("medium", "high", False),
        ("medium", "medium", True),
        ("high", "critical", False),
        ("critical", "never", False),
    ],
)
def test_the_limit_is_the_least_severity_that_blocks(severity: Any, limit: str, blocks: bool) -> None:
    verdict = judge([result(finding(severity=severity))], policy(block_at={"python_packages": limit}), TODAY)
    assert verdict.blocks is blocks


def test_a_waiver_holds_up_to_its_last_day_and_for_any_name_of_the_finding() -> None:
    one = result(finding(aliases=("GHSA-x",)))
    until_today = policy(waivers=[waiver("GHSA-x", "2026-11-22")])
    verdict = judge([one], until_today, TODAY)
    assert not verdict.blocks
    assert [accepted.owner for _, accepted in verdict.waived] == ["mo"]
    assert decided([one], until_today, TODAY).summary() == "python 1 · 1 waived"
    assert judge([one], until_today, date(2026, 11, 23)).blocks


def test_an_expired_waiver_is_named_in_the_hint(tmp_path: Path) -> None:
    rules = policy(waivers=[waiver(expires="2026-11-01")])
    report = decided([result(finding(hint="upgrade jinja2"))], rules, TODAY)
    assert [one.id for one in report.verdict.expired] == ["CVE-1"]
    error = blocked(report, model(tmp_path, rules))
    assert "its waiver expired on 2026-11-01: upgrade jinja2; or ask mo" in error.hint


def test_a_waiver_for_one_subject_does_not_cover_another_and_is_told_when_unused() -> None:
    findings = result(finding(subject="/a/x.pkl"), finding(subject="/b/x.pkl"))
    verdict = judge([findings], policy(waivers=[waiver(subject="/a/*"), waiver("CVE-9")]), TODAY)
    assert [one.subject for one in verdict.blocking] == ["/b/x.pkl"]
    assert [one.id for one in verdict.unused] == ["CVE-9"]


def test_the_worst_finding_is_named_with_its_place_and_the_way_out(tmp_path: Path) -> None:
    key = finding(
        "private-key",
        "critical",
        scanner="secrets",
        subject="/app/key.pem",
        where="/app/key.pem:3",
        hint="take it out",
    )
    report = decided([result(finding()), result(key, scanner="secrets")], ScanPolicy(), TODAY)
    error = blocked(report, model(tmp_path))
    assert str(error) == (
        f"{tmp_path}/modelport.yaml: secrets: critical: private-key: /app/key.pem:3: bad (and 1 more)"
    )
    assert error.hint.startswith(
        "take it out; or accept it until a date: `scan: waivers: [{id: private-key, "
    )
    assert "subject: /app/key.pem" in error.hint
    assert ["high", "CVE-1", "jinja2", "2.10", "blocks"] in [
        line.split() for line in error.detail.splitlines()
    ]
    assert report.summary() == "python 1 (1 blocking) · secrets 1 (1 blocking)"


def test_findings_of_a_scanner_that_did_not_see_all_are_judged_too() -> None:
    half = result(finding(severity="critical"), audited=False, reason="1 file not read")
    report = decided([half], ScanPolicy(), TODAY)
    assert report.verdict.blocking
    assert report.summary() == "python 1 found, not audited (1 file not read; policy: warn)"
