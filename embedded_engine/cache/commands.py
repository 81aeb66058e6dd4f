"""``embedded-engine cache export|import``: by hand what a session does by environment variable."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from embedded_engine.cache.exporting import Exporter
from embedded_engine.cache.importing import SNAPSHOT, import_rows
from embedded_engine.cache.reading import open_place
from embedded_engine.operations import Outcome
from embedded_engine.runtime.open import ContainerRuntime, open_runtime
from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.state import StartFailed, state_directory
from embedded_engine.store import Store
from embedded_engine.trees import Trees


@dataclass(frozen=True, slots=True)
class Opened:
    """The state directory's parts, without a session."""

    store: Store
    runtime: ContainerRuntime
    trees: Trees

    def exists(self, outcome: Outcome) -> bool:
        """Whether an outcome's content is here or could be had."""
        snapshot = outcome.snapshot
        trees = [tree for _, tree in outcome.mounts] + ([outcome.tree] if outcome.tree else [])
        present = not snapshot or snapshot in self.runtime.present() or self._promised(snapshot)
        return present and all(self.trees.has(tree) for tree in trees)

    def _promised(self, snapshot: str) -> bool:
        return self.store.promise(SNAPSHOT, snapshot) is not None


@asynccontextmanager
async def opened() -> AsyncIterator[Opened]:
    """The state directory, in use while the body runs."""
    state = state_directory()
    store = Store.open(state / "engine.sqlite")
    runtime = open_runtime(state, store)
    trees = Trees(state / "trees")
    try:
        yield Opened(store, runtime, trees)
    finally:
        with anyio.CancelScope(shield=True):
            await runtime.close()
            trees.close()
            store.close()


def export(destination: str) -> int:
    """Give everything that is stored here to ``destination``. Raises StartFailed."""

    async def run() -> None:
        begin = time.monotonic()
        async with opened() as here:
            place = open_place(destination, here.runtime.runner)
            try:
                exporter = Exporter(here.store, here.runtime, here.trees, place)
                given = await exporter.run(list(here.store.rows()))
            finally:
                await place.close()
        _say(f"{destination}: {given} ({time.monotonic() - begin:.1f} s)")

    return _ran(run)


def take(source: str) -> int:
    """Take in what ``source`` knows. Raises StartFailed."""

    async def run() -> None:
        begin = time.monotonic()
        async with opened() as here:
            place = open_place(source, here.runtime.runner)
            try:
                brought = await import_rows(place, here.store, here.exists, here.runtime.state.temp)
            finally:
                await place.close()
        _say(f"{source}: {brought} ({time.monotonic() - begin:.1f} s)")

    return _ran(run)


def _ran(run: object) -> int:
    try:
        anyio.run(run)  # type: ignore[arg-type]  # a coroutine function without arguments
    except RuntimeFailure as failure:
        raise StartFailed(str(failure)) from failure
    except OSError as error:
        raise StartFailed(f"{error.filename or 'the state directory'}: {error.strerror}") from error
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201  # stderr is talk
