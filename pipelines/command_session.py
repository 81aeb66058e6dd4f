"""The engine of a command that takes one model after the other: ``modelport check``, ``modelport scan``."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pipelines import engine_session, engines
from pipelines.console import Console


@asynccontextmanager
async def command_session(
    name: str, choice: engines.Choice, state: Path, root: Path, *, debug: bool = False
) -> AsyncIterator[Path]:
    """The engine for the length of the block; the file that it writes its operations to.

    With ``debug`` its log is told at the end.
    """
    directory = state / "sessions" / f"{name}-{secrets.token_hex(6)}"
    directory.mkdir(parents=True)
    log, events = directory / "engine.log", directory / "events.jsonl"
    try:
        async with engine_session.connected(choice, root, log, events):
            yield events
    finally:
        if debug and log.exists():
            for line in log.read_text(errors="replace").splitlines():
                Console().line(f"  | {line}")
