"""Advisories in OSV's format (https://ossf.github.io/osv-schema/): which affect a package, and how badly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pipelines.config_scan import SEVERITIES, Severity
from pipelines.scanners.cvss import rating

Advisory: TypeAlias = Mapping[str, Any]
"""One OSV record. Any: JSON from outside; what isn't as the schema says is passed over field by field."""

_DATABASE_WORDS: dict[str, Severity] = {
    "CRITICAL": "critical",
    "HIGH": "high",
    "MODERATE": "medium",
    "MEDIUM": "medium",
    "LOW": "low",
}


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """One vulnerability of one package, whatever number of databases describe it."""

    id: str
    aliases: tuple[str, ...]
    severity: Severity | None
    """None: no database rates it."""
    title: str
    fixed_in: str
    url: str


class NotComparableError(ValueError):
    """A version that isn't one by PEP 440 can't be compared with an advisory's ranges."""


def affects(advisory: Advisory, name: str, version: str) -> bool:
    """Does ``advisory`` hold for this version of this PyPI package?

    Raises:
        NotComparableError: the answer would need an order that the version doesn't have.
    """
    return any(_affected(entry, version) for entry in _entries(advisory, name))


def _entries(advisory: Advisory, name: str) -> list[Mapping[str, Any]]:
    """The ``affected`` entries about ``name``; none of a withdrawn advisory."""
    if advisory.get("withdrawn"):
        return []
    wanted = canonicalize_name(name)
    return [
        entry
        for entry in advisory.get("affected", ())
        if str(entry.get("package", {}).get("ecosystem", "")).partition(":")[0] == "PyPI"
        and canonicalize_name(str(entry["package"].get("name", ""))) == wanted
    ]


def _affected(entry: Mapping[str, Any], version: str) -> bool:
    """By the list of versions or by a range (schema, "Evaluation"): either is enough."""
    if version in entry.get("versions", ()):
        return True
    ranges = [one for one in entry.get("ranges", ()) if one.get("type") == "ECOSYSTEM"]
    if not ranges and not entry.get("versions"):
        return False
    installed = _version(version)
    if any(_version_or_none(listed) == installed for listed in entry.get("versions", ())):
        return True
    return any(_in_range(one.get("events", ()), installed) for one in ranges)


def _in_range(events: Iterable[Mapping[str, str]], version: Version) -> bool:
    vulnerable = False
    for kind, bound in sorted(_events(events), key=lambda event: event[1]):
        if kind == "introduced" and version >= bound:
            vulnerable = True
        elif (kind == "fixed" and version >= bound) or (kind == "last_affected" and version > bound):
            vulnerable = False
    return vulnerable


def _events(events: Iterable[Mapping[str, str]]) -> list[tuple[str, Version]]:
    known = [(kind, text) for event in events for kind, text in event.items()]
    bounds = [(kind, Version("0.dev0") if text == "0" else _version_or_none(text)) for kind, text in known]
    return [(kind, bound) for kind, bound in bounds if bound is not None]


def _version(text: str) -> Version:
    version = _version_or_none(text)
    if version is None:
        raise NotComparableError(f"version {text} can't be compared")
    return version


def _version_or_none(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def severity(advisory: Advisory) -> Severity | None:
    """The database's own word, else the rating of its CVSS 3 vector; None when it has neither."""
    word = advisory.get("database_specific", {}).get("severity", "")
    if isinstance(word, str) and word.upper() in _DATABASE_WORDS:
        return _DATABASE_WORDS[word.upper()]
    vectors = [str(one.get("score", "")) for one in advisory.get("severity", ())]
    return _worst(rating(vector) for vector in vectors)


def _worst(severities: Iterable[Severity | None]) -> Severity | None:
    known = [one for one in severities if one]
    return min(known, key=SEVERITIES.index) if known else None


def vulnerabilities(advisories: Sequence[Advisory], name: str, version: str) -> tuple[Vulnerability, ...]:
    """What ``advisories`` describe: those that share an alias (PYSEC, GHSA, CVE) are one vulnerability."""
    groups: list[tuple[set[str], list[Advisory]]] = []
    for advisory in sorted(advisories, key=lambda one: str(one["id"])):
        names, members = {str(advisory["id"]), *advisory.get("aliases", ())}, [advisory]
        apart = []
        for group in groups:
            if group[0] & names:
                names |= group[0]
                members = group[1] + members
            else:
                apart.append(group)
        groups = [*apart, (names, members)]
    return tuple(sorted((_one(*group, name, version) for group in groups), key=lambda one: one.id))


def _one(names: set[str], members: Sequence[Advisory], name: str, version: str) -> Vulnerability:
    cves = sorted(one for one in names if one.startswith("CVE-"))
    chosen = cves[0] if cves else str(members[0]["id"])
    texts = [str(member.get("summary") or member.get("details") or "") for member in members]
    return Vulnerability(
        id=chosen,
        aliases=tuple(sorted(names - {chosen})),
        severity=_worst(severity(member) for member in members),
        title=_short(next(filter(None, texts), "")),
        fixed_in=_fixed_in(members, name, version),
        url=f"https://osv.dev/vulnerability/{members[0]['id']}",
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 110 else line[:107].rsplit(" ", 1)[0] + "…"


def _fixed_in(members: Sequence[Advisory], name: str, version: str) -> str:
    """The least version above the installed one that an advisory calls fixed."""
    installed = _version_or_none(version)
    fixed = [
        bound
        for member in members
        for entry in _entries(member, name)
        for one in entry.get("ranges", ())
        if one.get("type") == "ECOSYSTEM"
        for kind, bound in _events(one.get("events", ()))
        if kind == "fixed" and (installed is None or bound > installed)
    ]
    return str(min(fixed)) if fixed else ""
