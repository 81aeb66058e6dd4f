"""Lazy evaluation: each operation runs at most once at a time, and not at all if its outcome is stored."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from embedded_engine.events import Events
from embedded_engine.flights import Flights
from embedded_engine.lost import ContentLost
from embedded_engine.operations import Operation, Outcome
from embedded_engine.runtime.port import Runtime, RuntimeFailure, Snapshot
from embedded_engine.runtime.process_names import owner_name
from embedded_engine.secrets import Secrets
from embedded_engine.services import Services
from embedded_engine.store import Store
from embedded_engine.trees import Trees
from embedded_engine.volumes import Volumes

T = TypeVar("T")


class OtherCaches(Protocol):
    """What is known of content that is not here (cache/promises.py)."""

    def has(self, kind: str, identity: str) -> bool:
        """Whether a snapshot or tree could be had."""
        ...

    async def arrived(self) -> bool:
        """Wait (bounded) for rows that are on their way; False if there were none to wait for."""
        ...


@dataclass(slots=True)
class Evaluator:
    """Answers operations from memory, from the store, from a run under way, or by running them.

    It is the ``Work`` that operations get. ``close`` belongs to the session.
    """

    store: Store
    runtime: Runtime
    trees: Trees
    secrets: Secrets
    services: Services
    volumes: Volumes
    events: Events
    state: Path
    flights: Flights[Outcome]
    slots: anyio.CapacityLimiter
    known: dict[str, Outcome] = field(default_factory=dict)
    snapshots: frozenset[Snapshot] | None = None
    elsewhere: OtherCaches | None = None

    @classmethod
    def in_session(cls, tasks: TaskGroup, state: Path, **parts: object) -> Evaluator:
        """An evaluator whose runs live in ``tasks``."""
        slots = anyio.CapacityLimiter(max(8, 2 * (os.cpu_count() or 2)))  # many only wait
        return cls(state=state, flights=Flights(tasks), slots=slots, **parts)  # type: ignore[arg-type]  # named parts

    async def result(self, operation: Operation) -> Outcome:
        """The outcome of ``operation``. Raises what its run raises; failures are not remembered."""
        outcome = self.known.get(operation.digest)
        if outcome is not None:
            return outcome
        if not operation.keep:
            return await self.recovering(lambda: operation.run(self))
        outcome = self.store.find(operation.digest, self._exists)
        if outcome is None and self.elsewhere is not None and await self.elsewhere.arrived():
            outcome = self.known.get(operation.digest) or self.store.find(operation.digest, self._exists)
        if outcome is None:
            return await self.flights.join(operation.digest, lambda: self._run(operation))
        self.known[operation.digest] = outcome
        self.events.cached(operation, outcome.data, self.store.took(operation.digest))
        return outcome

    async def _run(self, operation: Operation) -> Outcome:
        running = self.events.expected(operation)
        try:
            outcome = await self.recovering(lambda: operation.run(self))
        except Exception as error:
            self.events.failed(operation, running, error)
            raise
        except BaseException:
            self.events.dropped(running)
            raise
        seconds = running.so_far()  # without what it waited for
        self.store.keep(operation, self.events.shown(operation), outcome, seconds)
        self.known[operation.digest] = outcome
        self.events.done(operation, running, seconds, outcome.data)
        return outcome

    def working(self) -> None:
        """See Work."""
        self.events.working()

    def watch(self) -> Callable[[int, bytes], None] | None:
        """See Work."""
        return self.events.watch()

    async def recovering(self, call: Callable[[], Awaitable[T]]) -> T:
        """What ``call`` gives. What it finds lost is forgotten, so that it is made again, and tried again."""
        lost: set[str] = set()
        while True:
            try:
                return await call()
            except ContentLost as error:
                if error.identity in lost:
                    raise RuntimeFailure(str(error)) from error
                lost.add(error.identity)
                self._forget(error.identity)

    def _forget(self, identity: str) -> None:
        self.snapshots = None
        for digest, outcome in list(self.known.items()):
            if identity in (outcome.snapshot, outcome.tree, *(tree for _, tree in outcome.mounts)):
                del self.known[digest]

    def _exists(self, outcome: Outcome) -> bool:
        trees = [tree for _, tree in outcome.mounts]
        if outcome.tree is not None:
            trees.append(outcome.tree)
        return self._has_snapshot(outcome.snapshot) and all(self.trees.has(tree) for tree in trees)

    def _has_snapshot(self, snapshot: Snapshot | None) -> bool:
        if not snapshot:
            return True
        if self.snapshots is not None and snapshot in self.snapshots:
            return True
        if self.elsewhere is not None and self.elsewhere.has("snapshot", snapshot):
            return True
        self.snapshots = self.runtime.present()  # another session may have made it since
        return snapshot in self.snapshots

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """A place to do real work in."""
        async with _borrowed(self.slots):
            self.working()
            yield

    @contextlib.asynccontextmanager
    async def view(self, source: Operation | None) -> AsyncIterator[Path]:
        """A read-only host path of the root of what ``source`` gives."""
        async with contextlib.AsyncExitStack() as stack:
            yield await self.recovering(lambda: self._seen(stack, source))

    async def _seen(self, stack: contextlib.AsyncExitStack, source: Operation | None) -> Path:
        outcome = Outcome() if source is None else await self.result(source)
        if outcome.tree is not None:
            tree = outcome.tree
            return await anyio.to_thread.run_sync(lambda: self.trees.path(tree))
        if outcome.snapshot:
            return await stack.enter_async_context(self.runtime.mounted(outcome.snapshot))
        return await stack.enter_async_context(self.scratch())

    @contextlib.asynccontextmanager
    async def scratch(self) -> AsyncIterator[Path]:
        """A private directory, removed afterwards."""
        parent = self.state / "tmp"
        parent.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=f"{owner_name()}-", dir=parent))  # swept if we die
        try:
            yield directory
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lambda: shutil.rmtree(directory, ignore_errors=True))


@contextlib.asynccontextmanager
async def _borrowed(slots: anyio.CapacityLimiter) -> AsyncIterator[None]:
    borrower = object()  # one task may hold two slots (a service started inside an exec)
    await slots.acquire_on_behalf_of(borrower)
    try:
        yield
    finally:
        slots.release_on_behalf_of(borrower)


async def gathered(calls: list[Callable[[], Awaitable[T]]]) -> list[T]:
    """The results of ``calls``, run side by side; the first failure cancels the rest and is raised bare."""
    results: dict[int, T] = {}

    async def one(index: int, call: Callable[[], Awaitable[T]]) -> None:
        results[index] = await call()

    try:
        async with anyio.create_task_group() as group:
            for index, call in enumerate(calls):
                group.start_soon(one, index, call)
    except BaseExceptionGroup as errors:
        raise first_error(errors) from None
    return [results[index] for index in range(len(calls))]


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first plain exception of a (nested) group."""
    first = errors.exceptions[0]
    return first_error(first) if isinstance(first, BaseExceptionGroup) else first
