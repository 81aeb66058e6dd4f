"""Finish what an earlier push left in the middle: a release that enough registries hold, and not all name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.push_journal import Journal
from pipelines.registries.descriptors import short
from pipelines.registries.errors import NotFound, RegistryError, RepositoryMissing, TagRefused
from pipelines.registries.layout import ImageLayout
from pipelines.registries.port import Registry
from pipelines.stages.delivery import Cargo
from pipelines.stages.fan_out import FanOut
from pipelines.under_way import UnderWay

if TYPE_CHECKING:
    from pipelines.git_history import History
    from pipelines.receipt import Delivery
    from pipelines.release_image import ReleaseImage

_FOR_GOOD = (TagRefused, NotFound, RepositoryMissing)
"""Errors that another try does not mend."""


async def finish_interrupted(
    journal: Journal,
    layout: ImageLayout,
    targets: Sequence[Registry],
    *,
    going_on: str = "",
    history: History | None = None,
) -> tuple[str, ...]:
    """Set the names of earlier releases whose naming had begun, where they are missing; what is to be told.

    The release ``going_on`` is left out: its push does all of that itself. Release tags follow the rule of
    every push, and moving tags only move forward. It raises nothing: what can't be finished is told.
    """
    notes = journal.notes + [
        note
        for under_way in journal.interrupted(going_on)
        for note in await _finish(under_way, journal, layout, targets, history)
    ]
    journal.notes = []
    return tuple(notes)


async def _finish(
    under_way: UnderWay,
    journal: Journal,
    layout: ImageLayout,
    targets: Sequence[Registry],
    history: History | None,
) -> list[str]:
    what = f"{short(under_way.digest)}, whose push of {under_way.when} ended in the middle,"
    wanted = [target for target in targets if target.name in under_way.unnamed]
    for name in under_way.unnamed:
        if name not in [target.name for target in wanted]:
            journal.named(under_way.digest, name)  # it is no registry of this model any more
    if not wanted:
        return [f"{what} is left as it is: its registries are not configured any more"]
    try:
        release = _release(layout, under_way.digest)
    except RegistryError as err:
        journal.forget(under_way.digest)
        return [f"{what} is left as it is: {err}"]
    from pipelines.stages.tag import Names  # noqa: PLC0415  the configuration: only where there is something to do

    names = Names(
        under_way.version_tags, under_way.moving_tags, release.labels, branch_tags=under_way.branch_tags
    )
    receipt = await FanOut(Cargo.of(release, ()), names, tuple(wanted), enough=1, history=history).run()
    return [_told(what, one, journal) for one in receipt.deliveries]


def _release(layout: ImageLayout, digest: str) -> ReleaseImage:
    """The release as it is in the layout. Raises RegistryError: it is there no more."""
    from pipelines.release_image import ReleaseImage  # noqa: PLC0415  as above

    release = ReleaseImage(layout, layout.read_manifest(digest))
    assert release.labels is not None  # noqa: S101  its config is read now, not in the middle of the naming
    return release


def _told(what: str, delivery: Delivery, journal: Journal) -> str:
    if delivery.is_named:
        journal.named(delivery.digest, delivery.repository)
        return f"{what} has its names in {delivery.repository} now"
    if isinstance(delivery.error, _FOR_GOOD):
        journal.named(delivery.digest, delivery.repository)
        return f"{what} stays without its names in {delivery.repository}: {delivery.error}"
    return (
        f"{what} is still not named in {delivery.repository}: {delivery.error or 'another registry failed'}"
    )
