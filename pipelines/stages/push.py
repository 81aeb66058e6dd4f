"""Push: to every registry at once, in two phases, so that no tag ever names anything unfinished.

Every registry gets blobs, manifest by digest and referrers, and all of it is read back. Only when enough
registries hold the release does any of them name it: release tags everywhere, moving tags last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.receipt import NothingPushed, PushedInPart, Receipt
from pipelines.registries.descriptors import Manifest
from pipelines.registries.port import Registry
from pipelines.stages.delivery import Cargo
from pipelines.stages.fan_out import FanOut
from pipelines.stages.interrupted import finish_interrupted

if TYPE_CHECKING:
    from pipelines.git_history import History
    from pipelines.push_journal import Journal
    from pipelines.release_image import ReleaseImage
    from pipelines.stages.tag import Names


async def push(  # noqa: PLR0913  # what, under which names, where to; and what an earlier run left
    release: ReleaseImage,
    names: Names,
    targets: Sequence[Registry],
    *,
    referrers: Sequence[Manifest] = (),
    enough: int | None = None,
    journal: Journal | None = None,
    history: History | None = None,
) -> Receipt:
    """Bring ``release`` to every target and name it there; what is there already is not sent.

    A release tag that names another image in any registry stops the push before a byte is sent. Otherwise one
    registry's failure doesn't stop another, and names are set where the content is whole, as soon as
    ``enough`` registries (None: all) hold it. Cancelled, it leaves no tag on anything unfinished. With a
    ``journal``, what an earlier run left in the middle is finished first, and uploads go on where they ended.

    Raises:
        PushFailed: nothing was named (NothingPushed).
        PartialPush: fewer than ``enough`` registries name the release, but some do (PushedInPart).
            Both carry the receipt.
    """
    notes: tuple[str, ...] = ()
    if journal is not None:
        notes = await finish_interrupted(
            journal, release.layout, targets, going_on=release.digest, history=history
        )
        notes += journal.begin(release.digest, names)
    fan_out = FanOut(Cargo.of(release, referrers), names, tuple(targets), enough, journal, history)
    receipt = replace(await fan_out.run(), notes=notes)
    if len(receipt.delivered) >= receipt.asked and not receipt.conflicts:
        return receipt
    if journal is not None and receipt.conflicts:
        journal.give_up(release.digest)
    raise PushedInPart(receipt) if receipt.is_named else NothingPushed(receipt)
