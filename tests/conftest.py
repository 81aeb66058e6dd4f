"""What every test shares: the async backend, and that CI skips nothing that it has to have."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

MAY_NOT_SKIP_IN_CI = ("engine", "registry")
MAY_SKIP_ANYWHERE = ("dagger", "shared")
"""Whatever else such a test needs: Dagger's engine and the shared data are not everywhere."""


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
    if any(item.get_closest_marker(mark) for mark in MAY_SKIP_ANYWHERE):
        return report
    if report.skipped and needs and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{reason}; tests marked {', '.join(needs)} may not be skipped in CI"
    return report


@pytest.fixture(scope="session", autouse=True)
def storage_unmounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """containers-storage mounts its directory onto itself; pytest could not delete it later."""
    yield
    base = f"{tmp_path_factory.getbasetemp().resolve()}/"
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted((one for one in points if one.startswith(base)), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False, timeout=30)
