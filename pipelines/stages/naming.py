"""One registry's names for a release that is whole there: release tags, then moving tags.

A release tag names one image for ever: an equal digest under it is success, another one a conflict that is
explained. A moving tag only moves forward. What was written is read again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.image_difference import Differences
from pipelines.registries.descriptors import Manifest, short
from pipelines.registries.errors import BrokenContent, RegistryError, TagRefused
from pipelines.registries.port import OpenRegistry, Registry
from pipelines.stages.delivery import Progress, each, stands
from pipelines.stages.moving_tags import move_tag

if TYPE_CHECKING:
    from pipelines.git_history import History
    from pipelines.release_image import ReleaseImage
    from pipelines.stages.tag import Names


@dataclass(frozen=True, slots=True)
class Naming:
    """A release, its names, and one open registry. Every method raises RegistryError."""

    release: ReleaseImage
    names: Names
    target: Registry
    registry: OpenRegistry
    progress: Progress
    differences: Differences
    history: History | None = None

    @property
    def manifest(self) -> Manifest:
        """The release's."""
        return self.release.manifest

    async def look(self) -> None:
        """Hold that every release tag is free or ours. Raises TagRefused, and nothing was changed."""
        ours: set[str] = set()

        async def one(tag: str) -> None:
            if await self._is_ours(tag):
                ours.add(tag)

        await each(self.names.version_tags, one)
        found = [tag for tag in self.names.version_tags if tag in ours]
        self.progress.already += found
        self.progress.tags += found

    @property
    def is_released(self) -> bool:
        """Whether every release tag named the release before, as far as ``look`` saw."""
        return bool(self.names.version_tags) and set(self.names.version_tags) <= set(self.progress.already)

    async def set_release_tags(self) -> None:
        """Let every release tag name the release. Raises TagRefused where one names another image."""
        for tag in self.names.version_tags:
            if not await self._is_ours(tag):
                async with self._in_doubt(tag):
                    await self._write_release_tag(tag)
            if tag not in self.progress.tags:
                self.progress.tags.append(tag)
        self.progress.tags.sort(key=self.names.version_tags.index)  # some may have been there, and some not
        self.progress.is_tagged = True

    async def move_tags(self) -> None:
        """Let the moving tags name the release, each unless what it names is newer."""
        moved: set[str] = set()

        async def move(tag: str) -> None:
            if await self.registry.tag_digest(tag) == self.release.digest:
                self.progress.already.append(tag)
            else:
                async with self._in_doubt(tag):
                    reason = await move_tag(
                        tag,
                        self.release,
                        self.names,
                        self.registry,
                        self.history,
                        alone=self.target.is_directory,  # a model's runs hold its lock there
                    )
                if reason:
                    self.progress.kept[tag] = reason
                    return
            moved.add(tag)

        try:
            await each(self.names.moving_tags, move)
        finally:
            self.progress.tags += [tag for tag in self.names.moving_tags if tag in moved]
        self.progress.is_named = True

    def keep_moving_tags(self, reason: str) -> None:
        """Leave them all, for ``reason``; the release tags stand."""
        self.progress.kept.update(dict.fromkeys(self.names.moving_tags, reason))
        self.progress.is_named = True

    async def _is_ours(self, tag: str) -> bool:
        """True: the release tag names our digest already. False: it is free. Raises TagRefused."""
        held = await self.registry.tag_digest(tag)
        if held in (None, self.release.digest):
            return held is not None
        raise await self._conflict(tag, str(held))

    async def _write_release_tag(self, tag: str) -> None:
        try:
            await self.registry.tag(tag, self.manifest)
        except TagRefused:
            # Another run was quicker, or our own first request was answered by a broken connection.
            if not await self._is_ours(tag):
                raise
        if not await stands(lambda: self._is_ours(tag)):
            raise self._lost(tag)

    @asynccontextmanager
    async def _in_doubt(self, tag: str) -> AsyncIterator[None]:
        """Where the registry fails over a tag, find out whether it was set all the same."""
        try:
            yield
        except RegistryError:
            try:
                named = await self.registry.tag_digest(tag) == self.release.digest
            except RegistryError:
                named = True  # for all that we know
            if named:
                self.progress.doubtful.append(tag)
            raise

    def _lost(self, tag: str) -> BrokenContent:
        return BrokenContent(
            f"{self.target.name} took the tag {tag} and it does not name {short(self.release.digest)}",
            hint="run again; if it stays so, the registry's storage, or a proxy on the way, is at fault",
        )

    async def _conflict(self, tag: str, held: str) -> TagRefused:
        told = await self.differences.told(self.registry, held, self.release)
        return TagRefused(
            f"{self.target.reference(tag)} is {short(held)} already, "
            f"and this build is {short(self.release.digest)}: {told}",
            hint="a release tag never moves: commit and release under a new one, or find out with "
            f"`modelport trace {self.target.reference(tag)}` what it names",
        )
