"""Grype (https://github.com/anchore/grype) as a scanner, in a container of its own, over the image's files.

Its JSON: https://oss.anchore.com/docs/guides/vulnerability/json/. It ends with 0 whatever it found unless
``fail-on`` is set, and with 1 on an error, without a database too: any other code than 0 is "could not look",
with the last line of its log. So it isn't started with ``--quiet``, which takes that line away.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from anyio import to_thread

from pipelines.config_scan import ScanPolicy, Severity
from pipelines.scanners.advisories import normalised
from pipelines.scanners.port import CouldNotLookError, Finding, ImageView, ScannerName, ScannerResult, Tool
from pipelines.scanners.tools import Answer, database_in, digest_of, json_of, rated, titled, tool_of

if TYPE_CHECKING:
    from pipelines.config_other_scanners import Grype as GrypeSection
    from pipelines.scanners.contents import Contents

CACHE: Final = "/modelport/grype"
"""Its database's directory in its container."""
ARGUMENTS: Final = ("dir:/image", "--output=json")
MARKS: Final = (b"SQLite format 3",)
ENVIRONMENT: Final = {
    "GRYPE_DB_CACHE_DIR": CACHE,
    "GRYPE_CHECK_FOR_APP_UPDATE": "false",
    # The age is judged by scan.stale_data, which says it and may let it pass; grype would only fail.
    "GRYPE_DB_VALIDATE_AGE": "false",
}


def _today() -> date:
    return datetime.now(UTC).date()


@dataclass(frozen=True, slots=True)
class Grype:
    """Runs the configured container. Network: none, or for the database where an address is named."""

    section: GrypeSection
    directory: Path
    """Where a relative path of the policy is looked for."""
    today: Callable[[], date] = _today
    name: ScannerName = field(default="grype", init=False)

    @property
    def network(self) -> str:
        """The address of the database, if one is named."""
        return f"its database, from {self.section.database_url}" if self.section.database_url else ""

    async def scan(self, image: ImageView, policy: ScanPolicy) -> ScannerResult:
        """Its findings. Not audited when it doesn't tell which database it judged by, or no distribution."""
        digest = "" if self.section.database is None else await to_thread.run_sync(self._digest)
        report = json_of(await image.run_tool(self._tool()), "grype")
        contents = await image.contents()
        about = descriptor(report)
        reason = unseen(report, contents)
        return ScannerResult(
            "grype",
            audited=not reason,
            reason=reason,
            findings=findings_of(report, self.section.unrated),
            looked_at=len(contents.os_packages) + len(contents.python),
            data=f"database of {about.built[:10]}",
            version=about.version,
            data_date=about.built,
            data_digest=digest or about.digest,
            network=self.network,
        )

    def _digest(self) -> str:
        """Of the database on this machine; blocks. Raises CouldNotLookError: there is none."""
        path = database_in(self.section, self.directory)
        files = sorted(path.glob("*/vulnerability.db"))
        if not files:
            raise CouldNotLookError(f"there is no grype database (*/vulnerability.db) in {path}")
        return digest_of(files[-1], MARKS)

    def _tool(self) -> Tool:
        if self.section.database_url is None:
            env = {**ENVIRONMENT, "GRYPE_DB_AUTO_UPDATE": "false"}
            return tool_of(self.section, ARGUMENTS, env, {CACHE: database_in(self.section, self.directory)})
        env = {
            **ENVIRONMENT,
            "GRYPE_DB_UPDATE_URL": self.section.database_url,
            "GRYPE_DB_AUTO_UPDATE": "true",
            # Without it an update that failed is a warning.
            "GRYPE_DB_REQUIRE_UPDATE_CHECK": "true",
        }
        return tool_of(self.section, ARGUMENTS, env, fetched_on=self.today())


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Which grype judged by which database."""

    version: str
    built: str
    digest: str


def descriptor(report: Answer) -> Descriptor:
    """What the report says of itself, as of grype 0.88 (``db.status``) or before.

    Raises:
        CouldNotLookError: it names no valid database.
    """
    about = report.get("descriptor")
    database = about.get("db") if isinstance(about, dict) else None
    if not isinstance(about, dict) or not isinstance(database, dict):
        raise CouldNotLookError("grype's report names no database")
    status = database.get("status", database)
    problem = status.get("error")
    if problem or status.get("valid") is False or not status.get("built"):
        raise CouldNotLookError(f"grype's database is not valid: {problem or 'it has no date'}")
    address = unquote(f"{status.get('from', '')} {status.get('checksum', '')}")
    digest = re.search(r"sha256:[0-9a-f]{64}", address)
    return Descriptor(str(about.get("version", "")), str(status["built"]), digest[0] if digest else "")


def unseen(report: Answer, contents: Contents) -> str:
    """Why ``report`` can't be about all of the image, or ""."""
    distro = report.get("distro")
    if contents.os_packages and not (isinstance(distro, dict) and distro.get("name")):
        return f"it did not recognise {contents.os_release.get('PRETTY_NAME') or 'the distribution'}"
    return ""


def findings_of(report: Answer, unrated: Severity) -> tuple[Finding, ...]:
    """The matches of a report. Raises CouldNotLookError when it isn't as documented."""
    try:
        return tuple(_finding(match, unrated) for match in report["matches"])
    except (KeyError, TypeError, AttributeError) as err:
        raise CouldNotLookError(f"grype's report is not as documented: {err!r}") from err


def _finding(match: Answer, unrated: Severity) -> Finding:
    vulnerability, artifact = match["vulnerability"], match["artifact"]
    names = {str(vulnerability["id"]), *(str(one["id"]) for one in match.get("relatedVulnerabilities") or ())}
    chosen = min((one for one in names if one.startswith("CVE-")), default=str(vulnerability["id"]))
    subject = normalised(artifact["name"]) if artifact.get("type") == "python" else str(artifact["name"])
    fixed = ", ".join(map(str, (vulnerability.get("fix") or {}).get("versions") or ()))
    place: Answer = next(iter(artifact.get("locations") or ()), {})
    word = vulnerability.get("severity")
    return Finding(
        scanner="grype",
        id=chosen,
        severity=rated(word, unrated),
        subject=subject,
        title=titled(_short(str(vulnerability.get("description") or "")), word, unrated),
        installed=str(artifact.get("version") or ""),
        fixed_in=fixed,
        where=str(place.get("path") or "").removeprefix("/image"),
        layer=str(place.get("layerID") or ""),
        url=str(vulnerability.get("dataSource") or ""),
        aliases=tuple(sorted(names - {chosen})),
        hint=f"upgrade {subject} to {fixed}" if fixed else f"no fixed version of {subject} is known",
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 110 else line[:107].rsplit(" ", 1)[0] + "…"
