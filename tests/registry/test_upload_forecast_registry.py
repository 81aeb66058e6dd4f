"""A real registry is asked before a push, by the plan and by the preflight: what they say is what happens."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pytest
from planned_pushes import OTHER, attested, build, plan_for, pushed, release_of
from registry_process import RegistryProcess, registry, running_registry

from pipelines.errors import PushFailed
from pipelines.preflight import preflight
from pipelines.upload_forecast import forecast

__all__ = ["registry"]
pytestmark = [pytest.mark.anyio, pytest.mark.registry]


async def test_what_is_foretold_is_sent_and_mounted(registry: RegistryProcess, tmp_path: Path) -> None:
    first = plan_for(tmp_path, f"{registry.host}/models", name="first")
    base = "base" * 100_000
    await pushed(first, release_of(first, build(first, base, "one")))

    plan = plan_for(tmp_path, f"{registry.host}/models", f"{registry.host}/copies")
    release = release_of(plan, build(plan, base, "two"))
    statements = attested(plan, release, "checked", "scanned")
    found = await forecast(plan, {})
    receipt = await pushed(plan, release, statements)
    shared = release.image.layers[0].size
    for told, delivery in zip(found.registries, receipt.deliveries, strict=True):
        assert told.upload_bytes == delivery.uploaded
        assert told.mountable_bytes == delivery.mounted == shared
        assert told.total == delivery.total
    assert {"8f3c2a1b9d04", "latest"} <= set(registry.tags("models/langid"))

    again = await forecast(plan, {})
    assert [one.upload_bytes for one in again.registries] == [0, 0]
    receipt = await pushed(plan, release, statements)
    assert [one.uploaded for one in receipt.deliveries] == [0, 0]


async def test_a_preflight_leaves_nothing_and_costs_little(registry: RegistryProcess, tmp_path: Path) -> None:
    with running_registry(tmp_path / "second") as second:
        plan = plan_for(tmp_path, f"{registry.host}/models", f"{second.host}/models")
        await preflight(plan, {})
        times = []
        for _ in range(5):
            began = perf_counter()
            report = await preflight(plan, {})
            times.append(perf_counter() - began)
        assert report.summary().startswith("2 registries ready · tag 8f3c2a1b9d04 free")
        assert min(times) <= 0.15, times
        for one in (registry, second):
            # (docker-registry keeps an empty directory for each upload that was ended)
            assert [
                *one.directory.rglob("_uploads/*/data"),
                *one.directory.rglob("_uploads/*/startedat"),
            ] == []
            assert one.tags("models/langid") == []


async def test_a_taken_tag_is_found_before_the_build(registry: RegistryProcess, tmp_path: Path) -> None:
    plan = plan_for(tmp_path, f"{registry.host}/models")
    other = plan_for(tmp_path, f"{registry.host}/models", commit=OTHER)
    release = release_of(other, build(other, commit=OTHER))
    await pushed(other, release)
    assert (await preflight(other, {})).summary().startswith("1 registry ready · already released")
    [target] = plan.targets
    async with target.open() as opened:
        await opened.tag("8f3c2a1b9d04", release.manifest)
    with pytest.raises(PushFailed, match=r"is taken by .* of commit 0f0f0f0f0f0f"):
        await preflight(plan, {})
