"""The rung "golden": every golden case against the running model. Python 3.8's own library."""

from __future__ import annotations

from pathlib import Path

from pipelines.in_engine.check_cases import Case, golden_cases, golden_cases_of
from pipelines.in_engine.check_compare import Tolerances, case_differences
from pipelines.in_engine.check_http import Answer, NoAnswerError
from pipelines.in_engine.check_rung import MOST_SILENT, MOST_TOLD, Context, Failure, Piece


def golden(context: Context) -> Piece:
    """Every golden case, one after the other: what one leaves behind may matter to the next."""
    section = context.plan["golden"]
    cases, directory = read_cases(context, section)
    failures, asked, silent = [], 0, 0
    for case in cases:
        asked += 1
        messages, answered = _ask(context, case, directory, section)
        silent = 0 if answered else silent + 1
        if messages:
            failures.append(Failure(case.line, case.name, messages))
        if silent == MOST_SILENT:
            break
    passed = asked - len(failures)
    return {
        "ok": not failures,
        "detail": f"{passed} of {len(cases)} golden cases",
        "passed": passed,
        "total": len(cases),
        "not_asked": len(cases) - asked,
        "failures": failures[:MOST_TOLD],
        "cases": [[case.line, case.name] for case in cases[:MOST_NAMED]],
    }


MOST_NAMED = 1000
"""Cases that are named one by one in a report."""


def read_cases(context: Context, section: Piece) -> tuple[list[Case], Path]:
    """The cases that ``section`` (the plan's "golden") asks for, and the directory of their files.

    Those of a YAML file stand in the plan itself: this library reads none.
    """
    file, path = context.files / section["file"], context.plan["path"]
    if "cases" in section:
        cases = golden_cases_of([(line, value) for line, value in section["cases"]], path)
    else:
        cases = golden_cases(file.read_text("utf-8"), path)
    only = section.get("only")
    return [case for case in cases if not only or case.line in only], file.parent


def differences_of(case: Case, answer: Answer, directory: Path, section: Piece) -> list[str]:
    """What of ``answer`` is not as ``case`` says, by the tolerances of ``section``."""
    tolerances: Tolerances = {path: (float(a), float(r)) for path, (a, r) in section["tolerance"].items()}
    file = case.expected.body_file
    body = None if file is None else (directory / file).read_bytes()
    return case_differences(case, answer, tolerances, section["ignore"], body)


def _ask(context: Context, case: Case, directory: Path, section: Piece) -> tuple[list[str], bool]:
    """What is wrong with one answer, and whether there was one."""
    try:
        answer = context.send(case.request, directory)
    except NoAnswerError as err:
        return [str(err)], False
    return differences_of(case, answer, directory, section), True
