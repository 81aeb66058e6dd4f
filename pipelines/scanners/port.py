"""The port of the scanners: what each is given, and the one shape of what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from pipelines.config_scan import SEVERITIES, ScanPolicy, Severity
from pipelines.values import JSON

if TYPE_CHECKING:
    from pipelines.scanners.contents import Contents

ScannerName = Literal["os_packages", "python_packages", "secrets", "model_files"]
"""As ``could_not_look`` and ``block_at`` of the policy spell it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a scanner found, in the shape that all of them share."""

    scanner: ScannerName
    id: str
    """An advisory, a package update, a rule: what a waiver names."""
    severity: Severity
    subject: str
    """The package, or the path in the image."""
    title: str
    installed: str = ""
    fixed_in: str = ""
    where: str = ""
    """Where in the image: ``path`` or ``path:line``."""
    url: str = ""
    aliases: tuple[str, ...] = ()
    hint: str = ""
    """What to do about it."""

    @property
    def rank(self) -> tuple[int, str, str]:
        """Worst first."""
        return SEVERITIES.index(self.severity), self.subject, self.id

    def __str__(self) -> str:
        if self.where.startswith(self.subject):
            return f"{self.severity}: {self.id}: {self.where}: {self.title}"
        where = f" ({self.where})" if self.where else ""
        return f"{self.severity}: {self.id}: {self.subject} {self.installed}{where}: {self.title}"

    def to_json(self) -> dict[str, JSON]:
        """For the record."""
        return {
            "scanner": self.scanner,
            "id": self.id,
            "severity": self.severity,
            "subject": self.subject,
            "title": self.title,
            "installed": self.installed,
            "fixed_in": self.fixed_in,
            "where": self.where,
            "url": self.url,
            "aliases": list(self.aliases),
        }


@dataclass(frozen=True, slots=True)
class ScannerResult:
    """What one scanner answers. It may find something and yet not have seen everything."""

    scanner: ScannerName
    audited: bool
    """Did it look at everything that it is for? If not, ``reason`` says why, and the policy decides."""
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    looked_at: int = 0
    data: str = ""
    """What it judged by, with its date: an archive's suite, an advisory database."""
    note: str = ""
    """A few words for the summary, beside the number of findings."""

    def to_json(self) -> dict[str, JSON]:
        """For the record."""
        return {
            "scanner": self.scanner,
            "audited": self.audited,
            "reason": self.reason,
            "looked_at": self.looked_at,
            "data": self.data,
            "note": self.note,
            "findings": [finding.to_json() for finding in self.findings],
        }


class CouldNotLookError(Exception):
    """A scanner has no answer; the text says why. The result is "not audited", never "no findings"."""


class ImageView(Protocol):
    """The image as scanners see it: its files, through programs in the tools container; its environment."""

    async def run(
        self, program: str, *arguments: str, env: Mapping[str, str] | None = None
    ) -> dict[str, JSON]:
        """What a program of ``in_engine`` says of the image's files, mounted read-only.

        Raises:
            CouldNotLookError: it ended without an answer.
        """
        ...

    async def contents(self) -> Contents:
        """The packages and weight files of the image. Raises CouldNotLookError."""
        ...

    async def environment(self) -> dict[str, str]:
        """The environment variables in the image's configuration. Raises CouldNotLookError."""
        ...


class Scanner(Protocol):
    """One scanner. It raises nothing but CouldNotLookError; deciding is the policy's business."""

    @property
    def name(self) -> ScannerName:
        """As the policy spells it."""
        ...

    async def scan(self, image: ImageView, policy: ScanPolicy) -> ScannerResult:
        """Look at ``image``."""
        ...
