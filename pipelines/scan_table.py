"""The findings as a table for people: what is found, where, since when, and what becomes of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pipelines.scanners.policy import Verdict
    from pipelines.scanners.port import Finding

MOST_ROWS: Final = 20
WIDEST: Final = (8, 28, 26, 30, 48, 14, 24)
"""Characters of each column; a longer text is cut in its middle. All of it is in the record."""
BLOCKS: Final = "blocks"
HEADING: Final = ("severity", "id", "package", "installed → fixed", "where", "since", "")


def table(verdict: Verdict, rows: int = MOST_ROWS) -> str:
    """The findings of ``verdict``, those that block first, then worst first: at most ``rows`` of them.

    What is ``low`` and lets the release pass is counted only.
    """
    standing = _standing(verdict)
    told = [one for one in verdict.findings if one.severity != "low" or id(one) in standing]
    if not told:
        return ""
    told.sort(key=lambda one: standing.get(id(one)) != BLOCKS)
    cells = [HEADING, *(_row(one, standing.get(id(one), "")) for one in told[:rows])]
    lines = _aligned([[_cut(text, width) for text, width in zip(row, WIDEST, strict=True)] for row in cells])
    left = len(verdict.findings) - min(rows, len(told))
    return "\n".join([*lines, f"and {left} more, in the record"] if left else lines)


def _standing(verdict: Verdict) -> dict[int, str]:
    """What becomes of each finding, by its identity: equal findings in two places stand apart."""
    told = {id(one): BLOCKS for one in verdict.blocking}
    told |= {id(one): f"waived until {waiver.expires}" for one, waiver in verdict.waived}
    told |= {id(one): "known" for one in verdict.known}
    return told | {id(one): "no fix is known" for one in verdict.unfixed}


def _row(one: Finding, standing: str) -> tuple[str, ...]:
    versions = one.installed + (f" → {one.fixed_in}" if one.fixed_in else "")
    return one.severity, one.id, _subject(one), versions, _where(one), one.since, standing


def _subject(one: Finding) -> str:
    """A package; a path is told as the place."""
    return "" if one.subject.startswith("/") else one.subject


def _where(one: Finding) -> str:
    if one.file:
        return f"{one.file}:{one.line}" if one.line else one.file
    return one.where or (one.subject if one.subject.startswith("/") else "")


def _cut(text: str, width: int) -> str:
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    half = (width - 1) // 2
    return f"{text[: width - 1 - half]}…{text[-half:]}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell; those that nobody fills are left out."""
    used = [place for place in range(len(rows[0])) if any(row[place] for row in rows[1:])]
    widths = [max(len(row[place]) for row in rows) for place in used]
    return [
        "  ".join(f"{row[place]:<{width}}" for place, width in zip(used, widths, strict=True)).rstrip()
        for row in rows
    ]
