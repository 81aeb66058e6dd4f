"""Sessions that begin at once on one state: one tries the machine, the others take its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from runtime_tools import Facts

from embedded_engine.runtime.buildah import Isolation
from embedded_engine.runtime.enclosure import Enclosures
from embedded_engine.runtime.machine import machine_key
from embedded_engine.runtime.probe import FACT, Probe
from embedded_engine.runtime.state import State, open_state

pytestmark = pytest.mark.anyio
NOTHING = cast(Any, None)  # the tools are not reached


class SlowProbe(Probe):
    """Tries nothing real, for a while."""

    async def _tried(self) -> Isolation:
        tries.append(self)
        await anyio.sleep(0.2)
        storage = [self.state.driver, self.state.mount_program]
        found = {"kind": "oci", "network": "host", "runtime": "runc", "own_proc": True}
        self.facts.remember(
            FACT, machine_key(), cast(Any, {**found, "driver": storage, "copy_s": 0, "attempts": []})
        )
        return Isolation("oci", "host", "runc")


tries: list[SlowProbe] = []


def probe(state: State, facts: Facts) -> SlowProbe:
    return SlowProbe(state, NOTHING, NOTHING, Enclosures.__new__(Enclosures), facts, lambda *_: None)


async def test_only_one_of_two_sessions_tries_the_machine(tmp_path: Path) -> None:
    tries.clear()
    state, facts = open_state(tmp_path / "state", {"XDG_RUNTIME_DIR": str(tmp_path)}), Facts()
    found: list[Isolation] = []

    async def begin() -> None:
        found.append(await probe(state, facts).isolation())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(begin)
        tasks.start_soon(begin)
    assert len(tries) == 1
    assert found == [Isolation("oci", "host", "runc")] * 2


async def test_trying_anew_is_not_answered_from_memory(tmp_path: Path) -> None:
    tries.clear()
    state, facts = open_state(tmp_path / "state", {"XDG_RUNTIME_DIR": str(tmp_path)}), Facts()
    for _ in range(2):
        await probe(state, facts).find()
    assert len(tries) == 2
