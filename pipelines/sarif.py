"""A scan as SARIF 2.1.0, of the subset that GitHub's code scanning takes. Pure.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html; its sections are named where they decide.
GitHub's limits: "SARIF support for code scanning". It holds no time: the same findings give the same text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pipelines.config_scan import VULNERABILITY_SCANNERS, Severity

if TYPE_CHECKING:
    from pipelines.config_scan import Waiver
    from pipelines.scanners.port import Finding, ScannerResult
    from pipelines.stages.scan_report import ScanReport

Entry = dict[str, Any]
"""A part of the document. Any: JSON on its way out."""

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
MOST_RESULTS: Final = 25_000
"""GitHub refuses a run with more; the worst are kept."""
LEVELS: Final[Mapping[Severity, str]] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "note",
}
SCORES: Final[Mapping[Severity, str]] = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "2.0"}
"""``security-severity``: GitHub calls above 9.0 critical, from 7.0 high, from 4.0 medium."""
IMAGE: Final = "image"
"""The directory that a path in the image is told under: never a path of the repository."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What was scanned."""

    model: str
    directory: str
    """modelport.yaml's directory, relative to the repository's root; "" for the root."""
    version: str
    """This program's."""


def sarif(report: ScanReport, subject: Subject) -> Entry:
    """The SARIF log of ``report``: one run, a rule for each id, a result for each finding."""
    findings = report.verdict.findings[:MOST_RESULTS]
    rules = _rules(findings)
    places = {rule["id"]: place for place, rule in enumerate(rules)}
    accepted = {id(finding): waiver for finding, waiver in report.verdict.waived}
    standing = {id(one): "blocks" for one in report.verdict.blocking}
    standing |= {id(one): "known" for one in report.verdict.known}
    standing |= {id(one): "no fix is known" for one in report.verdict.unfixed}
    run: Entry = {
        "tool": {
            "driver": {"name": "Modelport", "version": subject.version, "rules": rules},
            "extensions": [_extension(one) for one in report.results],
        },
        # Section 3.17.3: GitHub's category is what stands before the last slash.
        "automationDetails": {"id": f"modelport/scan/{subject.model}/"},
        "invocations": [_invocation(report)],
        "columnKind": "utf16CodeUnits",
        "results": [
            _result(one, subject, places, accepted.get(id(one)), standing.get(id(one), ""))
            for one in findings
        ],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule_id(finding: Finding) -> str:
    """An advisory's own id; a rule of a scanner's own under its name."""
    if finding.scanner in VULNERABILITY_SCANNERS:
        return finding.id[:255]
    return f"{finding.scanner}/{finding.id}"[:255]


def _rules(findings: Sequence[Finding]) -> list[Entry]:
    """One ``reportingDescriptor`` (section 3.49) for each id: findings come worst first, so by its worst."""
    worst: dict[str, Finding] = {}
    for one in findings:
        worst.setdefault(_rule_id(one), one)
    return [_rule(name, worst[name]) for name in sorted(worst)]


def _rule(name: str, one: Finding) -> Entry:
    packaged = one.scanner in VULNERABILITY_SCANNERS
    title = f"{one.id}: {one.title}" if packaged else one.id
    help_text = one.hint or "See the advisory."
    links = f"\n\n[{one.id}]({one.url})" if one.url else ""
    rule: Entry = {
        "id": name,
        "name": one.id[:255],
        "shortDescription": {"text": _bounded(title)},
        "fullDescription": {"text": _bounded(one.title or one.id)},
        "help": {
            "text": f"{one.title}\n\n{help_text}",
            "markdown": f"**{_plain(one.title)}**\n\n{_plain(help_text)}{links}",
        },
        "defaultConfiguration": {"level": LEVELS[one.severity]},
        "properties": {
            "tags": ["security", *one.scanners],
            "precision": "high",
            "security-severity": SCORES[one.severity],
        },
    }
    return rule | ({"helpUri": one.url} if one.url.startswith(("https://", "http://")) else {})


def _result(
    one: Finding, subject: Subject, rules: Mapping[str, int], waiver: Waiver | None, standing: str
) -> Entry:
    """A ``result`` (section 3.27). Its fingerprint stays when the line moves."""
    name = _rule_id(one)
    fields = {"since": one.since, "layer": one.layer, "fixed_in": one.fixed_in, "standing": standing}
    result: Entry = {
        "ruleId": name,
        "ruleIndex": rules[name],
        "level": LEVELS[one.severity],
        "message": {"text": _message(one)},
        "locations": [_location(one, subject)],
        "partialFingerprints": {
            "primaryLocationLineHash": f"{one.key}:1",
            "modelportFinding/v1": one.key,
        },
        "properties": {
            "scanners": list(one.scanners),
            "severity": one.severity,
            **{key: value for key, value in fields.items() if value},
        },
    }
    return result if waiver is None else result | {"suppressions": [_suppression(waiver)]}


def _message(one: Finding) -> str:
    what = f"{one.subject} {one.installed}".strip()
    fix = f" Fixed in {one.fixed_in}." if one.fixed_in else ""
    since = f" Known since {one.since}." if one.since else ""
    where = f" In the image at {one.where}." if one.where and one.where != one.subject else ""
    return _bounded(f"{what}: {one.title}.{fix}{where}{since} {one.hint}".strip())


def _location(one: Finding, subject: Subject) -> Entry:
    """The line of the repository; else the path in the image; else modelport.yaml, which every model has."""
    path, number = _in_image(one)
    region: Entry = {}
    if one.file:
        uri, line = _in_repository(subject, one.file), one.line
    elif path:
        uri, line = quote(f"{IMAGE}{path}"), one.line or number
    else:
        uri, line = _in_repository(subject, "modelport.yaml"), 1
    if line:
        region = {"region": {"startLine": line}}
    return {
        "physicalLocation": {"artifactLocation": {"uri": uri}, **region},
        "logicalLocations": [
            {
                "name": one.subject,
                "fullyQualifiedName": f"{subject.model}:{one.subject}",
                "kind": "resource" if path else "package",
            }
        ],
    }


def _in_image(one: Finding) -> tuple[str, int | None]:
    """The finding's path in the image and the line that it names there; "" and None without any."""
    path = one.subject if one.subject.startswith("/") else one.where
    if not path.startswith("/"):
        return "", None
    bare, _, number = one.where.rpartition(":")
    has_line = number.isdigit() and bare and (bare == path or one.where == path != one.subject)
    return (bare, int(number)) if has_line else (path, None)


def _in_repository(subject: Subject, file: str) -> str:
    """A path relative to the repository's root, without ``..``."""
    parts: list[str] = []
    for part in f"{subject.directory}/{file}".split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", ".", ".."):
            parts.append(part)
    return quote("/".join(parts))


def _suppression(waiver: Waiver) -> Entry:
    """Section 3.35: accepted outside of the source, by whom, why and until when."""
    why = f"{waiver.reason} ({waiver.owner}, until {waiver.expires.isoformat()})"
    return {"kind": "external", "status": "accepted", "justification": why}


def _extension(result: ScannerResult) -> Entry:
    """The scanner as a ``toolComponent`` (section 3.19), with the data that it judged by."""
    known = {
        "judged_by": result.data,
        "data_date": result.data_date,
        "data_digest": result.data_digest,
        "network": result.network,
    }
    properties = {key: value for key, value in known.items() if value}
    extension: Entry = {"name": result.scanner}
    if result.version:
        extension["version"] = result.version
    return extension | ({"properties": properties} if properties else {})


def _invocation(report: ScanReport) -> Entry:
    """Section 3.20: "could not look" is an execution that did not succeed, never a clean result."""
    policy = report.policy
    told = [
        _notification(
            "not-audited", one, one.reason, blocks=getattr(policy.could_not_look, one.scanner) == "block"
        )
        for one in report.results
        if not one.audited
    ]
    told += [
        _notification("stale-data", one, one.stale, blocks=policy.stale_data.answer == "block")
        for one in report.results
        if one.stale
    ]
    invocation: Entry = {"executionSuccessful": all(one.audited for one in report.results)}
    if told:
        invocation["toolExecutionNotifications"] = told
    waivers = [(one, "has expired") for one in report.verdict.expired]
    waivers += [(one, "matches no finding") for one in report.verdict.unused]
    if waivers:
        invocation["toolConfigurationNotifications"] = [
            {
                "descriptor": {"id": "waiver"},
                "level": "warning",
                "message": {"text": f"the waiver of {one.id} ({one.owner}) {why}"},
            }
            for one, why in waivers
        ]
    return invocation


def _notification(kind: str, result: ScannerResult, why: str, *, blocks: bool) -> Entry:
    return {
        "descriptor": {"id": f"{kind}/{result.scanner}"},
        "level": "error" if blocks else "warning",
        "message": {"text": _bounded(f"{result.scanner}: {why}")},
    }


def _bounded(text: str) -> str:
    """GitHub shows at most 1024 characters of a text."""
    text = " ".join(text.split())
    return text if len(text) <= 1024 else f"{text[:1023]}…"


def _plain(text: str) -> str:
    """Text that Markdown leaves alone: an advisory's words are not ours."""
    return "".join(f"\\{one}" if one in "\\`*_[]<>#|!" else one for one in text)
