"""What every test shares: the async backend, and that CI skips nothing that it has to have."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

MAY_NOT_SKIP_IN_CI = ("engine", "registry")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A laptop without containers or a registry skips those tests aloud; in CI that is a failure."""
    report = yield
    needs = [mark for mark in MAY_NOT_SKIP_IN_CI if item.get_closest_marker(mark)]
    if report.skipped and needs and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{reason}; tests marked {', '.join(needs)} may not be skipped in CI"
    return report
