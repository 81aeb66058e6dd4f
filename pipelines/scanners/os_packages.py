"""Vulnerable packages of the distribution: Debian's pending security updates; OSV's advisories for others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from pipelines.config_scan import ScanPolicy
from pipelines.scanners.port import CouldNotLookError, Finding, ImageView, ScannerName, ScannerResult
from pipelines.scanners.programs import version_of

DAY = "MODELPORT_DAY"
"""The archive changes and the image doesn't: the day is in the cache's key, so it is asked once a day."""
PROGRAMS: Final = ("apt_updates", "os_package_lists", "rootfs")


def _today() -> date:
    return datetime.now(UTC).date()


@dataclass(frozen=True, slots=True)
class OsPackages:
    """Asks apt which security updates a Debian image lacks (``in_engine/apt_updates.py``), or asks OSV."""

    directory: Path
    """Where a relative path of the policy is looked for."""
    today: Callable[[], date] = _today
    name: ScannerName = field(default="os_packages", init=False)
    network: str = field(
        default="the distribution's security archive, or advisories from scan.os_packages.source", init=False
    )

    async def scan(self, image: ImageView, policy: ScanPolicy) -> ScannerResult:
        """The updates that a Debian image's own suite has for it, each ``high``; or what OSV knows."""
        mirror = policy.os_packages.security_mirror
        day = {DAY: self.today().isoformat()}
        told = await image.run("apt_updates", mirror, env=day, network=self.network)
        return await self._by_osv(image, policy) if told.get("other") else result_of(told)

    async def _by_osv(self, image: ImageView, policy: ScanPolicy) -> ScannerResult:
        from pipelines.scanners.os_advisories import ecosystem_of, judged  # noqa: PLC0415  not for Debian
        from pipelines.scanners.osv_source import source_of  # noqa: PLC0415  likewise

        contents = await image.contents()
        ecosystem = ecosystem_of(contents.os_release)
        section = policy.os_packages
        source = source_of(section.source, self.directory, os.environ, ecosystem)
        result = await judged(contents, source, ecosystem, section.unrated)
        own = version_of("collect", "os_package_lists", "os_advisories", "osv", "versions")
        return replace(result, version=own)


def result_of(told: dict[str, Any]) -> ScannerResult:  # Any: JSON of our own program, whose shape is known
    """The program's answer as a result. Raises CouldNotLookError with the reason that it gives."""
    if reason := told.get("could_not_look"):
        raise CouldNotLookError(str(reason))
    return ScannerResult(
        "os_packages",
        audited=True,
        findings=tuple(_finding(update, told["suite"]) for update in told["updates"]),
        looked_at=told["packages"],
        data=f"{told['suite']} of {told['archive']}",
        version=version_of(*PROGRAMS),
        data_date=told["archive_date"],
        data_digest=told["archive_digest"],
        network="the security archive of Debian",
    )


def _finding(update: dict[str, str], suite: str) -> Finding:
    name, fixed = update["name"], update["fixed"]
    return Finding(
        scanner="os_packages",
        id=f"{suite}:{name}",
        severity="high",
        subject=name,
        title=f"security update {fixed} is pending",
        installed=update["installed"],
        fixed_in=fixed,
        url=f"https://security-tracker.debian.org/tracker/source-package/{name.partition(':')[0]}",
        hint=f"build on an up-to-date base image, or upgrade {name} to {fixed} in the build",
    )
