"""``modelport doctor``: what this machine can run, tried and not guessed."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import version

import anyio

from pipelines import engines
from pipelines.errors import EngineUnavailable

PROBE_TIMEOUT_S = 120.0


async def doctor(environ: Mapping[str, str]) -> str:
    """The findings, a line each."""
    lines = [
        f"modelport {version('modelport')}, dagger-io {version('dagger-io')}, "
        f"Python {platform.python_version()}",
        f"git: {shutil.which('git') or 'missing: apt-get install git'}",
        f"engine chosen by auto: {await _chosen(engines.Engine.AUTO, environ)}",
        f"Dagger's engine: {await _chosen(engines.Engine.DAGGER, environ)}",
        "embedded engine:",
        *(f"  {line}" for line in (await _embedded()).splitlines()),
    ]
    return "\n".join(lines)


async def _chosen(wish: engines.Engine, environ: Mapping[str, str]) -> str:
    try:
        return str(await engines.choose(wish, environ))
    except EngineUnavailable as err:
        return f"no: {err} ({err.hint})"


async def _embedded() -> str:
    """What the embedded engine says of itself: it runs `true` in a container each way it knows."""
    try:
        with anyio.fail_after(PROBE_TIMEOUT_S):
            done = await anyio.run_process([sys.executable, "-m", "embedded_engine", "doctor"], check=False)
    except TimeoutError:
        return f"its probe did not end within {PROBE_TIMEOUT_S:.0f} s"
    return (done.stdout or done.stderr).decode(errors="replace").rstrip()
