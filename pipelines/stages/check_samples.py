"""Some of the quality rung's requests, for rungs that need one that is answered well: schema, load, abuse."""

from __future__ import annotations

from typing import Final

from pipelines.config import Model
from pipelines.quality_plan import plan_quality
from pipelines.stages.check_planned import Planned
from pipelines.values import JSON

MOST: Final = 200
SAMPLES: Final = frozenset({"golden", "samples"})
"""The keys of the sections with such requests."""
PROGRAMS: Final = ("check_samples", "check_golden", "check_compare", "check_body")
"""The programs that read them."""


def plan_samples(model: Model) -> Planned | None:
    """The requests; None where there are golden cases, which are asked then, or no such rung is wanted.

    Raises:
        ConfigError: the data is wrong, see ``plan_quality``.
    """
    check = model.check
    wanted = check.budgets is not None or check.abuse is not None or check.schema_ is not None
    if check.quality is None or check.golden is not None or not wanted:
        return None
    plan = plan_quality(model)
    rows: list[JSON] = [
        {"line": row.line, "name": row.name, "request": _json(row.wanted)} for row in plan.data.rows[:MOST]
    ]
    section: dict[str, JSON] = {
        "file": check.quality.data,
        "path": check.quality.path or check.path,
        "rows": rows,
    }
    return Planned("samples", section, (), files=frozenset(plan.files))


def _json(wanted: dict[str, object]) -> JSON:
    return wanted  # type: ignore[return-value]  # a request as it was read: JSON
