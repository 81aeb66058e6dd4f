"""Work at once: results, failures, and what one works out for others."""

from __future__ import annotations

import anyio
import pytest

from pipelines.errors import CheckFailed
from pipelines.parallel import Awaited, together

pytestmark = pytest.mark.anyio


async def test_what_one_works_out_others_wait_for() -> None:
    shared = Awaited[int]()
    seen: list[int] = []

    async def work() -> int:
        await anyio.sleep(0.01)
        return 7

    async def wait() -> None:
        seen.append(await shared.result())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        tasks.start_soon(wait)
        assert await shared.of(work()) == 7
    assert seen == [7, 7]


async def test_its_failure_is_that_of_all_who_wait() -> None:
    shared = Awaited[int]()

    async def work() -> int:
        raise CheckFailed("no")

    results = together(shared.of(work()), shared.result())
    with pytest.raises(CheckFailed, match="no"):
        await results
