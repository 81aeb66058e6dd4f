"""The fault sweep and the kill campaign, at a few places each; the whole of them is run by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from registry_process import need_registry

from tests.registries import kills, sweep

pytestmark = [pytest.mark.anyio, pytest.mark.registry]


async def test_every_kind_of_fault_at_a_few_requests(tmp_path: Path) -> None:
    need_registry()
    found = await sweep.sweep(tmp_path, every=50)
    assert len(found) > 15
    assert {case.fault: outcome.wrong for case, outcome in found.items() if outcome.wrong} == {}
    assert all(outcome.again == 0 for outcome in found.values())
    struck = [case for case, outcome in found.items() if outcome.injected]
    assert len(struck) > len(found) * 0.8, "the faults struck nothing"


async def test_a_rule_that_is_broken_is_seen(tmp_path: Path) -> None:
    """The sweep would see a tag on something unfinished: here a blob vanishes after the push."""
    need_registry()
    release = sweep.release_image(tmp_path / "image", sweep.WANTED)
    async with sweep.bench(tmp_path) as on:
        run = sweep.Sweep(on, release, sweep.WANTED, tmp_path)
        await run.requests()
        assert on.not_final("sweep/1", release, sweep.WANTED) == []
        on.registries[1].blob(release.image.layers[0].digest).write_bytes(b"other")
        found = on.unfinished("sweep/1")
        assert len(found) == 2, "both of its tags"
        assert all("missing or damaged" in one and on.registries[1].host in one for one in found)


async def test_killed_and_run_again(tmp_path: Path) -> None:
    need_registry()
    plan = kills.Plan(count=6, seed=11, megabytes=6, part_size=1024 * 1024, seconds=1)
    whole, found = await kills.campaign(tmp_path, plan)
    assert [kill.outcome.wrong for kill in found if kill.outcome.wrong] == []
    killed = [kill for kill in found if kill.outcome.injected]
    assert len(killed) >= 3
    assert any(0 < kill.sent_first < whole for kill in killed), "no push was killed in its middle"
    assert all(kill.sent_again < 10_000 for kill in found if kill.phase == "tags"), (
        "sent again what was there"
    )
