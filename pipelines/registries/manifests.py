"""Manifests and tags of one repository over the distribution API (v1.1): read verified, put, list, delete."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import httpx

from pipelines.registries.descriptors import (
    IMAGE_TYPES,
    INDEX_TYPES,
    MANIFEST_LIMIT,
    OCI_MANIFEST,
    Manifest,
    is_digest,
    json_object,
    sha256,
    short,
)
from pipelines.registries.errors import BrokenContent, NotFound, RepositoryMissing, ServerFault
from pipelines.registries.http import Answer, Call, Connection
from pipelines.registries.reference import Repository

_ACCEPT: Final = {"Accept": ", ".join((*IMAGE_TYPES, *INDEX_TYPES))}
_NEXT = re.compile(r"<([^>]+)>\s*;\s*rel=\"?next\"?")
_PAGE: Final = 1000
_PAGES: Final = 1000


class Manifests:
    """The manifests of one repository. Every method raises RegistryError, with the host named."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, reference: str) -> Manifest:
        """A manifest or index, verified. Raises NotFound, RepositoryMissing, BrokenContent."""
        call = Call("GET", self._target(reference), headers=_ACCEPT)

        def check(answer: Answer) -> None:
            got = sha256(answer.body)
            told = answer.headers.get("Docker-Content-Digest", got)
            hold_digest(self._connection.repository, reference if is_digest(reference) else told, got)
            json_object(answer.body, f"the manifest {reference} of {self._connection.repository}")

        answer = await self._connection.request(call, MANIFEST_LIMIT, check)
        return Manifest(_media_type(answer.headers, answer.body), answer.body)

    async def digest(self, reference: str) -> str | None:
        """The digest under a tag; None where the tag, or the whole repository, is not there."""
        answer = await self._connection.request(Call("HEAD", self._target(reference), (200, 404), _ACCEPT))
        told = answer.headers.get("Docker-Content-Digest", "")
        if answer.status == 404:
            return None
        if is_digest(told):
            return str(told)
        try:  # the header is optional in the specification
            return (await self.read(reference)).digest
        except (NotFound, RepositoryMissing):
            return None

    async def put(self, reference: str, manifest: Manifest) -> httpx.Headers:
        """Store a manifest under its digest, or under a tag; the answer's headers.

        Raises TagRefused where the tag is immutable.
        """
        headers = {"Content-Type": manifest.media_type}
        call = Call("PUT", self._target(reference), (200, 201), headers, manifest.body)
        answer = await self._connection.request(call)
        told = answer.headers.get("Docker-Content-Digest", manifest.digest)
        hold_digest(self._connection.repository, manifest.digest, told)
        return answer.headers

    async def delete(self, reference: str) -> bool:
        """Delete a manifest (by digest, with its tags) or a tag; False where it is not there.

        "Content Management" is optional: ServerFault where the registry doesn't do so (405).
        """
        answer = await self._connection.request(Call("DELETE", self._target(reference), (200, 202, 404)))
        return answer.status != 404

    async def tags(self) -> tuple[str, ...]:
        """All tags, page by page ("Listing Tags"). Raises RepositoryMissing."""
        found: dict[str, None] = {}
        target = f"/v2/{self._connection.repository.path}/tags/list?n={_PAGE}"
        for _ in range(_PAGES):
            answer = await self._connection.request(Call("GET", target), MANIFEST_LIMIT, _check_tags)
            page = json_object(answer.body, "the list of tags").get("tags") or []
            known = len(found)
            found |= {tag: None for tag in page if isinstance(tag, str)}
            target = next_page(answer.headers)
            if not target or len(found) == known:
                return tuple(found)
        raise ServerFault(f"{self._connection.repository} lists its tags without an end")

    def _target(self, reference: str) -> str:
        return f"/v2/{self._connection.repository.path}/manifests/{reference}"


def next_page(headers: Mapping[str, str]) -> str:
    """Where a list goes on (RFC 5988 ``Link``); "" at its end."""
    link = _NEXT.search(headers.get("Link", ""))
    return link[1] if link else ""


def hold_digest(repository: Repository, wanted: str, got: str) -> None:
    """Raise BrokenContent where what came is not what was asked for."""
    if wanted != got:
        raise BrokenContent(
            f"{repository} gives other content than asked for: {short(wanted)} is {short(got)}",
            hint="its storage, or a proxy on the way, is damaged",
        )


def _check_tags(answer: Answer) -> None:
    json_object(answer.body, "the list of tags")


def _media_type(headers: Mapping[str, str], body: bytes) -> str:
    """What the answer says it is; where it says nothing useful, what the manifest says of itself."""
    told = headers.get("Content-Type", "").partition(";")[0].strip()
    if told in (*IMAGE_TYPES, *INDEX_TYPES):
        return told
    own = json_object(body, "the manifest").get("mediaType")
    return own if isinstance(own, str) else OCI_MANIFEST
