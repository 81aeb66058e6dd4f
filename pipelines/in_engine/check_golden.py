"""The rung "golden": every golden case against the running model. Python 3.8's own library."""

from __future__ import annotations

from pathlib import Path

from pipelines.in_engine.check_cases import Case, golden_cases
from pipelines.in_engine.check_compare import Tolerances, case_differences
from pipelines.in_engine.check_http import NoAnswerError
from pipelines.in_engine.check_rung import MOST_SILENT, MOST_TOLD, Context, Failure, Piece


def golden(context: Context) -> Piece:
    """Every golden case, one after the other: what one leaves behind may matter to the next."""
    file = context.files / context.plan["golden"]
    cases = golden_cases(file.read_text("utf-8"), context.plan["path"])
    tolerances = {path: (float(a), float(r)) for path, (a, r) in context.plan["tolerance"].items()}
    failures, asked, silent = [], 0, 0
    for case in cases:
        asked += 1
        messages, answered = _ask(context, case, file.parent, tolerances)
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
    }


def _ask(context: Context, case: Case, directory: Path, tolerances: Tolerances) -> tuple[list[str], bool]:
    """What is wrong with one answer, and whether there was one."""
    try:
        answer = context.send(case.request, directory)
    except NoAnswerError as err:
        return [str(err)], False
    return case_differences(case, answer, tolerances, context.plan["ignore"]), True
