"""The golden cases on the pipeline's side: read and held before the build, and their failure told."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.config import Model
from pipelines.errors import CheckFailed, Place
from pipelines.golden_yaml import yaml_lines
from pipelines.in_engine.check_cases import Case, golden_cases, golden_cases_of
from pipelines.stages.check_planned import Planned, body_files, read_lines
from pipelines.values import JSON

if TYPE_CHECKING:
    from pipelines.stages.check_report import Rung

PROGRAMS = ("check_golden", "check_compare", "check_body")
LARGEST_YAML = 4 << 20
"""Reading more YAML than that takes longer than the check."""


def plan_golden(model: Model, only: tuple[int, ...] = (), *, record: bool = False) -> Planned | None:
    """The rung's plan; with ``only`` the cases of these lines alone; with ``record`` for their answers.

    Raises:
        ConfigError: the file or a line of it is wrong.
    """
    check = model.check
    if check.golden is None:
        return None
    file = model.directory / check.golden
    cases, own = read_golden(model)
    asked = [case for case in cases if case.line in only] if only else cases
    section: dict[str, JSON] = {
        "file": check.golden,
        "tolerance": {path: [t.absolute, t.relative] for path, t in check.tolerance.items()},
        "ignore": list(check.ignore),
        **own,
        **({"only": [*sorted(only)]} if only else {}),
    }
    files = body_files(file, model.directory, cases) | {check.golden}
    times = 2 if record else 1
    return Planned(
        key="record" if record else "golden",
        section=section,
        programs=("check_record", *PROGRAMS) if record else PROGRAMS,
        files=files,
        longest_s=times * len(asked) * check.request_timeout_s,
    )


def read_golden(model: Model) -> tuple[list[Case], dict[str, JSON]]:
    """The cases of the model's golden file, and what the client needs that can't read YAML.

    Raises:
        ConfigError: the file or a line of it is wrong.
    """
    name, path = str(model.check.golden), model.check.path
    file = model.directory / name
    if not is_yaml(file):
        return read_lines(file, lambda text: golden_cases(text, path)), {}
    pairs = read_lines(file, yaml_lines, LARGEST_YAML)
    cases = read_lines(file, lambda _: golden_cases_of(pairs, path), LARGEST_YAML)
    return cases, {"cases": [[line, value] for line, value in pairs]}


def is_yaml(file: Path) -> bool:
    """By its name."""
    return file.suffix.lower() in (".yaml", ".yml")


def golden_failed(rung: Rung, model: Model) -> CheckFailed:
    """The first case that differs, with the command that repeats it alone."""
    from pipelines.stages.check_report import failures_told, titled  # noqa: PLC0415  # it imports this module

    failures = rung.facts["failures"]
    first, file = failures[0], model.directory / str(model.check.golden)
    total, passed, not_asked = (rung.facts[key] for key in ("total", "passed", "not_asked"))
    others = total - passed - not_asked - 1
    more = f" (and {others} more of {total} golden cases)" if others else ""
    if not_asked:
        more += f"; {not_asked} were not asked, for the model had stopped answering"
    return CheckFailed(
        f"{titled(first)}{first['messages'][0]}{more}",
        place=Place(file, first["line"]),
        hint=_hint(first, model),
        detail="\n".join(part for part in (failures_told(failures, model.check.golden), rung.log) if part),
    )


def _hint(failure: dict[str, Any], model: Model) -> str:  # Any: a failure as the client tells it
    message = failure["messages"][0]
    alone = f"`modelport check {_shown(model.directory)} --case {failure['line']}` repeats it alone"
    if message.startswith("status is 5"):
        return f"the model failed on this request: {alone}; why, its own log says"
    if message.startswith(("no ", "the connection", "the answer ended")):
        return (
            f"the model may be too slow here: `check: request_timeout_s:` says how long an answer may take; "
            f"{alone}"
        )
    said = f"{alone}; `--update` records the new answer after showing the difference"
    if "expected" in message and message.rstrip().endswith("(exact)") and _is_number(message):
        said += "; numbers that differ between machines need a tolerance (`check: tolerance:`)"
    return said


def _is_number(message: str) -> bool:
    _, _, expected = message.rpartition("expected ")
    try:
        float(expected.removesuffix("(exact)"))
    except ValueError:
        return False
    return True


def _shown(directory: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(directory.relative_to(here) if directory.is_relative_to(here) else directory))
