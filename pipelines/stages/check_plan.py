"""What a check will ask, read and held on our side: every wrong line is told before anything is built."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pipelines.config import Model
from pipelines.config_check import Check
from pipelines.quality_plan import plan_quality
from pipelines.stages.batch_plan import plan_batch
from pipelines.stages.check_abuse import plan_abuse
from pipelines.stages.check_budgets import plan_budgets
from pipelines.stages.check_golden import plan_golden
from pipelines.stages.check_planned import FILES, Planned
from pipelines.stages.check_samples import plan_samples
from pipelines.stages.check_schema import plan_schema

HOST: Final = "model"
"""The name that the model's service has for the client."""

PLANNERS: Final[tuple[Callable[[Model], Planned | None], ...]] = (
    plan_schema,
    plan_golden,
    plan_samples,
    plan_budgets,
    plan_abuse,
)
"""What each rung of the client asks; the client's own table has their order."""
BEFORE_QUALITY: Final = ("schema", "golden", "record")
"""Keys of the rungs that are climbed first. The quality rung has a program and an exec of its own."""
NOT_CLIMBED: Final = ("samples",)
CLIENT: Final = (
    "check_client",
    "check_rung",
    "check_ready",
    "check_cases",
    "check_compare",
    "check_http",
    "check_body",
)
"""The programs that every climb needs."""


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """The requests of one check."""

    check: Check
    directory: Path
    """The model's own."""
    rungs: tuple[Planned, ...] = ()
    climbed: tuple[str, ...] = ()
    """The keys of those that are climbed: others may be there for what they know."""
    quality: bool = False
    """Whether the quality rung, which has a program and an exec of its own, is climbed too."""

    @classmethod
    def of(cls, model: Model) -> CheckPlan:
        """The plan of the client's rungs. Raises ConfigError, see ``plan_check``."""
        planned = [plan(model) for plan in PLANNERS]
        rungs = tuple(one for one in planned if one is not None)
        climbed = tuple(one.key for one in rungs if one.key not in NOT_CLIMBED)
        return cls(model.check, model.directory, rungs, climbed, model.check.quality is not None)

    def only(self, *keys: str) -> CheckPlan:
        """These rungs of the client alone, with what they need of the others."""
        kept = [one for one in self.rungs if one.key in keys]
        needed = frozenset(keys).union(*(one.needs for one in kept))
        return replace(
            self,
            rungs=tuple(one for one in self.rungs if one.key in needed),
            climbed=tuple(key for key in self.climbed if key in keys),
            quality=False,
        )

    @property
    def first(self) -> CheckPlan:
        """What is climbed before the quality rung."""
        return self.only(*BEFORE_QUALITY)

    @property
    def later(self) -> CheckPlan:
        """What is climbed after it."""
        return self.only(*(key for key in self.climbed if key not in BEFORE_QUALITY))

    @property
    def files(self) -> tuple[str, ...]:
        """What the client needs, relative to the model's directory."""
        return tuple(sorted(frozenset[str]().union(*(rung.files for rung in self.rungs))))

    @property
    def programs(self) -> tuple[str, ...]:
        """What the client imports."""
        return tuple(sorted({*CLIENT, *(name for rung in self.rungs for name in rung.programs)}))

    @property
    def longest_s(self) -> float:
        """An upper bound of the client's time, should every answer take as long as it may."""
        waits = self.check.start_timeout_s + 2 * self.check.request_timeout_s
        return waits + sum(rung.longest_s for rung in self.rungs if rung.key in self.climbed)

    def to_client(self) -> str:
        """The client's plan: JSON, the same for the same configuration, for it is part of the cache's key."""
        check = self.check
        plan: dict[str, Any] = {  # Any: JSON of several depths
            "host": HOST,
            "port": check.port,
            "health": check.health,
            "path": check.path,
            "start_timeout_s": check.start_timeout_s,
            "request_timeout_s": check.request_timeout_s,
            "files": FILES,
            "climb": self.climbed,
            **{rung.key: dict(rung.section) for rung in self.rungs},
        }
        return json.dumps(plan, sort_keys=True)


def plan_check(model: Model) -> CheckPlan:
    """Read the files that ``model``'s check names.

    Raises:
        ConfigError: a file or a line of it is wrong; with its place.
    """
    plan_batch(model)
    if model.check.quality is not None:
        plan_quality(model)
    return CheckPlan.of(model)
