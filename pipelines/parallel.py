"""Independent work at once, each to its own end: one failure does not hide what the others found."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar, overload

import anyio

from pipelines.errors import PipelineError

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


@overload
async def together(one: Awaitable[A], two: Awaitable[B], /) -> tuple[A, B]: ...


@overload
async def together(
    one: Awaitable[A], two: Awaitable[B], three: Awaitable[C], four: Awaitable[D], /
) -> tuple[A, B, C, D]: ...


async def together(*works: Awaitable[object]) -> tuple[object, ...]:
    """Await all ``works`` at once; their results. After all have ended raise the first failure, in order.

    Raises:
        PipelineError: of the first that failed; the others' messages are its notes.
    """
    results: dict[int, object] = {}
    failures: dict[int, PipelineError] = {}

    async def one(place: int, work: Awaitable[object]) -> None:
        try:
            results[place] = await work
        except PipelineError as err:
            failures[place] = err

    async with anyio.create_task_group() as tasks:
        for place, work in enumerate(works):
            tasks.start_soon(one, place, work)
    if failures:
        first, *others = (failures[place] for place in sorted(failures))
        for other in others:
            first.add_note(str(other))
        raise first
    return tuple(results[place] for place in range(len(works)))
