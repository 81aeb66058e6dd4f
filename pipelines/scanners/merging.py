"""Findings that differ only by who found them are one finding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pipelines.scanners.paths import package_name
from pipelines.scanners.port import Finding


def merged(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """``findings``, worst first, with those of several scanners on one vulnerability as one.

    It is the same vulnerability where the package is the same and one name (id or alias) is common. What one
    scanner finds twice stays two findings: a secret in two lines.
    """
    groups: dict[str, list[list[Finding]]] = {}
    for one in sorted(findings, key=lambda it: it.rank):
        own = groups.setdefault(package_name(one.subject), [])
        group = next((group for group in own if _is_the_same(group, one)), None)
        if group is None:
            own.append([one])
        else:
            group.append(one)
    found = [_one(group) for own in groups.values() for group in own]
    return tuple(sorted(found, key=lambda it: it.rank))


def _is_the_same(group: Sequence[Finding], other: Finding) -> bool:
    if any(one.scanner == other.scanner for one in group):
        return False
    return any(one.names & other.names and _same_version(one, other) for one in group)


def _same_version(one: Finding, other: Finding) -> bool:
    """Two installations of one package are two findings."""
    return not one.installed or not other.installed or one.installed == other.installed


def _one(group: Sequence[Finding]) -> Finding:
    """The worst rating, with whatever any of them knows."""
    first, *rest = group
    if not rest:
        return first
    names = frozenset().union(*(one.names for one in group))
    return replace(
        first,
        aliases=tuple(sorted(names - {first.id})),
        fixed_in=next((one.fixed_in for one in group if one.fixed_in), ""),
        where=next((one.where for one in group if one.where), ""),
        layer=next((one.layer for one in group if one.layer), ""),
        since=next((one.since for one in group if one.since), ""),
        others=tuple(one.scanner for one in rest),
    )
