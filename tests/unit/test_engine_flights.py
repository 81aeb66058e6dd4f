"""Single flight: one run per key, shared results, failures not remembered, cancelled runs forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from embedded_engine.flights import Flights

pytestmark = pytest.mark.anyio


@pytest.fixture
async def flights() -> AsyncIterator[Flights[int]]:
    async with anyio.create_task_group() as tasks:
        yield Flights(tasks)
        tasks.cancel_scope.cancel()


async def test_three_askers_share_one_run(flights: Flights[int]) -> None:
    runs: list[int] = []
    answers: list[int] = []

    async def run() -> int:
        runs.append(1)
        await anyio.sleep(0.02)
        return 7

    async def ask() -> None:
        answers.append(await flights.join("key", run))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask)
    assert answers == [7, 7, 7]
    assert len(runs) == 1


async def test_every_waiter_gets_the_failure_and_the_next_asker_a_new_run(flights: Flights[int]) -> None:
    runs: list[int] = []

    async def run() -> int:
        runs.append(1)
        await anyio.sleep(0.01)
        if len(runs) == 1:
            raise ValueError("first run fails")
        return 2

    failures: list[str] = []

    async def ask() -> None:
        try:
            await flights.join("key", run)
        except ValueError as error:
            failures.append(str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        group.start_soon(ask)
    assert failures == ["first run fails"] * 2
    assert await flights.join("key", run) == 2


async def test_when_the_last_asker_leaves_the_run_is_cancelled_and_an_identical_one_runs_anew(
    flights: Flights[int],
) -> None:
    events: list[str] = []

    async def slow() -> int:
        events.append("begun")
        try:
            await anyio.sleep(10)
        except anyio.get_cancelled_exc_class():
            events.append("killed")
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)  # dying takes a while
            raise
        return 1

    async def quick() -> int:
        return 2

    with anyio.move_on_after(0.02):
        await flights.join("key", slow)
    assert await flights.join("key", quick) == 2  # at once, and not the dying one's error
    await anyio.sleep(0.1)
    assert events == ["begun", "killed"]


async def test_one_asker_leaving_does_not_disturb_the_others(flights: Flights[int]) -> None:
    async def run() -> int:
        await anyio.sleep(0.05)
        return 3

    async def impatient() -> None:
        with anyio.move_on_after(0.01):
            await flights.join("key", run)

    async with anyio.create_task_group() as group:
        group.start_soon(impatient)
        assert await flights.join("key", run) == 3
