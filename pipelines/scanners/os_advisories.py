"""Vulnerabilities of a distribution's packages by OSV's advisories, for those whose archive is not asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pipelines.config_scan import Severity
from pipelines.scanners.advisories import AdvisorySource, Package
from pipelines.scanners.port import CouldNotLookError, Finding, ScannerResult

if TYPE_CHECKING:
    from pipelines.scanners.contents import Contents, OsPackage
    from pipelines.scanners.osv import Advisory

CANARY: Final = {
    "Alpine": ("openssl", "0.9.8-r0"),
    "Wolfi": ("openssl", "0.9.8-r0"),
    "Chainguard": ("openssl", "0.9.8-r0"),
    "Ubuntu": ("openssl", "0.9.8"),
    "AlmaLinux": ("openssl", "0.9.8-1"),
    "Rocky Linux": ("openssl", "0.9.8-1"),
    "Debian": ("openssl", "0.9.8"),
}
"""Known to be vulnerable in every release: where nothing is known of it, nothing is known of the release.

OSV answers for a release that it has never heard of as for one without any vulnerability.
"""


def ecosystem_of(release: Mapping[str, str]) -> str:
    """The distribution as OSV calls it (OSV schema, "Defined ecosystems"), from the keys of os-release.

    Raises:
        CouldNotLookError: OSV has no advisories on it, or none that tell by release.
    """
    name, number = release.get("ID", ""), release.get("VERSION_ID", "")
    shown = release.get("PRETTY_NAME") or name or "an image without os-release"
    match name:
        case "alpine" if match := re.fullmatch(r"(\d+\.\d+)(\.\d+)?", number):
            return f"Alpine:v{match[1]}"
        case "ubuntu" if re.fullmatch(r"\d\d\.\d\d", number):
            return f"Ubuntu:{number}{':LTS' if 'LTS' in release.get('VERSION', shown) else ''}"
        case "almalinux" if number:
            return f"AlmaLinux:{number.partition('.')[0]}"
        case "rocky" if number:
            return f"Rocky Linux:{number.partition('.')[0]}"
        case "wolfi":
            return "Wolfi"
        case "chainguard":
            return "Chainguard"
    raise CouldNotLookError(f"there are no advisories on {shown} that this scanner could ask")


def asked_of(package: OsPackage) -> tuple[Package, ...]:
    """What to ask about one package: advisories name sources; of rpm some name binary packages."""
    source = (package.source, package.source_version)
    return (source, (package.name, package.version)) if package.kind == "rpm" else (source,)


async def judged(
    contents: Contents, source: AdvisorySource, ecosystem: str, unrated: Severity
) -> ScannerResult:
    """Match the packages of ``contents`` against ``source``. Raises CouldNotLookError: not all was asked."""
    _hold_readable(contents)
    by_question: dict[Package, list[OsPackage]] = {}
    for package in contents.os_packages:
        for question in asked_of(package):
            by_question.setdefault(question, []).append(package)
    advisories = await _asked(source, sorted(by_question), ecosystem)
    found: dict[tuple[str, str], Finding] = {}
    for question, records in advisories.items():
        for finding in _findings(question, by_question[question], records, ecosystem, unrated):
            found.setdefault((finding.id, finding.subject), finding)
    data = await source.data()
    return ScannerResult(
        "os_packages",
        audited=True,
        findings=tuple(found.values()),
        looked_at=len(contents.os_packages),
        data=f"{ecosystem} of {source.title}",
        data_date=data.date,
        data_digest=data.digest,
        network=source.network,
    )


def _hold_readable(contents: Contents) -> None:
    if contents.other_package_database:
        raise CouldNotLookError(f"the {contents.other_package_database} package database is not read")
    if contents.problems:
        raise CouldNotLookError(f"not read: {'; '.join(contents.problems[:3])}")
    if not contents.os_packages:
        raise CouldNotLookError(f"no package list in {contents.os_release.get('PRETTY_NAME', 'the image')}")


async def _asked(
    source: AdvisorySource, questions: list[Package], ecosystem: str
) -> dict[Package, list[Advisory]]:
    from pipelines.scanners.versions import NotComparableError  # noqa: PLC0415  not needed on most images

    canary = CANARY[ecosystem.partition(":")[0]]
    try:
        answer = await source.advisories(sorted({*questions, canary}))
    except NotComparableError as err:
        raise CouldNotLookError(str(err)) from err
    if not answer[canary]:
        raise CouldNotLookError(f"{source.title} knows nothing of {ecosystem}")
    return {question: answer[question] for question in questions}


def _findings(
    question: Package, packages: list[OsPackage], records: list[Advisory], ecosystem: str, unrated: Severity
) -> list[Finding]:
    from pipelines.scanners.osv import vulnerabilities  # noqa: PLC0415  only where there is something to say

    alive = [one for one in records if not one.get("withdrawn")]
    name, version = question
    built = sorted({package.name for package in packages})
    return [
        Finding(
            scanner="os_packages",
            id=one.id,
            severity=one.severity or unrated,
            subject=name,
            title=one.title if one.severity else f"{one.title} (not rated: counts as {unrated})".lstrip(),
            installed=version,
            fixed_in=one.fixed_in,
            url=one.url,
            aliases=one.aliases,
            hint=_hint(built, one.fixed_in),
        )
        for one in vulnerabilities(alive, name, version, ecosystem)
    ]


def _hint(names: list[str], fixed_in: str) -> str:
    shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    if not fixed_in:
        return f"no fixed version of {shown} is known"
    return f"build on an up-to-date base image, or upgrade {shown} to {fixed_in} in the build"
