"""Skopeo waits for ever for a registry that says nothing: here it is watched, and given up on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio

from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.runtime.process import Finished, Hooks, Runner


async def run_watched(runner: Runner, argv: Sequence[str], host: str, patience_s: float) -> Finished:
    """Run a transfer from ``host``; one that reads and writes nothing for ``patience_s`` is ended.

    Raises RuntimeFailure then, else what ``Runner.run`` raises.
    """
    finished: Finished | None = None
    failure: Exception | None = None
    stalled = False

    async def watch(pid: int) -> None:
        nonlocal stalled
        moved, since = transferred(pid), anyio.current_time()
        while True:
            await anyio.sleep(min(1.0, patience_s / 4))
            now = transferred(pid)
            if now != moved:
                moved, since = now, anyio.current_time()
            elif anyio.current_time() - since > patience_s:
                stalled = True
                group.cancel_scope.cancel()
                return

    async def gate(pid: int) -> None:
        group.start_soon(watch, pid)

    async with anyio.create_task_group() as group:
        try:
            finished = await runner.run(argv, hooks=Hooks(gate=gate))
        except RuntimeFailure as error:
            failure = error  # raised outside, so that no group is around it
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if stalled or finished is None:
        raise RuntimeFailure(
            f"{host}: the registry has sent nothing for {patience_s:.0f} s, given up "
            "(EMBEDDED_ENGINE_REGISTRY_TIMEOUT sets the seconds)"
        )
    return finished


def transferred(pid: int) -> int:
    """The bytes a process has read and written so far; -1 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/io").read_text()
    except OSError:
        return -1
    numbers = dict(line.split(": ") for line in text.splitlines())
    return int(numbers["rchar"]) + int(numbers["wchar"])
