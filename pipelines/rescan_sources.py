"""The advisories for a rescan: asked once for all digests, whatever number of them has a package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pipelines.scanners import os_advisories
from pipelines.scanners.advisories import AdvisoryData, AdvisorySource, Package, normalised
from pipelines.scanners.osv_source import source_of
from pipelines.scanners.port import CouldNotLookError, ScannerResult

if TYPE_CHECKING:
    from pipelines.config import Model
    from pipelines.scanners.contents import Contents
    from pipelines.scanners.osv import Advisory

DEBIAN_UPDATES: Final = ("DSA-", "DLA-")
"""Debian's own security updates, which is what apt is asked for when an image is released."""


class Asked:
    """An ``AdvisorySource`` that remembers for this rescan what it was told."""

    def __init__(self, inner: AdvisorySource, ids: Sequence[str] = ()) -> None:
        self._inner = inner
        self._ids = tuple(ids)
        self._known: dict[Package, list[Advisory]] = {}
        self._refused: CouldNotLookError | None = None

    @property
    def title(self) -> str:
        """As the inner source's."""
        return self._inner.title

    @property
    def version(self) -> str:
        """As the inner source's."""
        return self._inner.version

    @property
    def network(self) -> str:
        """As the inner source's."""
        return self._inner.network

    async def ask(self, packages: Iterable[Package]) -> None:
        """Ask for all of them at once. A refusal is kept for who needs the answer."""
        from pipelines.scanners.versions import NotComparableError  # noqa: PLC0415

        try:
            await self.advisories(sorted(set(packages)))
        except NotComparableError:
            pass  # one package of one image: the others are asked for by themselves
        except CouldNotLookError as err:
            self._refused = err

    async def advisories(self, packages: Sequence[Package]) -> dict[Package, list[Advisory]]:
        """See ``AdvisorySource``."""
        if self._refused is not None:
            raise CouldNotLookError(str(self._refused))
        missing = [one for one in packages if one not in self._known]
        if missing:
            answer = await self._inner.advisories(missing)
            self._known |= {package: self._wanted(found) for package, found in answer.items()}
        return {one: self._known[one] for one in packages}

    async def data(self) -> AdvisoryData:
        """As the inner source's."""
        return await self._inner.data()

    def _wanted(self, found: list[Advisory]) -> list[Advisory]:
        return [one for one in found if not self._ids or str(one["id"]).startswith(self._ids)]


def python_questions(contents: Contents) -> set[Package]:
    """What the scanner of Python packages asks about ``contents``."""
    return {(normalised(one.name), one.version) for one in contents.python if not one.debian}


async def rejudged_os(
    contents: Contents, model: Model, environ: Mapping[str, str], sources: dict[str, Asked]
) -> ScannerResult:
    """The OS packages of a stored SBOM by OSV's advisories; Debian's by its security updates there."""
    section = model.scan.os_packages
    try:
        ecosystem = ecosystem_of(contents.os_release)
        if ecosystem not in sources:
            ids = DEBIAN_UPDATES if ecosystem.startswith("Debian:") else ()
            sources[ecosystem] = Asked(source_of(section.source, model.directory, environ, ecosystem), ids)
        return await os_advisories.judged(contents, sources[ecosystem], ecosystem, section.unrated)
    except CouldNotLookError as err:
        return ScannerResult("os_packages", audited=False, reason=str(err))


def ecosystem_of(release: Mapping[str, str]) -> str:
    """The distribution as OSV calls it; Debian too, which the scan of an image asks apt about.

    Raises:
        CouldNotLookError: OSV has no advisories on it.
    """
    number = release.get("VERSION_ID", "").partition(".")[0]
    if release.get("ID") == "debian" and number.isdecimal():
        return f"Debian:{number}"
    return os_advisories.ecosystem_of(release)
