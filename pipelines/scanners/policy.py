"""What the policy says of the scanners' results: plain Python, without an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pipelines.config_scan import SEVERITIES, ScanPolicy, Waiver
from pipelines.scanners.paths import matches
from pipelines.scanners.port import Finding, ScannerResult


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which findings block, which are waived, which scanners' silence blocks; and the waivers to tidy up."""

    blocking: tuple[Finding, ...]
    """Worst first."""
    waived: tuple[tuple[Finding, Waiver], ...]
    not_audited: tuple[ScannerResult, ...]
    """Could not look, and the policy says that this blocks."""
    expired: tuple[Waiver, ...]
    """Waivers whose finding is there again, and which no longer hold."""
    unused: tuple[Waiver, ...]
    """Waivers without a finding: to be taken out, before they hide something else."""

    @property
    def blocks(self) -> bool:
        """Is the image held back?"""
        return bool(self.blocking or self.not_audited)


def judge(results: Sequence[ScannerResult], policy: ScanPolicy, today: date) -> Verdict:
    """Apply ``policy`` to ``results`` as of ``today``. A waiver's last day is included."""
    findings = sorted((one for result in results for one in result.findings), key=lambda one: one.rank)
    live = [waiver for waiver in policy.waivers if waiver.expires >= today]
    covering = [(finding, _waiver_of(finding, live)) for finding in findings]
    matched = [waiver for waiver in policy.waivers if any(_covers(waiver, one) for one in findings)]
    return Verdict(
        blocking=tuple(one for one, waiver in covering if waiver is None and _at_limit(one, policy)),
        waived=tuple((one, waiver) for one, waiver in covering if waiver is not None),
        not_audited=tuple(
            one
            for one in results
            if not one.audited and getattr(policy.could_not_look, one.scanner) == "block"
        ),
        expired=tuple(waiver for waiver in matched if waiver.expires < today),
        unused=tuple(waiver for waiver in policy.waivers if waiver not in matched),
    )


def _at_limit(finding: Finding, policy: ScanPolicy) -> bool:
    limit = getattr(policy.block_at, finding.scanner)
    return limit != "never" and SEVERITIES.index(finding.severity) <= SEVERITIES.index(limit)


def _waiver_of(finding: Finding, waivers: Sequence[Waiver]) -> Waiver | None:
    return next((waiver for waiver in waivers if _covers(waiver, finding)), None)


def _covers(waiver: Waiver, finding: Finding) -> bool:
    named = waiver.id in (finding.id, *finding.aliases)
    return named and (not waiver.subject or matches(finding.subject, (waiver.subject,)))
