"""The fan-out of a push: one delivery for each registry, and the points at which they wait for each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from pipelines.errors import PipelineError
from pipelines.image_difference import Differences
from pipelines.receipt import Delivery, Receipt
from pipelines.registries.errors import TagRefused
from pipelines.registries.port import Registry
from pipelines.stages.delivery import Cargo, Delivering, Progress
from pipelines.stages.naming import Naming

if TYPE_CHECKING:
    from pipelines.git_history import History
    from pipelines.push_journal import Journal
    from pipelines.stages.tag import Names


class Stopped(Exception):
    """The push ends here for every registry that came so far; why is another registry's error."""


class Meeting:
    """Where the deliveries wait for each other; the last to come decides for all whether they go on."""

    def __init__(self, places: int, decide: Callable[[frozenset[int]], None]) -> None:
        self._places = places
        self._decide = decide
        self._here: set[int] = set()
        self._gone: set[int] = set()
        self._over = anyio.Event()
        self._verdict: Exception | None = None

    async def meet(self, place: int) -> None:
        """Wait until every other delivery is here or gone. Raises what ``decide`` raised."""
        self._here.add(place)
        self._see()
        await self._over.wait()
        if self._verdict is not None:
            raise self._verdict

    def leave(self, place: int) -> None:
        """This delivery does not come; nothing changes where it was here already."""
        if place not in self._here:
            self._gone.add(place)
            self._see()

    def _see(self) -> None:
        if len(self._here) + len(self._gone) < self._places or self._over.is_set():
            return
        try:
            self._decide(frozenset(self._here))
        except (PipelineError, Stopped) as err:
            self._verdict = err
        self._over.set()


@dataclass(slots=True)
class FanOut:
    """One push under way: its deliveries and where they meet."""

    cargo: Cargo
    names: Names
    targets: tuple[Registry, ...]
    enough: int | None = None
    journal: Journal | None = None
    history: History | None = None
    differences: Differences = field(default_factory=Differences)
    errors: dict[int, PipelineError] = field(default_factory=dict)
    found: dict[int, Delivery] = field(default_factory=dict)
    meetings: tuple[Meeting, Meeting, Meeting] = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.targets)
        self.meetings = (
            Meeting(count, self._all_looked),
            Meeting(count, self._all_brought),
            Meeting(count, self._all_tagged),
        )

    @property
    def digest(self) -> str:
        """The release's."""
        return self.cargo.release.digest

    @property
    def asked(self) -> int:
        """How many registries have to hold the release."""
        count = len(self.targets)
        return count if self.enough is None else min(self.enough, count)

    async def run(self) -> Receipt:
        """Every delivery, to its end or its failure."""
        async with anyio.create_task_group() as tasks:
            for place, target in enumerate(self.targets):
                tasks.start_soon(self._deliver, place, target)
        deliveries = tuple(self.found[place] for place in range(len(self.targets)))
        return Receipt(self.digest, deliveries, self.enough)

    async def _deliver(self, place: int, target: Registry) -> None:
        """The push to one registry; its failure is part of the delivery."""
        began, progress = monotonic(), Progress()
        try:
            await self._steps(place, target, progress)
        except Stopped:
            pass
        except PipelineError as err:
            self.errors[place] = err
        self.found[place] = self._delivery(place, target, progress, monotonic() - began)
        for meeting in self.meetings:
            meeting.leave(place)

    async def _steps(self, place: int, target: Registry, progress: Progress) -> None:
        looked, brought, tagged = self.meetings
        sessions = self.journal.sessions(target.name) if self.journal else None
        async with target.open(sessions) as registry:
            naming = Naming(
                self.cargo.release, self.names, target, registry, progress, self.differences, self.history
            )
            await naming.look()
            await looked.meet(place)
            await self.bring(Delivering(self.cargo, target, registry, progress))
            try:
                await brought.meet(place)
                await naming.set_release_tags()
                await tagged.meet(place)
            except Stopped:
                if naming.is_released or progress.is_tagged:
                    naming.keep_moving_tags(f"fewer than {self.asked} registries have the release")
                raise
            await naming.move_tags()
            if self.journal:
                self.journal.named(self.digest, target.name)

    async def bring(self, delivering: Delivering) -> None:
        """Get everything to one registry, and see it there. Raises RegistryError."""
        name = delivering.target.name
        if self.journal is None or delivering.target.is_directory:
            await delivering.bring()
            return
        await replace(delivering, origins=self.journal.origins(name)).bring()
        self.journal.holds(name, [blob.digest for blob in self.cargo.blobs])

    def _all_looked(self, here: frozenset[int]) -> None:
        """A release tag means one image everywhere: a conflict in one registry stops all of them."""
        del here
        if any(isinstance(error, TagRefused) for error in self.errors.values()):
            raise Stopped

    def _all_brought(self, here: frozenset[int]) -> None:
        if len(here) < self.asked:
            raise Stopped
        if self.journal:
            self.journal.past_barrier(self.digest, [self.targets[place].name for place in sorted(here)])

    def _all_tagged(self, here: frozenset[int]) -> None:
        if len(here) < self.asked:
            raise Stopped

    def _delivery(self, place: int, target: Registry, progress: Progress, seconds: float) -> Delivery:
        return Delivery(
            repository=target.name,
            digest=self.digest,
            tags=tuple(progress.tags),
            uploaded=progress.uploaded,
            total=self.cargo.size,
            seconds=seconds,
            error=self.errors.get(place),
            kept=progress.kept,
            is_directory=target.is_directory,
            already=tuple(progress.already),
            doubtful=tuple(progress.doubtful),
            mounted=progress.mounted,
            resumed=progress.resumed,
            is_held=progress.is_held,
            is_named=progress.is_named,
        )
