"""What refers to an image: the referrers API and the tag that stands in for it (distribution-spec v1.1)."""

from __future__ import annotations

import json
from typing import Final

import anyio

from pipelines.registries.descriptors import (
    INDEX_TYPES,
    MANIFEST_LIMIT,
    OCI_INDEX,
    Descriptor,
    Manifest,
)
from pipelines.registries.errors import BrokenContent, NotFound, RepositoryMissing, ServerFault
from pipelines.registries.http import Call, Connection
from pipelines.registries.manifests import Manifests, next_page

_ROUNDS: Final = 6
_PAGES: Final = 100


class Referrers:
    """The referrers of one repository's images. Every method raises RegistryError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._manifests = Manifests(connection)

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
        if headers.get("OCI-Subject") != subject.digest:
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
        try:
            index = await self._manifests.read(fallback_tag(digest))
        except (NotFound, RepositoryMissing):
            return ()
        if index.media_type not in INDEX_TYPES:
            return ()
        return tuple(entry for entry, _ in index.children())

    async def _list_under_tag(self, digest: str, entry: Descriptor) -> None:
        """Read, add, write, and look whether it stayed: another client may have written between.

        The specification gives no way to compare and write in one step. Nothing is ever taken out.
        """
        for round_ in range(_ROUNDS):
            listed = await self._from_tag(digest)
            if any(known.digest == entry.digest for known in listed):
                if round_:  # it was written by us: give another writer, who read before, the time to show
                    return
                return
            await self._manifests.put(fallback_tag(digest), _index((*listed, entry)))
            await anyio.sleep(0.02 * round_)
        if not any(known.digest == entry.digest for known in await self._from_tag(digest)):
            raise ServerFault(
                f"{self._connection.repository}: others write to {fallback_tag(digest)} all the time",
                hint="run again",
            )


def fallback_tag(digest: str) -> str:
    """``sha256-<hex>``: the tag that lists what refers to ``digest``."""
    return digest.replace(":", "-")


def _index(entries: tuple[Descriptor, ...]) -> Manifest:
    listed = [entry.to_json() for entry in entries]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    return Manifest(OCI_INDEX, json.dumps(index, separators=(",", ":")).encode())
