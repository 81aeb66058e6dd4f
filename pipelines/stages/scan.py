"""The scan stage: is the image safe? All scanners at once, then one decision, which is plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import anyio

from pipelines.config import Model
from pipelines.config_scan import ScanPolicy, Waiver
from pipelines.errors import Place, ScanBlocked
from pipelines.scanners.model_files import ModelFiles
from pipelines.scanners.os_packages import OsPackages
from pipelines.scanners.policy import Verdict, judge
from pipelines.scanners.port import CouldNotLookError, Finding, ImageView, Scanner, ScannerName, ScannerResult
from pipelines.scanners.python_packages import PythonPackages
from pipelines.scanners.secrets import Secrets
from pipelines.scanners.view import EngineView
from pipelines.values import JSON

if TYPE_CHECKING:
    import dagger

SCANNER_LIMIT_S = 1200.0
TITLES: dict[ScannerName, str] = {
    "os_packages": "os",
    "python_packages": "python",
    "secrets": "secrets",
    "model_files": "model files",
}


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What the scanners found and what the policy says of it."""

    results: tuple[ScannerResult, ...]
    verdict: Verdict
    policy: ScanPolicy

    def summary(self) -> str:
        """One word or two per scanner; "not audited" is always said."""
        parts = [self._part(result) for result in self.results]
        if self.verdict.waived:
            parts.append(f"{len(self.verdict.waived)} waived")
        if self.verdict.unused:
            parts.append("unused waivers: " + ", ".join(waiver.id for waiver in self.verdict.unused))
        return " · ".join(parts)

    def _part(self, result: ScannerResult) -> str:
        title = TITLES[result.scanner]
        if not result.audited:
            answer = getattr(self.policy.could_not_look, result.scanner)
            found = f"{len(result.findings)} found, " if result.findings else ""
            return f"{title} {found}not audited ({result.reason}; policy: {answer})"
        if result.scanner == "model_files" and not result.findings:
            return f"{title} {result.note}"
        blocking = sum(finding.scanner == result.scanner for finding in self.verdict.blocking)
        return f"{title} {len(result.findings)}" + (f" ({blocking} blocking)" if blocking else "")

    def to_json(self) -> dict[str, JSON]:
        """Results, decision and waivers, for the record."""
        verdict = self.verdict
        return {
            "verdict": "blocked" if verdict.blocks else "passed",
            "scanners": [result.to_json() for result in self.results],
            "blocking": [finding.to_json() for finding in verdict.blocking],
            "waived": [
                {"finding": finding.to_json(), **_waiver_json(waiver)} for finding, waiver in verdict.waived
            ],
            "blocked_because_not_audited": [result.scanner for result in verdict.not_audited],
            "expired_waivers": [_waiver_json(waiver) for waiver in verdict.expired],
            "unused_waivers": [_waiver_json(waiver) for waiver in verdict.unused],
            "policy": self.policy.model_dump(mode="json"),
        }


def _waiver_json(waiver: Waiver) -> dict[str, JSON]:
    return {
        "id": waiver.id,
        "subject": waiver.subject,
        "reason": waiver.reason,
        "owner": waiver.owner,
        "expires": waiver.expires.isoformat(),
    }


async def scan(image: dagger.Container, model: Model) -> ScanReport:
    """Scan the built image and apply the model's policy.

    Raises:
        ScanBlocked: the policy holds the image back; its ``report`` says everything that was found.
    """
    scanners: tuple[Scanner, ...] = (OsPackages(), PythonPackages(model.directory), Secrets(), ModelFiles())
    results = await look(EngineView(image, model), scanners, model.scan)
    report = decided(results, model.scan, datetime.now(UTC).date())
    if report.verdict.blocks:
        raise blocked(report, model)
    return report


def decided(results: Sequence[ScannerResult], policy: ScanPolicy, today: date) -> ScanReport:
    """The report on ``results`` as of ``today``."""
    return ScanReport(tuple(results), judge(results, policy, today), policy)


async def look(image: ImageView, scanners: Sequence[Scanner], policy: ScanPolicy) -> list[ScannerResult]:
    """Run all ``scanners`` at once. One that has no answer is "not audited"; the others go on."""
    results: dict[ScannerName, ScannerResult] = {}

    async def one(scanner: Scanner) -> None:
        try:
            with anyio.fail_after(SCANNER_LIMIT_S):
                results[scanner.name] = await scanner.scan(image, policy)
        except CouldNotLookError as err:
            results[scanner.name] = ScannerResult(scanner.name, audited=False, reason=str(err))
        except TimeoutError:
            reason = f"it took more than {SCANNER_LIMIT_S:.0f} seconds"
            results[scanner.name] = ScannerResult(scanner.name, audited=False, reason=reason)

    async with anyio.create_task_group() as tasks:
        for scanner in scanners:
            tasks.start_soon(one, scanner)
    return [results[scanner.name] for scanner in scanners]


def blocked(report: ScanReport, model: Model) -> ScanBlocked:
    """The error for a report that blocks: the worst finding by name and place, and the way out."""
    verdict = report.verdict
    if verdict.blocking:
        worst, others = verdict.blocking[0], len(verdict.blocking) - 1
        message = f"{TITLES[worst.scanner]}: {worst}" + (f" (and {others} more)" if others else "")
        hint = _way_out(worst, verdict)
    else:
        silent = verdict.not_audited[0]
        message = f"{TITLES[silent.scanner]} not audited: {silent.reason}"
        hint = f"make it possible to look, or accept it: `scan: could_not_look: {silent.scanner}: warn`"
    lines = [f"{TITLES[one.scanner]}: {one}" for one in verdict.blocking]
    lines += [f"{TITLES[one.scanner]}: not audited: {one.reason}" for one in verdict.not_audited]
    lines += [f"the waiver of {one.id} ({one.owner}) expired on {one.expires}" for one in verdict.expired]
    error = ScanBlocked(message, hint=hint, place=Place(model.file), detail="\n".join(lines))
    error.report = report
    return error


def _way_out(finding: Finding, verdict: Verdict) -> str:
    expired = next((one for one in verdict.expired if one.id in (finding.id, *finding.aliases)), None)
    if expired:
        return f"its waiver expired on {expired.expires}: {finding.hint}; or ask {expired.owner} to renew it"
    subject = f", subject: {finding.subject}" if finding.scanner in ("secrets", "model_files") else ""
    waiver = f"scan: waivers: [{{id: {finding.id}{subject}, reason: …, owner: …, expires: …}}]"
    return f"{finding.hint}; or accept it until a date: `{waiver}`"
