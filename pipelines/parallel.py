"""Independent work at once, each to its own end: one failure does not hide what the others found."""

from __future__ import annotations

from collections.abc import Awaitable

import anyio

from pipelines.errors import PipelineError


async def together(*works: Awaitable[object]) -> None:
    """Await all ``works`` at once; after all have ended raise the first failure, in the order given.

    Raises:
        PipelineError: of the first that failed; the others' messages are its notes.
    """
    failures: dict[int, PipelineError] = {}

    async def one(place: int, work: Awaitable[object]) -> None:
        try:
            await work
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
