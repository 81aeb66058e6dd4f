"""``scan:`` of ``modelport.yaml``: what is looked at, what blocks a release, what is waived until when.

Every default is the careful answer; an up-to-date image with no dangerous file passes without a ``scan:``.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from pipelines.config_hygiene import Dockerfile, Hygiene
from pipelines.config_licences import Licences
from pipelines.config_other_scanners import Grype, Trivy
from pipelines.config_values import Section, problem

ScannerName = Literal[
    "os_packages",
    "python_packages",
    "secrets",
    "model_files",
    "licences",
    "hygiene",
    "dockerfile",
    "trivy",
    "grype",
]
"""As ``could_not_look``, ``block_at`` and the record spell it."""

Severity = Literal["critical", "high", "medium", "low"]
"""From worst to least. A pending security update is ``high``, a secret or a dangerous pickle ``critical``."""

SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "high", "medium", "low")

OSV_SERVICE: Final = "https://api.osv.dev"

VULNERABILITY_SCANNERS: Final[tuple[ScannerName, ...]] = ("os_packages", "python_packages", "trivy", "grype")
"""Those whose findings a newer version of a package fixes: ``fixable_only`` speaks of them alone."""

Answer = Literal["block", "warn"]
Limit = Severity | Literal["never"]

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class CouldNotLook(Section):
    """Per scanner: does "could not look" block the release, or is it only said aloud?

    Only ``python_packages`` is ``warn`` by default: it asks a service on the public internet that many agents
    don't reach. The others need what was there when the image was built: Debian's mirror, or nothing.
    """

    os_packages: Answer = "block"
    """Pending security updates of the distribution."""
    python_packages: Answer = "warn"
    """Known vulnerabilities of the Python packages."""
    secrets: Answer = "block"
    """Passwords, tokens and private keys in files and environment."""
    model_files: Answer = "block"
    """What a model file would run when it is loaded."""
    licences: Answer = "block"
    """The licences of what is installed."""
    hygiene: Answer = "block"
    """Setuid files, world-writable paths, the root user, what the image's history tells."""
    dockerfile: Answer = "warn"
    """The Dockerfile itself."""
    trivy: Answer = "block"
    """Whoever configured it relies on it."""
    grype: Answer = "block"
    """Likewise."""


class BlockAt(Section):
    """Per scanner: the least severity that blocks. ``never`` reports findings and lets them pass."""

    os_packages: Limit = "high"
    """A pending security update is "high"."""
    python_packages: Limit = "high"
    """By the advisory's own rating (see python_packages.unrated)."""
    secrets: Limit = "high"
    """A usable secret is "critical", a name without its secret "medium"."""
    model_files: Limit = "high"
    """A call outside of the allow-list is "critical", a file that can't be read to its end "high"."""
    licences: Limit = "high"
    """A denied licence is "high"."""
    hygiene: Limit = "high"
    """By how much an attacker gains by it."""
    dockerfile: Limit = "never"
    """A linter's advice; it is shown, and blocks only where a limit is set."""
    trivy: Limit = "high"
    """By its own rating."""
    grype: Limit = "high"
    """By its own rating."""


class OsPackages(Section):
    """Vulnerable packages of the distribution: Debian's pending updates, OSV's advisories for others."""

    security_mirror: _Text = "http://deb.debian.org/debian-security"
    """The archive of Debian's security updates, or a mirror of it; its signature is checked."""
    source: _Text = OSV_SERVICE
    """For other distributions: an OSV service ("https://…"), or an OSV zip beside modelport.yaml."""
    unrated: Severity = "high"
    """For other distributions: what an advisory without a rating counts as."""


class PythonPackages(Section):
    """Known vulnerabilities of the installed Python packages."""

    source: _Text = OSV_SERVICE
    """An OSV service ("https://…"), or the path of an OSV zip relative to the directory of modelport.yaml."""
    unrated: Severity = "high"
    """What an advisory without a rating counts as. Most PYSEC records carry none; that is not harmless."""


class Secrets(Section):
    """Passwords, tokens and private keys."""

    ignore: tuple[_Text, ...] = ()
    """Globs of paths in the image, like "/app/tests/**", whose "secrets" are known to be none."""


class ModelFiles(Section):
    """What a pickled model may call when it is loaded, beyond what its framework needs."""

    allow: tuple[_Text, ...] = ()
    """Callables of your own that pickled models name: "module.name" or "module.*"."""
    ignore: tuple[_Text, ...] = ()
    """Globs of paths in the image that are not judged. Prefer a waiver, which expires."""


def _is_fixable(scanners: bool | tuple[ScannerName, ...]) -> bool | tuple[ScannerName, ...]:
    others = set() if isinstance(scanners, bool) else set(scanners) - set(VULNERABILITY_SCANNERS)
    if others:
        names = ", ".join(VULNERABILITY_SCANNERS)
        raise problem(
            "fixable", f"what {', '.join(sorted(others))} finds has no fixed version", f"it may name {names}"
        )
    return scanners


LONGEST_WAIVER: Final = timedelta(days=366)


class Waiver(Section):
    """One finding that is accepted for now: by whom, why, and until when."""

    id: _Text
    """The finding's id or one of its other names: a CVE, an advisory, a rule."""
    package: str = ""
    """Only for this package, whatever its version."""
    subject: str = ""
    """Only for this package or path (a glob); empty means wherever the id is found."""
    reason: _Text
    """Why it is accepted."""
    owner: _Text
    """Who answers for it."""
    expires: date
    """The last day on which it holds; at most a year ahead."""

    @model_validator(mode="after")
    def _is_bounded(self) -> Waiver:
        """A waiver for ever is a hole that nobody looks at again."""
        latest = datetime.now(UTC).date() + LONGEST_WAIVER
        if self.expires > latest:
            raise problem(
                "waiver",
                f"the waiver of {self.id} expires on {self.expires}, more than a year ahead",
                f"write {latest - timedelta(days=1)} or earlier: it can be renewed then",
            )
        return self


class StaleData(Section):
    """Advisories that are not updated any more find nothing new: what that means, and from what age on."""

    after_days: int = Field(default=7, ge=1)
    """The age in days at which data counts as stale, by its own date."""
    answer: Answer = "warn"
    """Does a scanner with stale data block the release, or is it only said aloud?"""


class ScanPolicy(Section):
    """What of the scanners' findings stops a release."""

    could_not_look: CouldNotLook = CouldNotLook()
    """What a scanner that could not look means: "block" or "warn"."""
    block_at: BlockAt = BlockAt()
    """The least severity that blocks, per scanner."""
    fixable_only: Annotated[bool | tuple[ScannerName, ...], AfterValidator(_is_fixable)] = False
    """Only vulnerabilities with a known fix block: of all scanners (true), or of those named."""
    new_since: Literal["published"] | None = None
    """With "published", findings that the published image has too are told and don't block."""
    stale_data: StaleData = StaleData()
    """What advisory data that is too old means."""
    os_packages: OsPackages = OsPackages()
    """Vulnerable packages of the distribution."""
    python_packages: PythonPackages = PythonPackages()
    """Known vulnerabilities of the installed Python packages."""
    secrets: Secrets = Secrets()
    """Passwords, tokens and private keys."""
    model_files: ModelFiles = ModelFiles()
    """What a model file would run when it is loaded."""
    licences: Licences = Licences()
    """Which licences may be installed."""
    hygiene: Hygiene = Hygiene()
    """What makes an attacker's life easy: setuid files, world-writable paths, the root user."""
    dockerfile: Dockerfile = Dockerfile()
    """How the Dockerfile is written."""
    trivy: Trivy | None = None
    """Trivy as one more scanner, for teams who have it."""
    grype: Grype | None = None
    """Grype as one more scanner, for teams who have it."""
    waivers: tuple[Waiver, ...] = ()
    """Findings that are accepted for now."""

    def wants_fix(self, scanner: ScannerName) -> bool:
        """Do findings of ``scanner`` block only if a fix is known?"""
        if isinstance(self.fixable_only, bool):
            return self.fixable_only and scanner in VULNERABILITY_SCANNERS
        return scanner in self.fixable_only
