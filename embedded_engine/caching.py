"""Where a session meets the caches that travel: rows come while it begins, results go when it ends.

Neither holds the session up: the first answers do not wait for an import, only an operation that would
otherwise run does; an export is bounded in time; and a cache that fails costs a line of the progress.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from embedded_engine.runtime.open import ContainerRuntime

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from embedded_engine.evaluator import Evaluator

FROM, TO = "EMBEDDED_ENGINE_CACHE_FROM", "EMBEDDED_ENGINE_CACHE_TO"


class Attached(Protocol):
    """What a session holds of its caches."""

    async def close(self) -> None:
        """Export what the session used, if that was asked for, and give connections back."""
        ...


async def tidied(state: Path, kept: int, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Free what is beyond the bound, if this session added anything (``kept`` operations). Never raises."""
    if not kept:
        return
    from embedded_engine.cache.manage import collect_if_large  # noqa: PLC0415  # as below

    await collect_if_large(state, environ, say)


def attached(tasks: TaskGroup, evaluator: Evaluator, environ: Mapping[str, str]) -> Attached | None:
    """The session's caches at work; None (and nothing loaded) where there are none."""
    runtime = evaluator.runtime
    if not isinstance(runtime, ContainerRuntime):
        return None
    if not (environ.get(FROM) or environ.get(TO) or evaluator.store.any_promises()):
        return None
    from embedded_engine.cache.session import SessionCache  # noqa: PLC0415  # costs time at the start

    cache = SessionCache.of(runtime, evaluator, environ)
    cache.begin(tasks)
    return cache
