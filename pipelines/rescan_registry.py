"""What is live in a registry: its tags, the digests that they name, and the SBOMs recorded of these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

import anyio

from pipelines.errors import ConfigError
from pipelines.registries.descriptors import INDEX_TYPES
from pipelines.registries.errors import BrokenContent, NotFound, RegistryError
from pipelines.registries.port import OpenRegistry, Registry
from pipelines.statements import CYCLONEDX, DOCUMENT_LIMIT, IN_TOTO, MOST_REFERRERS, SPDX

AT_ONCE: Final = 8
LIMIT_S: Final = 600.0
"""For one registry."""
FALLBACK: Final = re.compile(r"sha(256|512)-[0-9a-f]{64,128}(\..*)?")
"""Tags that stand in for the referrers API, or hold signatures: no release."""


@dataclass(frozen=True, slots=True)
class LiveImage:
    """One digest with the tags that name it in one registry."""

    registry: str
    digest: str
    tags: tuple[str, ...]
    sboms: tuple[bytes, ...] = field(repr=False)
    """CycloneDX documents recorded of it."""
    unread: str = ""
    """Why what is recorded of it could not be read."""


@dataclass(frozen=True, slots=True)
class LiveRegistry:
    """What one registry has of a model."""

    name: str
    images: tuple[LiveImage, ...] = ()
    unread: str = ""
    """Why it could not be asked. Never the same as "nothing is there"."""


async def live(registry: Registry, tag: str = "") -> LiveRegistry:
    """What ``registry`` has under the tags that fit the glob ``tag``, "" for all. Reads only."""
    try:
        with anyio.fail_after(LIMIT_S):
            async with registry.open() as opened:
                return LiveRegistry(registry.name, await _images(opened, registry.name, tag))
    except TimeoutError:
        return LiveRegistry(registry.name, unread=f"it took more than {LIMIT_S:.0f} seconds")
    except (RegistryError, ConfigError) as err:  # ConfigError: a secret that is not set
        return LiveRegistry(registry.name, unread=str(err))


async def _images(opened: OpenRegistry, name: str, glob: str) -> tuple[LiveImage, ...]:
    named = [one for one in await opened.tags() if not FALLBACK.fullmatch(one)]
    wanted = [one for one in named if not glob or fnmatchcase(one, glob)]
    tags: dict[str, list[str]] = {}
    limit = anyio.CapacityLimiter(AT_ONCE)
    failures: list[RegistryError] = []
    found: dict[str, LiveImage] = {}

    async def ask(tag: str) -> None:
        async with limit:
            try:
                if digest := await opened.tag_digest(tag):  # none: it was removed meanwhile
                    tags.setdefault(digest, []).append(tag)
            except RegistryError as err:
                failures.append(err)

    async def read(digest: str) -> None:
        async with limit:
            own = tuple(sorted(tags[digest]))
            try:
                found[digest] = LiveImage(name, digest, own, await stored_sboms(opened, digest))
            except RegistryError as err:
                found[digest] = LiveImage(name, digest, own, (), str(err))

    async with anyio.create_task_group() as tasks:
        for tag in wanted:
            tasks.start_soon(ask, tag)
    if failures:  # a tag that can't be asked may name an affected image
        raise failures[0]
    async with anyio.create_task_group() as tasks:
        for digest in tags:
            tasks.start_soon(read, digest)
    return tuple(found[digest] for digest in sorted(found))


async def stored_sboms(opened: OpenRegistry, digest: str) -> tuple[bytes, ...]:
    """The CycloneDX documents recorded of ``digest``; of an index also those of its images.

    Each is verified: its digest, and that it refers to this image. Who wrote it is not.

    Raises:
        RegistryError: the registry can't be read.
    """
    manifest = await opened.read_manifest(digest)
    subjects = [digest]
    if manifest.media_type in INDEX_TYPES:
        subjects += [child.digest for child, _ in manifest.children()]
    documents: dict[bytes, None] = {}
    for subject in subjects:
        for document in await _documents(opened, subject):
            documents[document] = None
    return tuple(sorted(documents))


async def _documents(opened: OpenRegistry, subject: str) -> Sequence[bytes]:
    listed = await opened.referrers(subject)
    if len(listed) > MOST_REFERRERS:
        raise BrokenContent(f"{subject} has {len(listed)} referrers, more than {MOST_REFERRERS}")
    found = []
    for one in listed:
        if one.artifact_type in (IN_TOTO, SPDX):
            continue  # the manifest's own word decides for all else: lists differ in what they tell
        try:
            manifest = await opened.read_manifest(one.digest)
            own = manifest.subject
            if own is None or own.digest != subject or manifest.as_referrer().artifact_type != CYCLONEDX:
                continue
            (layer,) = manifest.image().layers
            if layer.size <= DOCUMENT_LIMIT:
                found.append(await opened.read_blob(layer.digest, layer.size))
        except (NotFound, BrokenContent, ValueError):
            continue  # it is no record
    return found
