"""What refers to an image: the referrers API and the tag that stands in for it (distribution-spec v1.1)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import anyio

from pipelines.registries.descriptors import (
    INDEX_TYPES,
    MANIFEST_LIMIT,
    OCI_INDEX,
    Descriptor,
    Manifest,
    json_object,
)
from pipelines.registries.errors import BrokenContent, NotFound, RepositoryMissing, ServerFault
from pipelines.registries.http import Call, Connection
from pipelines.registries.manifests import Manifests, next_page

_EMPTY: Final[Mapping[str, Any]] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
"""(Any: JSON.)"""
_ROUNDS: Final = 6
_PAGES: Final = 100


class Referrers:
    """The referrers of one repository's images. Every method raises RegistryError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._manifests = Manifests(connection)
        self._listing = anyio.Lock()

    async def of(self, digest: str) -> tuple[Descriptor, ...]:
        """What refers to ``digest``: by the API ("Listing Referrers"), else by the fallback tag."""
        found = await self._from_api(digest)
        return found if found is not None else await self._from_tag(digest)

    async def attach(self, referrer: Manifest) -> None:
        """Store a manifest that has a subject; where the registry doesn't list it itself, we do.

        "Pushing Manifests with Subject": a registry with the API answers with ``OCI-Subject``. Without that
        header the client keeps the index under the fallback tag ("Referrers Tag Schema").
        """
        subject = referrer.subject
        if subject is None:
            raise BrokenContent("a referrer without a subject refers to nothing")
        headers = await self._manifests.put(referrer.digest, referrer)
        if headers.get("OCI-Subject") == subject.digest:
            return
        listed = await self._from_api(subject.digest)  # some have the API and forget the header
        if listed is not None and referrer.digest in {entry.digest for entry in listed}:
            return
        async with self._listing:  # our own referrers come several at once
            await self._list_under_tag(subject.digest, referrer.as_referrer())

    async def _from_api(self, digest: str) -> tuple[Descriptor, ...] | None:
        """None where there is no such API: 404 says so, a registry that has it answers with an empty list."""
        target = f"/v2/{self._connection.repository.path}/referrers/{digest}"
        found: dict[str, Descriptor] = {}
        for _ in range(_PAGES):
            answer = await self._connection.request(
                Call("GET", target, ok=(200, 400, 404, 405), headers={"Accept": OCI_INDEX}), MANIFEST_LIMIT
            )
            told = answer.headers.get("Content-Type", "").partition(";")[0].strip()
            # Some answer 200 with a web page on addresses they don't know.
            if answer.status != 200 or told != OCI_INDEX:
                return None
            found |= {entry.digest: entry for entry, _ in Manifest(OCI_INDEX, answer.body).children()}
            target = next_page(answer.headers)
            if not target:
                return tuple(found.values())
        raise ServerFault(f"{self._connection.repository} lists its referrers without an end")

    async def _from_tag(self, digest: str) -> tuple[Descriptor, ...]:
        index = await self._index_under(digest)
        return tuple(entry for entry, _ in index.children()) if index else ()

    async def _list_under_tag(self, digest: str, entry: Descriptor) -> None:
        """Read, add, write, and look whether it stayed: another client may have written between.

        The specification gives no way to compare and write in one step. Nothing is ever taken out.
        """
        for round_ in range(_ROUNDS):
            listed = await self._index_under(digest)
            if entry.digest in _digests(listed):
                return
            await self._manifests.put(fallback_tag(digest), _with(listed, entry))
            await anyio.sleep(0.05 * round_)  # somebody else writes as well: out of step
        if entry.digest not in _digests(await self._index_under(digest)):
            raise ServerFault(
                f"{self._connection.repository}: others write to {fallback_tag(digest)} all the time",
                hint="run again",
            )

    async def _index_under(self, digest: str) -> Manifest | None:
        try:
            index = await self._manifests.read(fallback_tag(digest))
        except (NotFound, RepositoryMissing):
            return None
        if index.media_type not in INDEX_TYPES:
            raise BrokenContent(
                f"{self._connection.repository}:{fallback_tag(digest)} lists no referrers but is "
                f"{index.media_type}",
                hint="somebody else took that tag, which the specification keeps for referrers",
            )
        return index


def fallback_tag(digest: str) -> str:
    """``sha256-<hex>``: the tag that lists what refers to ``digest``."""
    return digest.replace(":", "-")


def _digests(index: Manifest | None) -> frozenset[str]:
    return frozenset(entry.digest for entry, _ in index.children()) if index else frozenset()


def _with(index: Manifest | None, entry: Descriptor) -> Manifest:
    """The index and one entry more; what others wrote into it stays as it is."""
    content = json_object(index.body, "an index") if index else _EMPTY
    listed = [*content["manifests"], entry.to_json()]
    return Manifest(
        index.media_type if index else OCI_INDEX,
        json.dumps({**content, "manifests": listed}, separators=(",", ":")).encode(),
    )
