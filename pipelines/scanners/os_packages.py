"""Pending security updates of Debian. Another distribution is "not audited", and the policy decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from pipelines.config_scan import ScanPolicy
from pipelines.scanners.port import CouldNotLookError, Finding, ImageView, ScannerName, ScannerResult

DAY = "MODELPORT_DAY"
"""The archive changes and the image doesn't: the day is in the cache's key, so it is asked once a day."""


def _today() -> date:
    return datetime.now(UTC).date()


@dataclass(frozen=True, slots=True)
class OsPackages:
    """Asks apt which security updates the image lacks (``in_engine/apt_updates.py``)."""

    today: Callable[[], date] = _today
    name: ScannerName = field(default="os_packages", init=False)
    network: str = field(default="the security archive of the distribution", init=False)

    async def scan(self, image: ImageView, policy: ScanPolicy) -> ScannerResult:
        """The updates that the image's own suite has for it, each ``high``."""
        mirror = policy.os_packages.security_mirror
        told = await image.run(
            "apt_updates", mirror, env={DAY: self.today().isoformat()}, network=self.network
        )
        return result_of(told)


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
