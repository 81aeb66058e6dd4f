"""Each module's cases run once per engine, in one session; its tests look at the answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .answers import answers_of
from .case import Answer, Case, Theme
from .sessions import Engine, home, missing
from .site import Home

ENGINES = ["embedded", pytest.param("dagger", marks=pytest.mark.dagger)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        cases: list[Case] = metafunc.module.THEME.cases
        metafunc.parametrize("case", cases, ids=[case.name for case in cases])


@pytest.fixture(scope="session")
def conformance_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    lacking = missing("embedded")
    if lacking:
        pytest.skip(f"needs {lacking}")
    with home(tmp_path_factory.mktemp("conformance")) as made:
        yield made


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.param
    lacking = missing(chosen)
    if lacking:
        pytest.skip(f"needs {lacking}")
    return chosen


@pytest.fixture(scope="module")
def answers(request: pytest.FixtureRequest, engine: Engine, conformance_home: Home) -> dict[str, Answer]:
    theme: Theme = request.module.THEME
    return answers_of(theme, engine, conformance_home)
