"""A missing engine or registry is a skip on a laptop and a failure in CI."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
TESTS = """
import pytest

@pytest.mark.engine
def test_engine():
    pytest.skip("needs buildah")

@pytest.mark.registry
@pytest.mark.skipif(True, reason="needs docker-registry")
def test_registry():
    pass

@pytest.mark.shared
def test_shared():
    pytest.skip("needs ../shared")

@pytest.mark.engine
@pytest.mark.dagger
def test_dagger():
    pytest.skip("needs Dagger's engine")

@pytest.mark.engine
@pytest.mark.xfail(reason="known", strict=True)
def test_expected():
    raise AssertionError
"""


@pytest.fixture
def outcomes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> object:
    def run(ci: str) -> tuple[dict[str, int], str]:
        if ci:
            monkeypatch.setenv("CI", ci)
        else:
            monkeypatch.delenv("CI", raising=False)
        pytester.makeconftest(CONFTEST.read_text())
        pytester.makepyfile(TESTS)
        pytester.makeini("[pytest]\nmarkers =\n  engine: x\n  registry: x\n  shared: x\n  dagger: x\n")
        result = pytester.runpytest_inprocess("-ra", "-p", "no:cacheprovider")
        return result.parseoutcomes(), result.stdout.str()

    return run


def test_a_laptop_skips(outcomes) -> None:  # type: ignore[no-untyped-def]
    assert outcomes("")[0] == {"skipped": 4, "xfailed": 1}


def test_ci_fails_for_what_it_has_to_have(outcomes) -> None:  # type: ignore[no-untyped-def]
    counts, output = outcomes("true")
    assert counts == {"failed": 1, "errors": 1, "skipped": 2, "xfailed": 1}
    assert "needs docker-registry; tests marked registry may not be skipped in CI" in output
