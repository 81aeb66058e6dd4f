"""Work that ends well when it is interrupted: by Ctrl-C, or by the SIGTERM of a CI system."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from pipelines.errors import Interrupted, PipelineError

T = TypeVar("T")


def await_(work: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """Run ``work`` to its end on asyncio. Raises Interrupted on Ctrl-C: Typer would swallow it."""
    try:
        return anyio.run(until_stopped, work, *arguments)
    except BaseException as err:
        if isinstance(innermost(err), KeyboardInterrupt):
            raise interrupted() from err
        raise


async def until_stopped(work: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """Await ``work``; SIGTERM, by which CI systems stop a job, ends it as Ctrl-C does.

    SIGINT can't be relied on for that: a job that a shell started in the background ignores it.
    """
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:

            async def stop() -> None:
                async for _ in signals:
                    raise interrupted()

            tasks.start_soon(stop)
            result = await work(*arguments)
            tasks.cancel_scope.cancel()
    return result


def interrupted() -> Interrupted:
    """The error of an interrupted command."""
    return Interrupted(
        "interrupted", hint="run again: what is built and sent is kept, and begun names are finished"
    )


def innermost(err: BaseException) -> BaseException:
    """The error inside groups of one; of several, Ctrl-C first, then the first of ours."""
    while isinstance(err, BaseExceptionGroup):
        inner = [innermost(one) for one in err.exceptions]
        interrupts = [one for one in inner if isinstance(one, KeyboardInterrupt)]
        ours = [one for one in inner if isinstance(one, PipelineError)]
        err = (interrupts or ours or inner)[0]
    return err
