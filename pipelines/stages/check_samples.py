"""Requests that the model answers, for the rungs that need some: schema, budgets, abuse."""

from __future__ import annotations

from typing import Any, Final

from pipelines.config import Model
from pipelines.quality_plan import plan_quality
from pipelines.stages.check_golden import plan_golden, read_golden
from pipelines.values import JSON

PROGRAMS: Final = ("check_samples", "check_golden", "check_compare", "check_body")
MOST: Final = 200
"""Rows of the quality data that are handed on."""


def plan_samples(model: Model) -> tuple[dict[str, JSON], frozenset[str]]:
    """What the client reads them from, and the files that it needs: golden cases, else the quality data.

    Raises:
        ConfigError: the golden file or the data is wrong.
    """
    golden, quality = plan_golden(model), model.check.quality
    if golden is not None and _has_good_ones(model):
        return {"golden": dict(golden.section)}, golden.files
    section: dict[str, JSON] = {} if golden is None else {"golden": dict(golden.section)}
    files: frozenset[str] = frozenset() if golden is None else golden.files
    if quality is not None:
        plan = plan_quality(model)
        rows: list[Any] = [  # Any: requests as they were read, JSON
            {"line": row.line, "name": row.name, "request": row.wanted} for row in plan.data.rows[:MOST]
        ]
        section["quality"] = {"file": quality.data, "path": quality.path or model.check.path, "rows": rows}
        files |= frozenset(plan.files)
    return section, files


def _has_good_ones(model: Model) -> bool:
    cases, _ = read_golden(model)
    return any(200 <= case.expected.status < 300 for case in cases)
