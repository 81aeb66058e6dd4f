"""What the scan stage says: the line of the summary, the record, and the error of a blocked release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.config import Model
from pipelines.config_scan import ScanPolicy, Waiver
from pipelines.errors import Place, ScanBlocked
from pipelines.scan_table import table
from pipelines.scanners.policy import Verdict
from pipelines.scanners.port import Finding, ScannerName, ScannerResult
from pipelines.values import JSON

TITLES: dict[ScannerName, str] = {
    "os_packages": "os",
    "python_packages": "python",
    "secrets": "secrets",
    "model_files": "model files",
    "licences": "licences",
    "hygiene": "hygiene",
    "dockerfile": "Dockerfile",
    "trivy": "trivy",
    "grype": "grype",
}


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What the scanners found and what the policy says of it."""

    results: tuple[ScannerResult, ...]
    verdict: Verdict
    policy: ScanPolicy
    seconds: Mapping[ScannerName, float] = field(default_factory=dict)
    """How long each scanner took."""

    def summary(self) -> str:
        """One word or two per scanner; "not audited" and "stale" are always said."""
        verdict = self.verdict
        parts = [self._part(result) for result in self.results]
        if verdict.known:
            parts.append(f"{len(verdict.known)} known since {verdict.known[0].since}")
        if verdict.unfixed:
            parts.append(f"{len(verdict.unfixed)} without a fix")
        if verdict.compared:
            parts.append(f"all count as new: {verdict.compared}")
        if verdict.waived:
            parts.append(f"{len(verdict.waived)} waived")
        if verdict.unused:
            parts.append("unused waivers: " + ", ".join(waiver.id for waiver in verdict.unused))
        return " · ".join(parts)

    def _part(self, result: ScannerResult) -> str:
        title = TITLES[result.scanner]
        if not result.audited:
            answer = getattr(self.policy.could_not_look, result.scanner)
            found = f"{len(result.findings)} found, " if result.findings else ""
            return f"{title} {found}not audited ({result.reason}; policy: {answer})"
        if result.not_applicable:
            return f"{title} not applicable ({result.not_applicable})"
        stale = f" (stale: {result.stale}; policy: {self.policy.stale_data.answer})" if result.stale else ""
        if result.scanner == "model_files" and not result.findings:
            return f"{title} {result.note}{stale}"
        blocking = sum(result.scanner in finding.scanners for finding in self.verdict.blocking)
        return f"{title} {len(result.findings)}" + (f" ({blocking} blocking)" if blocking else "") + stale

    def table(self) -> str:
        """The findings for people, worst first, in a bounded number of lines; "" where there are none."""
        return table(self.verdict)

    def to_json(self) -> dict[str, JSON]:
        """Results, decision and waivers, for the record."""
        verdict = self.verdict
        return {
            "verdict": "blocked" if verdict.blocks else "passed",
            "scanners": [
                {**result.to_json(), "seconds": round(self.seconds.get(result.scanner, 0.0), 3)}
                for result in self.results
            ],
            "findings": [finding.to_json() for finding in verdict.findings],
            "blocking": [finding.to_json() for finding in verdict.blocking],
            "waived": [
                {"finding": finding.to_json(), **_waiver_json(waiver)} for finding, waiver in verdict.waived
            ],
            "known": [finding.to_json() for finding in verdict.known],
            "without_fix": [finding.to_json() for finding in verdict.unfixed],
            "not_compared_because": verdict.compared or None,
            "blocked_because_not_audited": [result.scanner for result in verdict.not_audited],
            "blocked_because_stale": [result.scanner for result in verdict.stale],
            "expired_waivers": [_waiver_json(waiver) for waiver in verdict.expired],
            "unused_waivers": [_waiver_json(waiver) for waiver in verdict.unused],
            "policy": self.policy.model_dump(mode="json"),
        }


def _waiver_json(waiver: Waiver) -> dict[str, JSON]:
    return {
        "id": waiver.id,
        "package": waiver.package,
        "subject": waiver.subject,
        "reason": waiver.reason,
        "owner": waiver.owner,
        "expires": waiver.expires.isoformat(),
    }


def blocked(report: ScanReport, model: Model) -> ScanBlocked:
    """The error for a report that blocks: the worst finding by name and place, and the way out."""
    verdict = report.verdict
    if verdict.blocking:
        worst, others = verdict.blocking[0], len(verdict.blocking) - 1
        message = f"{TITLES[worst.scanner]}: {worst}" + (f" (and {others} more)" if others else "")
        hint = _way_out(worst, verdict)
    elif verdict.not_audited:
        silent = verdict.not_audited[0]
        message = f"{TITLES[silent.scanner]} not audited: {silent.reason}"
        hint = f"make it possible to look, or accept it: `scan: could_not_look: {silent.scanner}: warn`"
    else:
        old = verdict.stale[0]
        message = f"{TITLES[old.scanner]}: {old.stale}"
        hint = "renew the data, or accept it: `scan: stale_data: {answer: warn}`"
    lines = report.table().splitlines()
    lines += [f"{TITLES[one.scanner]}: not audited: {one.reason}" for one in verdict.not_audited]
    lines += [f"{TITLES[one.scanner]}: stale: {one.stale}" for one in verdict.stale]
    lines += [f"the waiver of {one.id} ({one.owner}) expired on {one.expires}" for one in verdict.expired]
    place = _place(verdict, model)
    error = ScanBlocked(message, hint=hint, place=place, detail="\n".join(lines))
    error.report = report
    return error


def _place(verdict: Verdict, model: Model) -> Place:
    """The line that is to change, where the repository tells; else the policy's file."""
    worst = verdict.blocking[0] if verdict.blocking else None
    if worst is None or not worst.file:
        return Place(model.file)
    return Place(model.directory / worst.file, worst.line)


def _way_out(finding: Finding, verdict: Verdict) -> str:
    expired = next((one for one in verdict.expired if one.id in finding.names), None)
    if expired:
        return f"its waiver expired on {expired.expires}: {finding.hint}; or ask {expired.owner} to renew it"
    narrowed = f", subject: {finding.subject}" if finding.subject.startswith(("/", "ENV ")) else ""
    waiver = f"scan: waivers: [{{id: {finding.id}{narrowed}, reason: …, owner: …, expires: …}}]"
    return f"{finding.hint}; or accept it until a date: `{waiver}`"
