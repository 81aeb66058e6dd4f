"""``scan:`` of ``modelport.yaml``: what is looked at, what blocks a release, and what is waived until when.

Every default is the careful answer, and an up-to-date image with no dangerous file passes with no ``scan:`` at all.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Severity = Literal["critical", "high", "medium", "low"]
"""From worst to least. A pending security update is ``high``, a secret ``critical``; see each scanner for the rest."""

SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low")

OSV_SERVICE = "https://api.osv.dev"

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CouldNotLook(_Part):
    """Per scanner: does "could not look" block the release, or is it only said aloud?

    Only ``python_packages`` is ``warn`` by default: it asks a service on the public internet that many agents
    don't reach. The others have what they need wherever the image could be built (Debian's mirror, or nothing).
    """

    os_packages: Literal["block", "warn"] = "block"
    python_packages: Literal["block", "warn"] = "warn"
    secrets: Literal["block", "warn"] = "block"
    model_files: Literal["block", "warn"] = "block"


class BlockAt(_Part):
    """Per scanner: the least severity that blocks. ``never`` reports findings and lets them pass."""

    os_packages: Severity | Literal["never"] = "high"
    python_packages: Severity | Literal["never"] = "high"
    secrets: Severity | Literal["never"] = "high"
    model_files: Severity | Literal["never"] = "high"


class OsPackages(_Part):
    """Where Debian's package lists come from: the public mirrors unless a site has its own."""

    mirror: _Text = "http://deb.debian.org/debian"
    security_mirror: _Text = "http://deb.debian.org/debian-security"


class PythonPackages(_Part):
    """Where advisories on Python packages come from, and what an advisory without a rating counts as."""

    source: _Text = OSV_SERVICE
    """An OSV service (``https://…``), or the path of an OSV zip (``ID.json`` each) beside ``modelport.yaml``."""

    unrated: Severity = "high"
    """Most PYSEC records carry no severity. Not rated is not harmless: such a finding counts as this."""


class Secrets(_Part):
    """Which files of the image may hold what looks like a secret."""

    ignore: tuple[_Text, ...] = ()
    """Globs of absolute paths, such as ``/app/tests/**``: for files whose "secret" is known to be none."""


class ModelFiles(_Part):
    """What a pickled model may call when it is loaded, beyond what its framework needs."""

    allow: tuple[_Text, ...] = ()
    """``module.name`` or ``module.*``: callables of your own that pickled models name."""

    ignore: tuple[_Text, ...] = ()
    """Globs of absolute paths that are not looked into. Prefer a waiver, which expires."""


class Waiver(_Part):
    """One finding that is accepted for now: by whom, why, and until which day (that day included)."""

    id: _Text
    """The finding's id or one of its other names: a CVE, a package update, a rule."""

    subject: str = ""
    """Only for this package or path (a glob); empty means wherever the id is found."""

    reason: _Text
    owner: _Text
    expires: date


class ScanPolicy(_Part):
    """The whole ``scan:`` section."""

    could_not_look: CouldNotLook = CouldNotLook()
    block_at: BlockAt = BlockAt()
    os_packages: OsPackages = OsPackages()
    python_packages: PythonPackages = PythonPackages()
    secrets: Secrets = Secrets()
    model_files: ModelFiles = ModelFiles()
    waivers: tuple[Waiver, ...] = Field(default=())
