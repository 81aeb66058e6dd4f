"""Known vulnerabilities of the installed Python packages, by OSV's advisories."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.config_scan import ScanPolicy, Severity
from pipelines.scanners.advisories import AdvisorySource, Package, normalised
from pipelines.scanners.contents import Contents, PythonPackage
from pipelines.scanners.osv_source import source_of
from pipelines.scanners.port import CouldNotLookError, Finding, ImageView, ScannerName, ScannerResult
from pipelines.scanners.programs import version_of

if TYPE_CHECKING:
    from pipelines.scanners.osv import Advisory


@dataclass(frozen=True, slots=True)
class PythonPackages:
    """Matches what is installed, wherever in the image, against a source of advisories.

    A distribution that a Debian package brought is Debian's to patch, which it does under an unchanged
    version: the scanner of OS packages judges it.
    """

    directory: Path
    """Where a relative path of the policy is looked for."""
    open_source: Callable[[str], AdvisorySource] | None = None
    """The source that the policy names; None for the service or the zip."""
    name: ScannerName = field(default="python_packages", init=False)
    network: str = field(
        default="advisories on the installed packages, from scan.python_packages.source", init=False
    )

    async def scan(self, image: ImageView, policy: ScanPolicy) -> ScannerResult:
        """What is known of the installed versions. Not audited when any of it could not be asked."""
        setting = policy.python_packages.source
        source = (
            self.open_source(setting) if self.open_source else source_of(setting, self.directory, os.environ)
        )
        contents = await image.contents()
        return await judged(contents, source, policy.python_packages.unrated)


async def judged(contents: Contents, source: AdvisorySource, unrated: Severity) -> ScannerResult:
    """Match ``contents`` against ``source``. Raises CouldNotLookError when it has no whole answer."""
    judged_here = [package for package in contents.python if not package.debian]
    places: dict[Package, PythonPackage] = {
        (normalised(package.name), package.version): package for package in reversed(judged_here)
    }
    advisories = await _asked(source, sorted(places)) if places else {}
    findings = [
        finding
        for package, found in advisories.items()
        if found
        for finding in _findings(places[package], found, unrated)
    ]
    data = await source.data()
    by_debian = len(contents.python) - len(judged_here)
    return ScannerResult(
        "python_packages",
        audited=not contents.problems,
        reason=f"not read: {'; '.join(contents.problems[:3])}" if contents.problems else "",
        findings=tuple(findings),
        looked_at=len(places),
        data=source.title,
        version=version_of("collect", "osv", "versions", "cvss"),
        data_date=data.date,
        data_digest=data.digest,
        network=source.network,
        note=f"{by_debian} more from Debian packages" if by_debian else "",
    )


async def _asked(source: AdvisorySource, packages: list[Package]) -> dict[Package, list[Advisory]]:
    from pipelines.scanners.osv import NotComparableError  # noqa: PLC0415

    try:
        return await source.advisories(packages)
    except NotComparableError as err:
        raise CouldNotLookError(str(err)) from err


def _findings(package: PythonPackage, found: list[Advisory], unrated: Severity) -> list[Finding]:
    from pipelines.scanners.osv import vulnerabilities  # noqa: PLC0415  only where there is something to say

    alive = [advisory for advisory in found if not advisory.get("withdrawn")]
    return [
        Finding(
            scanner="python_packages",
            id=one.id,
            severity=one.severity or unrated,
            subject=normalised(package.name),
            title=one.title if one.severity else f"{one.title} (not rated: counts as {unrated})",
            installed=package.version,
            fixed_in=one.fixed_in,
            where=package.path,
            url=one.url,
            aliases=one.aliases,
            hint=_hint(normalised(package.name), one.fixed_in),
        )
        for one in vulnerabilities(alive, package.name, package.version)
    ]


def _hint(name: str, fixed_in: str) -> str:
    return f"upgrade {name} to {fixed_in} or later" if fixed_in else f"no fixed version of {name} is known"
