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
from pipelines.registries.errors import BrokenContent, RegistryError, ServerFault
from pipelines.registries.http import Call, Connection, TryAgain
from pipelines.registries.manifests import Manifests, hold_digest
from pipelines.registries.reference import Repository

_OCTETS: Final = {"Content-Type": "application/octet-stream"}


class RepositoryClient:
    """One repository. Every method raises RegistryError, with the host named."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._manifests = Manifests(connection)

    @property
    def repository(self) -> Repository:
        """Which repository this is."""
        return self._connection.repository

    # Blobs

    async def blob_size(self, digest: str) -> int | None:
        """The size of a blob; None where it is not in this repository, -1 where its size isn't told."""
        answer = await self._connection.request(Call("HEAD", self._blob(digest), ok=(200, 404)))
        return int(answer.headers.get("Content-Length", -1)) if answer.status == 200 else None

    async def read_blob(self, digest: str, limit: int) -> bytes:
        """A small blob, verified. Raises NotFound, BrokenContent."""
        answer = await self._connection.request(Call("GET", self._blob(digest)), limit)
        hold_digest(self.repository, digest, sha256(answer.body))
        return answer.body

    async def download_blob(self, blob: Descriptor, path: Path) -> None:
        """Stream a blob into the new file ``path``, verified; nothing is left there on failure."""

        async def attempt() -> None:
            async with self._connection.once(Call("GET", self._blob(blob.digest))) as response:
                hold_digest(self.repository, blob.digest, await _save(response, path, blob.size))

        try:
            await self._connection.retrying(attempt)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    async def upload_blob(self, source: BlobSource) -> int:
        """Send a blob and return the bytes sent; a broken upload begins anew."""

        async def attempt() -> int:
            return await self._upload_once(source)

        return await self._connection.retrying(attempt)

    async def mount_blob(self, blob: Descriptor, origin: str) -> bool:
        """Take the blob over from another repository of this registry; False where it doesn't do so."""
        query = f"?mount={blob.digest}&from={quote(origin)}"
        answer = await self._connection.request(Call("POST", f"{self._uploads}{query}", ok=(201, 202)))
        if answer.status == 202:
            await self._abandon(answer.headers.get("Location", ""))
        return answer.status == 201

    async def check_write(self) -> None:
        """Begin an upload and end it. Raises AccessRefused, RepositoryMissing."""
        answer = await self._connection.request(Call("POST", self._uploads, ok=(202,)))
        await self._abandon(answer.headers.get("Location", ""))

    async def _upload_once(self, source: BlobSource) -> int:
        blob = source.blob
        async with self._connection.once(Call("POST", self._uploads, ok=(202,))) as started:
            location = started.headers.get("Location", "")
        if not location:
            raise ServerFault(f"{self.repository.host} names no place for the upload")
        target = self._connection.url(location).copy_merge_params({"digest": blob.digest})
        headers = {**_OCTETS, "Content-Length": str(blob.size)}
        upload = Call("PUT", str(target), (201,), headers, source.pieces)
        try:
            async with self._connection.once(upload):
                return blob.size
        except BaseException:
            await self._abandon(location)
            raise

    async def _abandon(self, location: str) -> None:
        """Tell the registry that an upload will not go on. A courtesy: its own clean-up does it otherwise."""
        with anyio.move_on_after(2, shield=True):
            try:
                async with self._connection.once(Call("DELETE", location, ok=range(200, 600))):
                    pass
            except (RegistryError, TryAgain):
                return

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
