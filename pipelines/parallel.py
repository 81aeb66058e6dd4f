"""Independent work at once, each to its own end: one failure does not hide what the others found."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Generic, TypeVar, overload

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


class Awaited(Generic[A]):
    """A result that one task works out and others wait for."""

    def __init__(self) -> None:
        self._ended = anyio.Event()
        self._results: list[A] = []
        self._failure: PipelineError | None = None

    async def of(self, work: Awaitable[A]) -> A:
        """Await ``work``; its result, or its PipelineError, is what all get."""
        try:
            self._results.append(await work)
        except PipelineError as err:
            self._failure = err
            raise
        finally:
            self._ended.set()
        return self._results[0]

    async def result(self) -> A:
        """What ``of`` gave, as soon as it did. Raises what it raised."""
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure
        return self._results[0]
