"""What a rung has beside its question: services and measurements it needs, and the policy on its answer.

The client in the engine asks and tells, and its exec is kept by the engine for the same image and questions;
what is judged here (limits, trends, what was published) re-runs nothing when it changes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipelines.config import Model
from pipelines.errors import CheckFailed
from pipelines.stages.check_budgets import judge_budgets, with_runner
from pipelines.stages.check_report import Rung
from pipelines.stages.check_schema import judge_schema

if TYPE_CHECKING:
    import dagger

    from pipelines.published import PublishedSource
    from pipelines.release_image import BuiltImage


Exported = Callable[[], Awaitable["BuiltImage"]]


async def not_exported() -> BuiltImage:
    """Where no image is exported. Raises CheckFailed."""
    raise CheckFailed("the image was not exported", hint="`modelport run` exports it beside the check")


@dataclass(frozen=True, slots=True)
class Judging:
    """What a rung may ask of the run."""

    model: Model
    image: dagger.Container
    published: PublishedSource
    """The version that this one is compared with; asked only by who wants to know."""
    exported: Exported
    """The image as it will be pushed; waits for its export."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What is done beside the client."""

    serve: Callable[[dagger.Container, Judging], Awaitable[dagger.Container]] | None = None
    """The container that is served, with what measures it; its own command still runs in it."""
    judge: Callable[[Rung, Judging], Awaitable[Rung]] | None = None
    """The policy on what the client told, also where the rung failed already."""


NONE: Final = Hooks()
HOOKS: Final[Mapping[str, Hooks]] = {
    "schema": Hooks(judge=judge_schema),
    "budgets": Hooks(serve=with_runner, judge=judge_budgets),
}
"""By the rung's name."""
