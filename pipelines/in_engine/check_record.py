"""The rung "record": the answers that golden cases get now, for `modelport check --update`.

Each request is sent twice: an answer that differs from itself is none to record. Python 3.8's own library.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.in_engine.check_cases import Case, Expected
from pipelines.in_engine.check_compare import case_differences
from pipelines.in_engine.check_golden import differences_of, read_cases
from pipelines.in_engine.check_http import Answer, NoAnswerError
from pipelines.in_engine.check_rung import MOST_SILENT, Context, Piece

LARGEST_RECORD = 32 << 20


def record(context: Context) -> Piece:
    """Of each case that is not answered as it says: the answer, or why it is none to record."""
    section = context.plan["record"]
    cases, directory = read_cases(context, section)
    changed, silent, size = [], 0, 0
    for case in cases:
        told = _changed(context, case, directory, section, room=LARGEST_RECORD - size)
        silent = silent + 1 if told and told.get("silent") else 0
        if told:
            changed.append({"line": case.line, "name": case.name, **told})
            size += len(told.get("body", ""))
        if silent == MOST_SILENT:
            break
    return {
        "ok": True,
        "detail": f"{len(changed)} of {len(cases)} answers differ",
        "total": len(cases),
        "changed": changed,
    }


def _changed(context: Context, case: Case, directory: Path, section: Piece, room: int) -> Piece:
    """Nothing for a case that holds."""
    try:
        answer, again = (context.send(case.request, directory) for _ in range(2))
    except NoAnswerError as err:
        return {"refused": str(err), "silent": True}
    messages = differences_of(case, answer, directory, section)
    if not messages and not differences_of(case, again, directory, section):
        return {}
    if answer.status >= 500 or again.status >= 500:
        return {"refused": f"the model failed (status {max(answer.status, again.status)})"}
    if not _same(case, answer, again, section):
        return {"refused": "two answers to the same request differ from each other"}
    if len(answer.body) > room:
        return {"refused": f"the answers have more than {LARGEST_RECORD >> 20} MB: update with `--case`"}
    return _told(case, answer, messages)


def _told(case: Case, answer: Answer, messages: list[str]) -> Piece:
    try:
        body = answer.body.decode("utf-8")
    except UnicodeDecodeError:
        return {"refused": "the answer is not text; write it into the file that `body_file` names"}
    headers = {name: answer.header(name) for name, _ in case.expected.headers}
    return {"messages": messages, "status": answer.status, "body": body, "headers": headers}


def _same(case: Case, answer: Answer, again: Answer, section: Piece) -> bool:
    """Whether two answers are one, but for what the case ignores and tolerates."""
    if answer.status != again.status:
        return False
    if answer.body == again.body:
        return True
    tolerances = {path: (float(a), float(r)) for path, (a, r) in section["tolerance"].items()}
    try:
        said = answer.json()
    except ValueError:
        return False
    if case.expected.has_json and case.expected.takes(answer.status):
        said = _compared(case.expected.json, said)
    expected = Expected(status=answer.status, has_json=True, json=said)
    own = Case(case.line, case.name, case.request, expected, case.tolerance, case.ignore)
    return not case_differences(own, again, tolerances, section["ignore"])


def _compared(expected: object, said: object) -> object:
    """The part of ``said`` that the case looks at: a time that it does not expect may differ."""
    if isinstance(expected, dict) and isinstance(said, dict):
        return {key: _compared(expected[key], said[key]) for key in expected if key in said}
    if isinstance(expected, list) and isinstance(said, list) and len(expected) == len(said):
        return [_compared(expected[index], said[index]) for index in range(len(said))]
    return said
