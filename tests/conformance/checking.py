"""The test of every case: the answer is Dagger's, except where the table of differences says otherwise."""

from __future__ import annotations

import json

from . import recorded
from .answers import differing
from .case import Answer, Case, Theme
from .differences import allowed


def test_answers_as_dagger_does(case: Case, engine: str, answers: dict[str, Answer]) -> None:
    known = recorded.read(Theme(case.theme))
    assert case.name in known, "not recorded: python -m tests.conformance --record"
    found = differing(answers[case.name], known[case.name])
    if engine == "embedded":
        may, gone = allowed(case.id, found)
        assert not gone, f"listed in differences.py, but not so: {gone}\n{told(found)}"
        found = {at: pair for at, pair in found.items() if at not in may}
    assert not found, told(found)


def told(found: dict[str, tuple[Answer, Answer]]) -> str:
    """Both sides of each difference."""
    lines = []
    for at, (ours, theirs) in found.items():
        lines += [
            f"at {at or 'the answer'}:",
            f"  here:     {json.dumps(ours, ensure_ascii=False)}",
            f"  recorded: {json.dumps(theirs, ensure_ascii=False)}",
        ]
    return "\n".join(lines)
