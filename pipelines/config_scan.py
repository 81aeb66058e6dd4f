"""``scan:`` of ``modelport.yaml``: what is looked at, what blocks a release, what is waived until when.

Every default is the careful answer; an up-to-date image with no dangerous file passes without a ``scan:``.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final, Literal

from pydantic import StringConstraints

from pipelines.config_values import Section

Severity = Literal["critical", "high", "medium", "low"]
"""From worst to least. A pending security update is ``high``, a secret or a dangerous pickle ``critical``."""

SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "high", "medium", "low")

OSV_SERVICE: Final = "https://api.osv.dev"

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


class OsPackages(Section):
    """Pending security updates of Debian."""

    security_mirror: _Text = "http://deb.debian.org/debian-security"
    """The archive of Debian's security updates, or a mirror of it; its signature is checked."""


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


class Waiver(Section):
    """One finding that is accepted for now: by whom, why, and until when."""

    id: _Text
    """The finding's id or one of its other names: a CVE, an advisory, a rule."""
    subject: str = ""
    """Only for this package or path (a glob); empty means wherever the id is found."""
    reason: _Text
    """Why it is accepted."""
    owner: _Text
    """Who answers for it."""
    expires: date
    """The last day on which it holds."""


class ScanPolicy(Section):
    """What of the scanners' findings stops a release."""

    could_not_look: CouldNotLook = CouldNotLook()
    """What a scanner that could not look means: "block" or "warn"."""
    block_at: BlockAt = BlockAt()
    """The least severity that blocks, per scanner."""
    os_packages: OsPackages = OsPackages()
    """Pending security updates of Debian."""
    python_packages: PythonPackages = PythonPackages()
    """Known vulnerabilities of the installed Python packages."""
    secrets: Secrets = Secrets()
    """Passwords, tokens and private keys."""
    model_files: ModelFiles = ModelFiles()
    """What a model file would run when it is loaded."""
    waivers: tuple[Waiver, ...] = ()
    """Findings that are accepted for now."""
