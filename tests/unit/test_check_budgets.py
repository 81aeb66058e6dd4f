"""The rung "budgets" judged: the image's size, the published version, and what could not be looked at."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.config import Check, Model
from pipelines.errors import CheckFailed
from pipelines.published import CouldNotTell
from pipelines.stages.check_budgets import judge_budgets
from pipelines.stages.check_report import Rung
from pipelines.stages.check_rungs import Judging

pytestmark = pytest.mark.anyio

NOTHING: Any = None


def published_with(figures: dict[str, str], size: int = 100_000_000) -> Any:
    facts = {"budgets": {"figures": figures}}
    return SimpleNamespace(size=size, facts=lambda gate: facts if gate == "check" else {})


def judging(published: Any = None, size: int | None = 100_000_000, **budgets: Any) -> Judging:
    async def ask() -> Any:
        if isinstance(published, Exception):
            raise published
        return published

    async def exported() -> Any:
        if size is None:
            raise CheckFailed("the image was not exported")
        return SimpleNamespace(size=size)

    directory = Path("/m")
    check = Check.model_validate({"budgets": budgets})
    model = Model(name="m", directory=directory, file=directory / "modelport.yaml", check=check)
    return Judging(model, NOTHING, ask, exported)


def measured(**figures: float) -> Rung:
    return Rung("budgets", ok=True, detail="", facts={"figures": figures, "not_measured": {}, "failures": []})


async def test_the_image_is_weighed_as_it_is_pushed() -> None:
    rung = await judge_budgets(measured(), judging(size=76_100_000, image_mb=76))
    assert not rung.ok and rung.detail == "image 76.1 MB is above its limit of 76"
    rung = await judge_budgets(measured(), judging(published_with({}), image_mb=200))
    assert rung.ok and rung.detail == "image 100 MB (≤ 200; published 100)"
    assert rung.facts["recorded"] == {"image_mb": "100"}


async def test_where_no_image_is_exported_its_size_is_told_as_unknown() -> None:
    rung = await judge_budgets(measured(), judging(size=None, image_mb=1))
    assert rung.ok and "not exported" in rung.detail


async def test_a_trend_against_the_published_image() -> None:
    worse = {"image_mb": "10%"}
    rung = await judge_budgets(
        measured(), judging(published_with({}, 80_000_000), worse_than_published=worse)
    )
    assert not rung.ok
    assert rung.detail == "image 100 MB is above the published version's 80 by more than 10 %"


async def test_a_registry_that_does_not_answer_is_no_trend() -> None:
    silent = CouldNotTell("connection refused")
    rung = await judge_budgets(measured(), judging(silent, worse_than_published={"image_mb": 10}))
    assert not rung.ok and "connection refused" in rung.detail
    rung = await judge_budgets(measured(), judging(silent, image_mb=200))
    assert rung.ok and "connection refused" in rung.detail
