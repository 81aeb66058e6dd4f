"""Advisories in OSV's format (https://ossf.github.io/osv-schema/): which affect a package, and how badly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from packaging.utils import canonicalize_name

from pipelines.config_scan import SEVERITIES, Severity
from pipelines.scanners.cvss import rating
from pipelines.scanners.osv_zip import PYPI
from pipelines.scanners.versions import Key, NotComparableError, order_of

__all__ = ["Advisory", "NotComparableError", "Vulnerability", "affects", "severity", "vulnerabilities"]


Advisory: TypeAlias = Mapping[str, Any]
"""One OSV record. Any: JSON from outside; what isn't as the schema says is passed over field by field."""

_DATABASE_WORDS: dict[str, Severity] = {
    "CRITICAL": "critical",
    "HIGH": "high",
    "MODERATE": "medium",
    "MEDIUM": "medium",
    "LOW": "low",
    "NEGLIGIBLE": "low",
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


def affects(advisory: Advisory, name: str, version: str, ecosystem: str = PYPI) -> bool:
    """Does ``advisory`` hold for this version of this package of ``ecosystem``, as OSV calls it?

    Raises:
        NotComparableError: the answer would need an order that the version doesn't have.
    """
    return any(_affected(entry, version, ecosystem) for entry in _entries(advisory, name, ecosystem))


def _entries(advisory: Advisory, name: str, ecosystem: str) -> list[Mapping[str, Any]]:
    """The ``affected`` entries about ``name``; none of a withdrawn advisory."""
    if advisory.get("withdrawn"):
        return []
    return [
        entry
        for entry in advisory.get("affected", ())
        if _is_about(entry.get("package", {}), name, ecosystem)
    ]


def _is_about(package: Mapping[str, Any], name: str, ecosystem: str) -> bool:
    """Of a distribution the release counts: ``Alpine:v3.19``."""
    own, told = str(package.get("ecosystem", "")), str(package.get("name", ""))
    if ecosystem == PYPI:
        return own.partition(":")[0] == PYPI and canonicalize_name(told) == canonicalize_name(name)
    return own == ecosystem and told == name


def _affected(entry: Mapping[str, Any], version: str, ecosystem: str) -> bool:
    """By the list of versions or by a range (schema, "Evaluation"): either is enough."""
    if version in entry.get("versions", ()):
        return True
    ranges = [one for one in entry.get("ranges", ()) if one.get("type") == "ECOSYSTEM"]
    if not ranges and not entry.get("versions"):
        return False
    installed = order_of(ecosystem)(version)
    if any(_key(listed, ecosystem) == installed for listed in entry.get("versions", ())):
        return True
    return any(_in_range(_events(one, ecosystem), installed) for one in ranges)


def _in_range(events: Iterable[tuple[str, Key, str]], version: Key) -> bool:
    known = list(events)
    vulnerable = any(kind == "introduced" and text == "0" for kind, _, text in known)
    for kind, bound, _ in sorted((one for one in known if one[2] != "0"), key=lambda event: event[1]):
        if kind == "introduced" and version >= bound:
            vulnerable = True
        elif (kind == "fixed" and version >= bound) or (kind == "last_affected" and version > bound):
            vulnerable = False
    return vulnerable


def _events(one: Mapping[str, Any], ecosystem: str) -> list[tuple[str, Key, str]]:
    """What happens in a range, at which version; ``0`` is before all versions."""
    told = [(kind, str(text)) for event in one.get("events", ()) for kind, text in event.items()]
    keys = [(kind, _key(text, ecosystem), text) for kind, text in told]
    return [event for event in keys if event[1] is not None]


def _key(text: str, ecosystem: str) -> Key | None:
    try:
        return order_of(ecosystem)(text)
    except NotComparableError:
        return None


def severity(advisory: Advisory) -> Severity | None:
    """The database's own word, else the rating of its CVSS 3 vector; None when it has neither."""
    word = advisory.get("database_specific", {}).get("severity", "")
    if isinstance(word, str) and word.upper() in _DATABASE_WORDS:
        return _DATABASE_WORDS[word.upper()]
    scores = [str(one.get("score", "")) for one in advisory.get("severity", ())]
    # Ubuntu has its own word where others have a vector.
    return _worst(_DATABASE_WORDS.get(score.upper()) or rating(score) for score in scores)


def _worst(severities: Iterable[Severity | None]) -> Severity | None:
    known = [one for one in severities if one]
    return min(known, key=SEVERITIES.index) if known else None


def vulnerabilities(
    advisories: Sequence[Advisory], name: str, version: str, ecosystem: str = PYPI
) -> tuple[Vulnerability, ...]:
    """What ``advisories`` describe: those that share an alias (PYSEC, GHSA, CVE) are one vulnerability."""
    groups: list[tuple[set[str], list[Advisory]]] = []
    for advisory in sorted(_each(advisories), key=lambda one: str(one["id"])):
        names, members = _names(advisory), [advisory]
        apart = []
        for group in groups:
            if group[0] & names:
                names |= group[0]
                members = group[1] + members
            else:
                apart.append(group)
        groups = [*apart, (names, members)]
    found = (_one(*group, name, version, ecosystem) for group in groups)
    return tuple(sorted(found, key=lambda one: one.id))


def _names(advisory: Advisory) -> set[str]:
    """Its id and aliases; and the one vulnerability that a distribution's record is about (``upstream``)."""
    upstream = [str(one) for one in advisory.get("upstream", ())]
    return {str(advisory["id"]), *advisory.get("aliases", ()), *(upstream if len(upstream) == 1 else ())}


def _each(advisories: Sequence[Advisory]) -> list[Advisory]:
    """Without a distribution's notices on several vulnerabilities, each of which has a record of its own."""
    described = {name for one in advisories if len(one.get("upstream", ())) <= 1 for name in _names(one)}
    return [
        one
        for one in advisories
        if len(one.get("upstream", ())) <= 1 or not described.issuperset(map(str, one["upstream"]))
    ]


def _one(
    names: set[str], members: Sequence[Advisory], name: str, version: str, ecosystem: str
) -> Vulnerability:
    cves = sorted(one for one in names if one.startswith("CVE-"))
    chosen = cves[0] if cves else str(members[0]["id"])
    texts = [str(member.get("summary") or member.get("details") or "") for member in members]
    return Vulnerability(
        id=chosen,
        aliases=tuple(sorted(names - {chosen})),
        severity=_worst(severity(member) for member in members),
        title=_short(next(filter(None, texts), "")),
        fixed_in=_fixed_in(members, name, version, ecosystem),
        url=f"https://osv.dev/vulnerability/{members[0]['id']}",
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 110 else line[:107].rsplit(" ", 1)[0] + "…"


def _fixed_in(members: Sequence[Advisory], name: str, version: str, ecosystem: str) -> str:
    """The least version above the installed one that an advisory calls fixed."""
    installed = _key(version, ecosystem)
    fixed = [
        (bound, text)
        for member in members
        for entry in _entries(member, name, ecosystem)
        for one in entry.get("ranges", ())
        if one.get("type") == "ECOSYSTEM"
        for kind, bound, text in _events(one, ecosystem)
        if kind == "fixed" and (installed is None or bound > installed)
    ]
    return min(fixed, key=lambda one: one[0])[1] if fixed else ""
