"""What the policy says of the scanners' results: plain Python, without an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from pipelines.config_scan import SEVERITIES, ScanPolicy, Waiver
from pipelines.scanners.merging import merged
from pipelines.scanners.paths import matches, package_name
from pipelines.scanners.port import Finding, ScannerResult


@dataclass(frozen=True, slots=True)
class KnownFindings:
    """What the published image has by its own record: the keys of its findings, each with its version."""

    since: Mapping[str, str]
    """``Finding.key`` to the version that had it first."""
    version: str = ""
    """What the published image is called."""
    unknown: str = ""
    """Why there is nothing to compare with; then every finding counts."""


NOTHING_KNOWN = KnownFindings({}, unknown="nobody asked for the published image")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every finding once, and what becomes of it; which scanners' silence blocks; the waivers to tidy up."""

    findings: tuple[Finding, ...]
    """All of them, worst first; what several scanners found is one finding."""
    blocking: tuple[Finding, ...]
    waived: tuple[tuple[Finding, Waiver], ...]
    known: tuple[Finding, ...]
    """At the limit, and in the published image too (``new_since``)."""
    unfixed: tuple[Finding, ...]
    """At the limit, and no fix is known (``fixable_only``)."""
    not_audited: tuple[ScannerResult, ...]
    """Could not look, and the policy says that this blocks."""
    stale: tuple[ScannerResult, ...]
    """Judged by data that is too old, and the policy says that this blocks."""
    expired: tuple[Waiver, ...]
    """Waivers whose finding is there again, and which no longer hold."""
    unused: tuple[Waiver, ...]
    """Waivers without a finding: to be taken out, before they hide something else."""
    compared: str = ""
    """Under ``new_since``: why nothing could be compared, and all findings count."""

    @property
    def blocks(self) -> bool:
        """Is the image held back?"""
        return bool(self.blocking or self.not_audited or self.stale)


def judge(
    results: Sequence[ScannerResult],
    policy: ScanPolicy,
    today: date,
    known: KnownFindings = NOTHING_KNOWN,
) -> Verdict:
    """Apply ``policy`` to ``results`` as of ``today``. A waiver's last day is included."""
    findings = merged(replace(one, since=known.since.get(one.key, one.since)) for one in _all(results))
    live = [waiver for waiver in policy.waivers if waiver.expires >= today]
    covering = [(finding, _waiver_of(finding, live)) for finding in findings]
    matched = [waiver for waiver in policy.waivers if any(_covers(waiver, one) for one in findings)]
    expired = tuple(waiver for waiver in matched if waiver.expires < today)
    counting = [one for one, waiver in covering if waiver is None and _at_limit(one, policy)]
    fixable = [one for one in counting if _blocks_unfixed(one, policy)]
    # What was waived when it was published is no excuse once the waiver has expired.
    is_known = {
        one.key
        for one in fixable
        if policy.new_since and one.key in known.since and not _waiver_of(one, expired)
    }
    return Verdict(
        findings=findings,
        blocking=tuple(one for one in fixable if one.key not in is_known),
        waived=tuple((one, waiver) for one, waiver in covering if waiver is not None),
        known=tuple(one for one in fixable if one.key in is_known),
        unfixed=tuple(one for one in counting if not _blocks_unfixed(one, policy)),
        not_audited=tuple(
            one
            for one in results
            if not one.audited and getattr(policy.could_not_look, one.scanner) == "block"
        ),
        stale=tuple(one for one in results if one.stale and policy.stale_data.answer == "block"),
        expired=expired,
        unused=tuple(waiver for waiver in policy.waivers if waiver not in matched),
        compared=known.unknown if policy.new_since and findings else "",
    )


def _all(results: Sequence[ScannerResult]) -> list[Finding]:
    return [one for result in results for one in result.findings]


def aged(result: ScannerResult, policy: ScanPolicy, today: date) -> ScannerResult:
    """``result``, called stale where its data is older than the policy accepts."""
    if result.stale or not result.data_date:
        return result
    try:
        days = (today - date.fromisoformat(result.data_date[:10])).days
    except ValueError:
        return replace(result, stale=f"the date of its data is not to be read: {result.data_date[:40]}")
    if days <= policy.stale_data.after_days:
        return result
    return replace(result, stale=f"its data is of {result.data_date[:10]}, {days} days old")


def _at_limit(finding: Finding, policy: ScanPolicy) -> bool:
    """By the limit of any scanner that found it."""
    limits = [getattr(policy.block_at, scanner) for scanner in finding.scanners]
    rank = SEVERITIES.index(finding.severity)
    return any(limit != "never" and rank <= SEVERITIES.index(limit) for limit in limits)


def _blocks_unfixed(finding: Finding, policy: ScanPolicy) -> bool:
    return bool(finding.fixed_in) or not all(policy.wants_fix(scanner) for scanner in finding.scanners)


def _waiver_of(finding: Finding, waivers: Sequence[Waiver]) -> Waiver | None:
    return next((waiver for waiver in waivers if _covers(waiver, finding)), None)


def _covers(waiver: Waiver, finding: Finding) -> bool:
    if waiver.id not in finding.names:
        return False
    if waiver.package and package_name(waiver.package) != package_name(finding.subject):
        return False
    return not waiver.subject or matches(finding.subject, (waiver.subject,))
