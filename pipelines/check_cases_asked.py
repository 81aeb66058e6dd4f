"""Which golden cases ``--case`` means."""

from __future__ import annotations

from difflib import get_close_matches

from pipelines.config import Model
from pipelines.errors import Place, UsageError
from pipelines.stages.check_golden import read_golden


def lines_of(model: Model, case: str) -> tuple[int, ...]:
    """The line of the golden case that is called ``case`` or begins in that line; () for "": all of them.

    Raises:
        UsageError: there is no such case, or the model has no golden cases.
        ConfigError: the golden file is wrong.
    """
    if model.check.golden is None:
        raise UsageError(
            f"{model.name} has no golden cases",
            place=Place(model.file),
            hint="`check: golden:` names their file",
        )
    if not case:
        return ()
    cases, _ = read_golden(model)
    found = [one.line for one in cases if one.name == case]
    if not found and case.isdecimal():
        found = [one.line for one in cases if one.line == int(case)]
    if found:
        return (found[0],)
    near = get_close_matches(case, [one.name for one in cases if one.name], n=1)
    lines = [one.line for one in cases]
    hint = f'did you mean "{near[0]}"?' if near else f"cases begin in the lines {_shown(lines)}"
    raise UsageError(f'no golden case "{case}"', place=Place(model.directory / model.check.golden), hint=hint)


def _shown(lines: list[int]) -> str:
    if lines == list(range(lines[0], lines[0] + len(lines))):
        return f"{lines[0]} to {lines[-1]}"
    return ", ".join(map(str, lines[:10])) + (" …" if len(lines) > 10 else "")
