"""What ``doctor`` finds: values that print as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "no", "warning", "info"]
_MARKS = {"ok": "ok", "no": "NO", "warning": "!", "info": ""}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it stands, and what the user can do about it."""

    section: str
    name: str
    status: Status
    text: str
    remedy: str = ""


def table(findings: Iterable[Finding]) -> str:
    """Lines for people; what to do follows the line that it belongs to."""
    lines, section = [], ""
    for one in findings:
        shown = one.section if one.section != section else ""
        section = one.section
        lines.append(f"{shown:<12}{_MARKS[one.status]:<4}{one.name}: {one.text}".rstrip())
        lines += [f"{'':<16}-> {line}" if not at else f"{'':<19}{line}" for at, line in _numbered(one.remedy)]
    return "\n".join(lines)


def document(findings: Sequence[Finding], *, ok: bool) -> str:
    """The same for programs."""
    return json.dumps({"ok": ok, "findings": [asdict(one) for one in findings]}, indent=2, ensure_ascii=False)


def _numbered(text: str) -> Iterable[tuple[int, str]]:
    return enumerate(text.splitlines())
