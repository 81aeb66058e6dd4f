"""The rung "abuse" on the pipeline's side: its part of the client's plan. It is the client that judges."""

from __future__ import annotations

from typing import Final

from pipelines.config import Model
from pipelines.stages.check_planned import Planned
from pipelines.stages.check_samples import PROGRAMS as SAMPLES_PROGRAMS
from pipelines.stages.check_samples import SAMPLES

PROGRAMS: Final = ("check_abuse", "check_attacks", *SAMPLES_PROGRAMS)
MOST_SHOTS: Final = 300
"""An attack has at most so many requests; most are answered in a moment."""


def plan_abuse(model: Model) -> Planned | None:
    """The rung's plan."""
    abuse = model.check.abuse
    if abuse is None:
        return None
    return Planned(
        key="abuse",
        section=abuse.model_dump(mode="json"),
        programs=PROGRAMS,
        needs=SAMPLES,
        longest_s=MOST_SHOTS * abuse.within_s + 30 * model.check.request_timeout_s,
    )
