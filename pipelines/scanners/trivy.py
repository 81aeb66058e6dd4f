"""Trivy (https://trivy.dev) as a scanner, in a container of its own, over the image's files.

Its exit code says little: without ``trivy.db``, but with ``metadata.json`` beside it, it makes itself an
empty database and reports success, as it does where it recognises no distribution. So the database is looked
at before, and what it recognised is held against the inventory after.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anyio import to_thread

from pipelines.config_scan import ScanPolicy, Severity
from pipelines.scanners.advisories import normalised
from pipelines.scanners.port import (
    CouldNotLookError,
    Finding,
    ImageView,
    ScannerName,
    ScannerResult,
    Tool,
)
from pipelines.scanners.tools import Answer, database_in, digest_of, json_of, rated, titled, tool_of

if TYPE_CHECKING:
    from pipelines.config_other_scanners import Trivy as TrivySection
    from pipelines.scanners.contents import Contents

CACHE: Final = "/modelport/trivy"
"""Its cache directory in its container."""
BUCKETS: Final = (b"data-source", b"vulnerability")
"""What every database of advisories has in it (trivy-db: pkg/db)."""
ROOTFS: Final = (
    "rootfs",
    "--quiet",
    "--format=json",
    "--scanners=vuln",
    "--list-all-pkgs",
    "--offline-scan",
    "--skip-java-db-update",
    "--cache-backend=memory",
    f"--cache-dir={CACHE}",
)
ENVIRONMENT: Final = {"TRIVY_SKIP_VERSION_CHECK": "true", "TRIVY_DISABLE_TELEMETRY": "true"}


def _today() -> date:
    return datetime.now(UTC).date()


@dataclass(frozen=True, slots=True)
class Database:
    """A database on this machine."""

    directory: Path
    date: str
    """When it was made, by its own word ("UpdatedAt")."""
    digest: str

    @classmethod
    def at(cls, path: Path) -> Database:
        """The database in ``path`` or its ``db``; blocks. Raises CouldNotLookError: there is none."""
        directory = next((one for one in (path / "db", path) if (one / "trivy.db").is_file()), None)
        if directory is None:
            raise CouldNotLookError(f"there is no trivy.db in {path}")
        try:
            made = json.loads((directory / "metadata.json").read_bytes())["UpdatedAt"]
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise CouldNotLookError(
                f"{directory / 'metadata.json'} doesn't tell the database's date"
            ) from err
        return cls(directory, str(made), digest_of(directory / "trivy.db", BUCKETS))


@dataclass(frozen=True, slots=True)
class Trivy:
    """Runs the configured container. Network: none, or for the database where a repository is named."""

    section: TrivySection
    directory: Path
    """Where a relative path of the policy is looked for."""
    today: Callable[[], date] = _today
    name: ScannerName = field(default="trivy", init=False)

    @property
    def network(self) -> str:
        """The registry with the database, if one is named."""
        repository = self.section.database_repository
        return f"its database, from {repository}" if repository else ""

    async def scan(self, image: ImageView, policy: ScanPolicy) -> ScannerResult:
        """Its findings. Not audited when it recognised less than the inventory lists."""
        asked = tool_of(self.section, ("version", "--format=json"), ENVIRONMENT)
        version = json_of(await image.run_tool(asked), "trivy").get("Version")
        if self.section.database_repository is not None:
            data = f"{self.section.database_repository}, asked on {self.today()}"
            database = None
            told = await image.run_tool(self._with_repository(self.section.database_repository))
        else:
            path = database_in(self.section, self.directory)
            database = await to_thread.run_sync(Database.at, path)
            data = f"trivy.db of {database.date[:10]}"
            told = await image.run_tool(self._with(database))
        report = json_of(told, "trivy")
        findings = findings_of(report, self.section.unrated)
        reason = unseen(report, await image.contents())
        return ScannerResult(
            "trivy",
            audited=not reason,
            reason=reason,
            findings=findings,
            looked_at=sum(len(one.get("Packages") or ()) for one in _results(report)),
            data=data,
            version=str(version or ""),
            data_date=database.date if database else self.today().isoformat(),
            data_digest=database.digest if database else "",
            network=self.network,
        )

    def _with(self, database: Database) -> Tool:
        return tool_of(
            self.section,
            (*ROOTFS, "--skip-db-update", "/image"),
            ENVIRONMENT,
            {f"{CACHE}/db": database.directory},
        )

    def _with_repository(self, repository: str) -> Tool:
        arguments = (*ROOTFS, f"--db-repository={repository}", "/image")
        return tool_of(self.section, arguments, ENVIRONMENT, fetched_on=self.today())


def _results(report: Answer) -> list[Answer]:
    """The parts of a report (schema version 2)."""
    if report.get("SchemaVersion") != 2:
        raise CouldNotLookError(f"trivy's report has schema version {report.get('SchemaVersion')}, not 2")
    found = report.get("Results") or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise CouldNotLookError("trivy's report is not as its schema says")
    return found


def unseen(report: Answer, contents: Contents) -> str:
    """Why ``report`` can't be about all of the image, or ""."""
    seen = {one.get("Class") for one in _results(report) if one.get("Packages")}
    kinds = {one.get("Type") for one in _results(report) if one.get("Packages")}
    shown = contents.os_release.get("PRETTY_NAME") or "the image"
    if contents.os_packages and "os-pkgs" not in seen:
        return f"it did not recognise the packages of {shown}"
    if any(not one.debian for one in contents.python) and "python-pkg" not in kinds:
        return "it did not recognise the Python packages"
    system = (report.get("Metadata") or {}).get("OS") or {}
    if system.get("EOSL"):
        own = f"{system.get('Family')} {system.get('Name')}"
        return f"{own} gets no security updates any more: advisories on it are incomplete"
    return ""


def findings_of(report: Answer, unrated: Severity) -> tuple[Finding, ...]:
    """The vulnerabilities of a report. Raises CouldNotLookError when it isn't as the schema says."""
    try:
        return tuple(
            _finding(one, str(result.get("Type")), unrated)
            for result in _results(report)
            for one in result.get("Vulnerabilities") or ()
        )
    except (KeyError, TypeError, AttributeError) as err:
        raise CouldNotLookError(f"trivy's report is not as its schema says: {err!r}") from err


def _finding(one: Answer, kind: str, unrated: Severity) -> Finding:
    name = str(one["PkgName"])
    subject = normalised(name) if kind == "python-pkg" else name
    fixed = str(one.get("FixedVersion") or "")
    layer = one.get("Layer") or {}
    return Finding(
        scanner="trivy",
        id=str(one["VulnerabilityID"]),
        severity=rated(one.get("Severity"), unrated),
        subject=subject,
        title=titled(str(one.get("Title") or ""), one.get("Severity"), unrated),
        installed=str(one.get("InstalledVersion") or ""),
        fixed_in=fixed,
        where=f"/{one['PkgPath']}" if one.get("PkgPath") else "",
        layer=str(layer.get("DiffID") or layer.get("Digest") or ""),
        url=str(one.get("PrimaryURL") or ""),
        aliases=tuple(_aliases(one)),
        hint=f"upgrade {subject} to {fixed}" if fixed else f"no fixed version of {subject} is known",
    )


def _aliases(one: Answer) -> Iterator[str]:
    yield from map(str, one.get("VendorIDs") or ())
