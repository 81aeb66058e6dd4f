"""What is under way, for who waits: a line that renews itself on a terminal, a sign of life in a CI log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TextIO

import anyio

from pipelines.record import Run, Stage

TERMINAL_EVERY_S = 0.5
LOG_EVERY_S = 60.0
"""Well below the ten minutes of silence after which CI systems end a job."""
CLEAR = "\r\x1b[K"


async def show(runs: Sequence[Run], out: TextIO) -> None:
    """Until cancelled: which stages run and for how long, twice a second on a terminal, else each minute."""
    terminal = out.isatty()
    while True:
        await anyio.sleep(TERMINAL_EVERY_S if terminal else LOG_EVERY_S)
        if text := under_way(runs, datetime.now(UTC)):
            out.write(f"{CLEAR}{text[:100]}" if terminal else f"{text}\n")
            out.flush()


def under_way(runs: Sequence[Run], now: datetime) -> str:
    """``  running: check 12 s, scan 12 s``, with the models' names where there are several; or ""."""
    parts = [
        f"{f'{run.model} ' * (len(runs) > 1)}{stage.name} {(now - stage.started).total_seconds():.0f} s"
        for run in runs
        for stage in running(run)
    ]
    return f"  running: {', '.join(parts)}" if parts else ""


def running(run: Run) -> list[Stage]:
    """The stages of ``run`` that have not ended."""
    return [stage for stage in run.stages if stage.status == "running"]
