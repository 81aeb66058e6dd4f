"""Requests that the model answers, for the rungs that need some: schema, budgets, abuse."""

from __future__ import annotations

from typing import Final

from pipelines.config import Model
from pipelines.quality_plan import plan_quality
from pipelines.stages.check_golden import plan_golden, read_golden
from pipelines.values import JSON

PROGRAMS: Final = ("check_samples", "check_golden", "check_compare", "check_body")
MOST_ROWS: Final = 100
"""Rows of quality data that are used; a load goes round them."""


def plan_samples(model: Model) -> tuple[dict[str, JSON], frozenset[str]]:
    """What the client reads them from, and the files that it needs.

    They are the golden cases; beside them rows of the quality data where no golden case is answered well.

    Raises:
        ConfigError: a file or a line of it is wrong.
    """
    section: dict[str, JSON] = {}
    files: frozenset[str] = frozenset()
    golden = plan_golden(model)
    if golden is not None:
        section["golden"] = dict(golden.section)
        files = golden.files
        if any(200 <= case.expected.status < 300 for case in read_golden(model)[0]):
            return section, files
    quality = model.check.quality
    if quality is not None:
        plan = plan_quality(model)
        rows = plan.data.rows[:MOST_ROWS]
        section["quality"] = {
            "file": quality.data,
            "path": quality.path or model.check.path,
            "rows": [{"line": row.line, "name": row.name, "request": _json(row.wanted)} for row in rows],
        }
        files |= frozenset(plan.files)
    return section, files


def _json(value: dict[str, object]) -> dict[str, JSON]:
    """The request as it was read: JSON already."""
    return value  # type: ignore[return-value]  # read from JSON, CSV or Parquet into JSON's types
