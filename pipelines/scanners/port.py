"""The port of the scanners: what each is given, and the one shape of what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipelines.config_scan import SEVERITIES, ScannerName, ScanPolicy, Severity
from pipelines.values import JSON

if TYPE_CHECKING:
    from pipelines.release_image import BuiltImage
    from pipelines.scanners.contents import Contents
    from pipelines.scanners.layers import ImageLayers

__all__ = [
    "CouldNotLookError",
    "Finding",
    "ImageView",
    "Scanner",
    "ScannerName",
    "ScannerResult",
    "Tool",
]


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
    """Where in the image, for people: ``path`` or ``path:line``, ``ENV NAME``, ``history``."""
    line: int | None = None
    """The line of the path or of ``file``, from 1."""
    layer: str = ""
    """The digest of the layer that brought it; "" where it isn't known."""
    file: str = ""
    """The file of the repository in which it is made, relative to modelport.yaml: a Dockerfile."""
    since: str = ""
    """The version or commit since which it is there; "" where it isn't known."""
    url: str = ""
    aliases: tuple[str, ...] = ()
    hint: str = ""
    """What to do about it."""
    others: tuple[ScannerName, ...] = ()
    """Further scanners that say the same; the policy merges them."""

    @property
    def scanners(self) -> tuple[ScannerName, ...]:
        """Everyone who says so."""
        return (self.scanner, *self.others)

    @property
    def names(self) -> frozenset[str]:
        """The id and its other names: what a waiver may say, and what another scanner may call it."""
        return frozenset((self.id, *self.aliases))

    @property
    def key(self) -> str:
        """The same for the same finding in another image: for comparing with what is published.

        Who found it and where the package lies don't count; which update is pending does, and which secret.
        """
        more = {"os_packages": self.fixed_in, "secrets": self.title}.get(self.scanner, "")
        return sha256("\0".join((self.id, self.subject, more)).encode()).hexdigest()[:16]

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
            "scanners": list(self.scanners),
            "id": self.id,
            "severity": self.severity,
            "subject": self.subject,
            "title": self.title,
            "installed": self.installed,
            "fixed_in": self.fixed_in,
            "where": self.where,
            "line": self.line,
            "layer": self.layer,
            "file": self.file,
            "since": self.since,
            "hint": self.hint,
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
    """What it judged by, for people: an archive's suite, an advisory database."""
    version: str = ""
    """The scanner's own: of a tool its version, of our programs what they are made of."""
    data_date: str = ""
    """The day of the data (ISO 8601); "" where it has none: rules that are part of the scanner."""
    data_digest: str = ""
    """The data's digest, where it is a file; the same data gives the same findings."""
    stale: str = ""
    """Why the data is too old, or "". A scanner may say so of its own; the policy says it by age."""
    network: str | None = None
    """What it had the network for, "" for nothing; None: for what the scanner says of itself."""
    not_applicable: str = ""
    """Why there is nothing for it to look at in this image, or ""; it is said, and is not "0 findings"."""
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
            "version": self.version,
            "data_date": self.data_date or None,
            "data_digest": self.data_digest or None,
            "stale": self.stale or None,
            "network": self.network or None,
            "not_applicable": self.not_applicable or None,
            "note": self.note,
            "findings": [finding.to_json() for finding in self.findings],
        }


class CouldNotLookError(Exception):
    """A scanner has no answer; the text says why. The result is "not audited", never "no findings"."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program of others, run in its own container with the image's files at ``/image``, read-only."""

    image: str
    """Its container, pinned by digest."""
    command: tuple[str, ...]
    """A list of arguments; no shell."""
    directories: Mapping[str, Path] = field(default_factory=dict)
    """Directories of this machine that it reads, by their path in the container: its database."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Nothing secret: a tool gets no secrets."""


class ImageView(Protocol):
    """The image as scanners see it: its files, through programs in containers; its configuration; its layers.

    A scanner gets no secret, and nothing of the image is ever run.
    """

    async def run(
        self, program: str, *arguments: str, env: Mapping[str, str] | None = None, network: str = ""
    ) -> dict[str, JSON]:
        """What a program of ``in_engine`` says of the image's files, mounted read-only.

        It has time and memory by the image's size, and no network unless ``network`` says what for.

        Raises:
            CouldNotLookError: it ended without an answer.
        """
        ...

    async def run_tool(self, tool: Tool) -> str:
        """What ``tool`` writes to stdout. Raises CouldNotLookError: it ended with another code than 0."""
        ...

    async def exported(self) -> BuiltImage:
        """The image as it lies in the layout, for its layers and its history. Raises CouldNotLookError."""
        ...

    async def layers(self) -> ImageLayers:
        """The layers, deleted files too, and the configuration with its history. Raises CouldNotLookError."""
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

    @property
    def network(self) -> str:
        """What it needs the network for, in a few words for the record; "" if it needs none."""
        ...

    async def scan(self, image: ImageView, policy: ScanPolicy) -> ScannerResult:
        """Look at ``image``."""
        ...
