"""The test of every case: the answer is Dagger's, except where the table of differences says otherwise."""

from __future__ import annotations

import json

from . import recorded
from .answers import differing
from .case import Answer, Case, Theme
from .differences import DIFFERENCES


def test_answers_as_dagger_does(case: Case, engine: str, answers: dict[str, Answer]) -> None:
    known = recorded.read(Theme(case.theme))
    assert case.name in known, "not recorded: python -m tests.conformance --record"
    found = differing(answers[case.name], known[case.name])
    if engine == "embedded":
        listed = {one.at: one for one in DIFFERENCES if one.case == case.id}
        gone = set(listed) - set(found)
        assert not gone, f"listed in differences.py, but no longer different: {gone}"
        found = {at: pair for at, pair in found.items() if not (at in listed and listed[at].holds(pair[0]))}
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
