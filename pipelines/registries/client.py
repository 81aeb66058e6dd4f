"""The OCI distribution API (v1.1) for one repository: blobs, manifests, tags.

Content is verified on its way in both directions; big blobs stream, so memory stays small.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final
from urllib.parse import quote

import anyio
import httpx

from pipelines.registries.blob_source import CHUNK, BlobSource
from pipelines.registries.descriptors import (
    Descriptor,
    Manifest,
    sha256,
)
from pipelines.registries.errors import BrokenContent
from pipelines.registries.http import Answer, Call, Connection, broken_on_its_way
from pipelines.registries.manifests import Manifests, hold_digest
from pipelines.registries.reference import Repository
from pipelines.registries.uploads import Uploads

_OCTETS: Final = {"Content-Type": "application/octet-stream"}


class RepositoryClient:
    """One repository. Every method raises RegistryError, with the host named."""

    def __init__(self, connection: Connection, uploads: Uploads) -> None:
        self._connection = connection
        self._sending = uploads
        self._manifests = Manifests(connection)

    @property
    def repository(self) -> Repository:
        """Which repository this is."""
        return self._connection.repository

    # Blobs

    async def blob_size(self, digest: str) -> int | None:
        """The size of a blob; None where it is not in this repository, -1 where its size isn't told."""
        answer = await self._connection.request(Call("HEAD", self._blob(digest), ok=(200, 404)))
        told = answer.headers.get("Content-Length", "")
        known = int(told) if told.isascii() and told.isdigit() else -1
        return known if answer.status == 200 else None

    async def read_blob(self, digest: str, limit: int) -> bytes:
        """A small blob, verified. Raises NotFound, BrokenContent."""

        def check(answer: Answer) -> None:
            hold_digest(self.repository, digest, sha256(answer.body))

        return (await self._connection.request(Call("GET", self._blob(digest)), limit, check)).body

    async def download_blob(self, blob: Descriptor, path: Path) -> None:
        """Stream a blob into the new file ``path``, verified; nothing is left there on failure."""

        async def attempt() -> None:
            async with self._connection.once(Call("GET", self._blob(blob.digest))) as response:
                with broken_on_its_way():
                    hold_digest(self.repository, blob.digest, await _save(response, path, blob.size))

        try:
            await self._connection.retrying(attempt)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    async def upload_blob(self, source: BlobSource) -> int:
        """See ``Uploads.send``."""
        return await self._sending.send(source)

    async def mount_blob(self, blob: Descriptor, origin: str) -> bool:
        """Take the blob over from another repository of this registry; False where it doesn't do so."""
        query = f"?mount={blob.digest}&from={quote(origin, safe='')}"
        answer = await self._connection.request(Call("POST", f"{self._uploads}{query}", ok=(201, 202)))
        if answer.status == 202:
            await self._end_upload(answer)
        return answer.status == 201

    async def check_write(self) -> None:
        """Begin an upload and end it. Raises AccessRefused, RepositoryMissing."""
        await self._end_upload(await self._connection.request(Call("POST", self._uploads, ok=(202,))))

    async def _end_upload(self, begun: Answer) -> None:
        if location := begun.headers.get("Location", ""):
            await self._sending.abandon(location)

    # Manifests and tags

    async def read_manifest(self, reference: str) -> Manifest:
        """See ``Manifests.read``."""
        return await self._manifests.read(reference)

    async def manifest_digest(self, reference: str) -> str | None:
        """See ``Manifests.digest``."""
        return await self._manifests.digest(reference)

    async def put_manifest(self, reference: str, manifest: Manifest) -> None:
        """See ``Manifests.put``."""
        await self._manifests.put(reference, manifest)

    async def delete_manifest(self, reference: str) -> bool:
        """See ``Manifests.delete``. Nothing of ours calls it unless somebody asked for a deletion."""
        return await self._manifests.delete(reference)

    async def tags(self) -> tuple[str, ...]:
        """See ``Manifests.tags``."""
        return await self._manifests.tags()

    # Addresses

    @property
    def _uploads(self) -> str:
        return f"/v2/{self.repository.path}/blobs/uploads/"

    def _blob(self, digest: str) -> str:
        return f"/v2/{self.repository.path}/blobs/{digest}"


async def _save(response: httpx.Response, path: Path, size: int) -> str:
    """Write a body to ``path``; its digest. More than ``size`` bytes are not taken."""
    digest, left = hashlib.sha256(), size
    async with await anyio.open_file(path, "wb") as file:
        async for chunk in response.aiter_raw(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise BrokenContent(f"{response.request.url.host} sends more than the {size} bytes it should")
            digest.update(chunk)
            await file.write(chunk)
    return f"sha256:{digest.hexdigest()}"
