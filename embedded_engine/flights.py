"""Single flight: many askers of one digest share one run; when the last one leaves, the run is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Flight(Generic[T]):
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    landed: anyio.Event = field(default_factory=anyio.Event)
    waiting: int = 0
    result: list[T] = field(default_factory=list)  # one item when there is a result
    error: BaseException | None = None


@dataclass(slots=True)
class Flights(Generic[T]):
    """The runs under way, by key. Runs live in ``tasks``, not in the request that began them."""

    tasks: TaskGroup
    under_way: dict[str, _Flight[T]] = field(default_factory=dict)

    async def join(self, key: str, run: Callable[[], Awaitable[T]]) -> T:
        """The result of the run for ``key``, begun now if there is none. Raises what the run raises.

        A run that nobody waits for any more is forgotten at once and cancelled, so that the next asker begins
        a new one and never gets the dying one's error.
        """
        flight = self.under_way.get(key)
        if flight is None:
            flight = self.under_way[key] = _Flight()
            self.tasks.start_soon(self._fly, key, flight, run)
        flight.waiting += 1
        try:
            await flight.landed.wait()
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.landed.is_set():
                self._forget(key, flight)
                flight.scope.cancel()
        if flight.error is not None:
            raise flight.error
        return flight.result[0]

    async def _fly(self, key: str, flight: _Flight[T], run: Callable[[], Awaitable[T]]) -> None:
        with flight.scope:
            try:
                flight.result.append(await run())
            except Exception as error:  # handed to every waiter, not swallowed
                flight.error = error
        if not flight.result and flight.error is None:
            flight.error = RunCancelled("the operation was cancelled")
        self._forget(key, flight)
        flight.landed.set()

    def _forget(self, key: str, flight: _Flight[T]) -> None:
        if self.under_way.get(key) is flight:
            del self.under_way[key]


class RunCancelled(Exception):
    """The session ended while an operation ran."""
