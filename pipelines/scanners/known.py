"""What the published image has by its own record: for ``since``, and for ``new_since: published``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pipelines.scanners.policy import KnownFindings
from pipelines.values import JSON

if TYPE_CHECKING:
    from pipelines.published import Published, PublishedSource
    from pipelines.scanners.port import Finding

KEYS: Final = "known"
"""Of a scanner's facts in the statement: finding keys, each with the version since which it is there."""
MOST_KEYS: Final = 5000
"""Keys that a statement names, worst first: 150 kB. What is not named counts as new."""
VERSION: Final = "org.opencontainers.image.version"
REVISION: Final = "org.opencontainers.image.revision"


async def known_findings(source: PublishedSource | None) -> KnownFindings:
    """The recorded findings of the published image; with none to be had, why."""
    from pipelines.published import CouldNotTell  # noqa: PLC0415  the registries: not needed without findings

    if source is None:
        return KnownFindings({}, unknown="no registry was asked for the published image")
    try:
        published = await source()
    except CouldNotTell as err:
        return KnownFindings({}, unknown=f"the published image could not be asked for: {err}")
    if published is None:
        return KnownFindings({}, unknown="nothing is published yet")
    return known_of(published)


def known_of(published: Published) -> KnownFindings:
    """What the record of ``published`` says."""
    version = version_of(published.labels) or published.tag
    scanners = [one for one in published.facts("scan").values() if isinstance(one, dict)]
    keys = [one[KEYS] for one in scanners if isinstance(one.get(KEYS), dict)]
    if not keys:
        return KnownFindings({}, version, f"the published {version} has no record of its findings")
    since = {key: str(then or version) for own in keys if isinstance(own, dict) for key, then in own.items()}
    return KnownFindings(since, version)


def version_of(labels: Mapping[str, str]) -> str:
    """What an image is called by its labels: its version, else its commit."""
    return labels.get(VERSION) or labels.get(REVISION, "")[:12]


def recorded_keys(findings: Sequence[Finding], labels: Mapping[str, str]) -> dict[str, JSON]:
    """What a statement on the image with ``labels`` says of ``findings``, to be read by ``known_of``.

    A rerun, for which the image itself is the published one, says the same again.
    """
    own = version_of(labels)
    worst = sorted(findings, key=lambda one: one.rank)[:MOST_KEYS]
    return {one.key: "" if one.since == own else one.since for one in sorted(worst, key=lambda one: one.key)}
