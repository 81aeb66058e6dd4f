"""The caches of one session: ``EMBEDDED_ENGINE_CACHE_FROM`` and ``_TO``, each one or more addresses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from embedded_engine.cache.exporting import Exporter, related
from embedded_engine.cache.importing import import_rows
from embedded_engine.cache.promises import Promises
from embedded_engine.cache.reading import open_place
from embedded_engine.caching import FROM, TO
from embedded_engine.evaluator import Evaluator
from embedded_engine.runtime.open import ContainerRuntime
from embedded_engine.runtime.port import RuntimeFailure

LIMIT = "EMBEDDED_ENGINE_CACHE_TIMEOUT"
EXPORT_S = 240.0
"""Less than the 300 s that Dagger's SDKs wait for a session to end."""
IMPORT_S = 30.0


@dataclass(slots=True)
class SessionCache:
    """Imports in the background, keeps promises, exports at the end. Failures are told, never raised."""

    runtime: ContainerRuntime
    evaluator: Evaluator
    promises: Promises
    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    export_s: float = EXPORT_S
    arriving: anyio.Event | None = None
    failed: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, runtime: ContainerRuntime, evaluator: Evaluator, environ: Mapping[str, str]) -> SessionCache:
        """With what the environment asks for; the runtime and the trees ask it for what they lack."""
        promises = Promises(evaluator.store, runtime, evaluator.trees, evaluator.events.note)
        cache = cls(
            runtime,
            evaluator,
            promises,
            tuple(environ.get(FROM, "").split()),
            tuple(environ.get(TO, "").split()),
            _seconds(environ.get(LIMIT, "")),
        )
        runtime.elsewhere = promises
        evaluator.trees.elsewhere = promises
        evaluator.elsewhere = cache
        return cache

    def begin(self, tasks: TaskGroup) -> None:
        """Start the import, if there is something to import."""
        if self.sources:
            self.arriving = anyio.Event()
            tasks.start_soon(self._import, self.arriving)

    def has(self, kind: str, identity: str) -> bool:
        """See evaluator.OtherCaches."""
        return self.promises.has(kind, identity)

    async def arrived(self) -> bool:
        """See evaluator.OtherCaches."""
        event = self.arriving
        if event is None:
            return False
        with anyio.move_on_after(IMPORT_S) as waiting:
            await event.wait()
        if waiting.cancelled_caught and self.arriving is not None:
            self.arriving = None
            self._say(f"cache: not there after {IMPORT_S:.0f} s, so nothing waits for it any more")
        return True

    async def close(self) -> None:
        """See caching.Attached."""
        for address in self.targets:
            await self._export(address)
        await self.promises.close()

    def _say(self, text: str) -> None:
        self.evaluator.events.note(text)

    async def _import(self, done: anyio.Event) -> None:
        exists = self.evaluator._exists  # the one rule of what is believed
        for address in self.sources:
            begin = time.monotonic()
            try:
                place = open_place(address, self.runtime.runner)
                try:
                    brought = await import_rows(place, self.evaluator.store, exists, self.runtime.state.temp)
                finally:
                    await place.close()
                self._say(f"cache from {address}: {brought} ({time.monotonic() - begin:.1f} s)")
            except (RuntimeFailure, OSError) as error:
                self._say(f"cache from {address}: {error}; the run goes on without it")
        self.arriving = None
        done.set()

    async def _export(self, address: str) -> None:
        begin = time.monotonic()
        store, runtime, trees = self.evaluator.store, self.runtime, self.evaluator.trees
        try:
            with anyio.fail_after(self.export_s):
                place = open_place(address, runtime.runner)
                try:
                    rows = related(store, runtime, store.used)
                    # most of the time is for the layers, the rest for sending and the index
                    exporter = Exporter(store, runtime, trees, place, begin + 0.7 * self.export_s)
                    given = await exporter.run(rows)
                finally:
                    with anyio.CancelScope(shield=True):
                        await place.close()
            self._say(f"cache to {address}: {given} ({time.monotonic() - begin:.1f} s)")
        except TimeoutError:
            self._say(
                f"cache to {address}: not done in {self.export_s:.0f} s ({LIMIT}); the next run goes on"
            )
        except (RuntimeFailure, OSError) as error:
            self._say(f"cache to {address}: {error}; the build is not affected")


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else EXPORT_S
