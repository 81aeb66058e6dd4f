"""What the adapters for scanners of others share: their answer as JSON, their database on this machine."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipelines.config_scan import Severity
from pipelines.scanners.port import CouldNotLookError, Tool

if TYPE_CHECKING:
    from pipelines.config_other_scanners import Grype, Trivy

Answer = Mapping[str, Any]
"""A program's JSON. Any: it is from outside; what isn't as its schema says is "could not look"."""

DAY: Final = "MODELPORT_DAY"
"""A database that is fetched changes by itself: the day is in the exec's key, so it is asked once a day."""
SEVERITIES: Final[Mapping[str, Severity]] = {
    "critical": "critical",
    "high": "high",
    "medium": "medium",
    "low": "low",
    "negligible": "low",
}
_PIECE: Final = 1 << 20


def tool_of(
    section: Grype | Trivy,
    arguments: Sequence[str],
    env: Mapping[str, str],
    directories: Mapping[str, Path] | None = None,
    fetched_on: date | None = None,
) -> Tool:
    """The configured program with ``arguments``. ``fetched_on``: what it fetches is as of that day."""
    own = {"NO_COLOR": "1", **env, **({DAY: fetched_on.isoformat()} if fetched_on else {})}
    return Tool(section.image, (*section.command, *arguments), directories or {}, own)


def database_in(section: Grype | Trivy, directory: Path) -> Path:
    """Where the section's database is; a relative path is one from ``directory``."""
    return (directory / str(section.database)).expanduser()


def json_of(text: str, tool: str) -> Answer:
    """The object that ``tool`` printed. Raises CouldNotLookError when it is none."""
    try:
        answer = json.loads(text)
    except ValueError as err:
        raise CouldNotLookError(f"{tool}'s answer is no JSON: {text.strip()[:80]!r}") from err
    if not isinstance(answer, dict):
        raise CouldNotLookError(f"{tool}'s answer is no JSON object")
    return answer


def rated(word: object, unrated: Severity) -> Severity:
    """A tool's word for a severity; ``unrated`` for one that says nothing."""
    return SEVERITIES.get(str(word).lower(), unrated)


def titled(title: str, word: object, unrated: Severity) -> str:
    """``title``, saying so where the severity is not the tool's."""
    return title if str(word).lower() in SEVERITIES else f"{title} (not rated: counts as {unrated})".lstrip()


def digest_of(file: Path, marks: Iterable[bytes] = ()) -> str:
    """The SHA-256 of a database, remembered while the file is unchanged; blocks.

    Raises:
        CouldNotLookError: it can't be read, or one of ``marks`` is nowhere in it.
    """
    wanted = tuple(marks)
    try:
        stat = file.stat()
        question = f"{file} {stat.st_size} {stat.st_mtime_ns} {wanted!r}"
        remembered = _cache() / f"{hashlib.sha256(question.encode()).hexdigest()}"
        if remembered.is_file():
            return remembered.read_text("ascii")
        digest, missing = _read(file, wanted)
    except OSError as err:
        raise CouldNotLookError(f"{file} can't be read: {err.strerror or err}") from err
    if missing:
        raise CouldNotLookError(f"{file} holds no advisories: there is no {missing[0].decode()} in it")
    _remember(remembered, digest)
    return digest


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelport" / "databases"


def _read(file: Path, marks: tuple[bytes, ...]) -> tuple[str, list[bytes]]:
    digest, missing = hashlib.sha256(), list(marks)
    overlap = max(map(len, marks), default=0)
    end = b""
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            missing = [mark for mark in missing if mark not in end + piece] if missing else missing
            end = piece[-overlap:] if overlap else b""
    return f"sha256:{digest.hexdigest()}", missing


def _remember(file: Path, digest: str) -> None:
    temporary = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(digest, "ascii")
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)  # a full or read-only disk costs time, not the answer
