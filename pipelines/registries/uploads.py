"""Sending a blob (distribution-spec v1.1, "Pushing blobs"): whole, or in parts that go on where they ended.

The registry is asked what it has after every failure; what it says counts, not what we remember. One that
forgot an upload gets the blob from its beginning, a bounded number of times.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import quote

import anyio
import httpx

from pipelines.registries.blob_source import BlobSource
from pipelines.registries.descriptors import Descriptor, short
from pipelines.registries.errors import BrokenContent, RegistryError, ServerFault
from pipelines.registries.http import Call, Connection
from pipelines.registries.port import UploadSessions
from pipelines.registries.quirks import Quirks
from pipelines.registries.retries import TryAgain
from pipelines.registries.upload_state import UploadState, expected_offset, told_offset

_BEGINNINGS: Final = 5
_LEAST_PART: Final = 1024 * 1024
_ANSWERS: Final = (200, 201, 202, 204, 400, 404, 405, 413, 416, 501)
_STATUS: Final = (200, 202, 204, 400, 404, 405, 410, 416)
_STORING_BYTES_S: Final = 20_000_000
"""How fast a registry is at least when it puts a finished upload into its place; its answer takes as long."""


class Uploads:
    """Sends blobs to one repository."""

    def __init__(self, connection: Connection, quirks: Quirks, sessions: UploadSessions | None) -> None:
        self._connection = connection
        self._quirks = quirks
        self._sessions = sessions
        self._place = f"/v2/{connection.repository.path}/blobs/"

    async def send(self, source: BlobSource) -> int:
        """Send a blob; the bytes that were missing, which is less than all where an earlier upload goes on.

        Raises RegistryError; BrokenContent where the file is not the blob. It is never sent whole then.
        """
        work = UploadState(
            source, self._quirks.part_size if self._quirks.in_parts else max(source.blob.size, 1)
        )
        if self._quirks.in_parts and self._sessions and not work.is_small:
            work.location = self._sessions.recall(work.blob.digest)
            work.in_doubt = bool(work.location)

        async def step() -> None:
            await self._step(work)

        try:
            while not work.stored:
                await self._connection.retrying(step)
        except BaseException as err:
            await self._leave(work, err)
            raise
        if self._sessions:
            self._sessions.forget(work.blob.digest)
        return work.blob.size - work.resumed_at

    async def abandon(self, location: str) -> None:
        """Tell the registry that an upload will not go on. A courtesy: its own clean-up does it otherwise."""
        with anyio.move_on_after(2, shield=True):
            try:
                async with self._connection.once(Call("DELETE", location, ok=range(200, 600))):
                    pass
            except (RegistryError, TryAgain):
                return

    async def _leave(self, work: UploadState, err: BaseException) -> None:
        """What happens to an upload that fails: the next run may go on with a big one."""
        if not work.location:
            return
        if self._sessions and not work.is_small and not isinstance(err, BrokenContent):
            return
        if self._sessions:
            self._sessions.forget(work.blob.digest)
        await self.abandon(work.location)

    async def _step(self, work: UploadState) -> None:
        """One part, from where the registry is. Raises TryAgain, RegistryError."""
        if work.in_doubt:
            await self._find_out(work)
        if work.stored:
            return
        if not work.location:
            await self._begin(work)
        await self._send_part(work)

    async def _begin(self, work: UploadState) -> None:
        work.begun += 1
        if work.begun > _BEGINNINGS:
            raise ServerFault(
                f"{self._connection.repository.host} lost the upload of {short(work.blob.digest)} "
                f"{_BEGINNINGS} times",
                hint="run again; if it stays so, its log may tell why",
            )
        async with self._connection.once(Call("POST", f"{self._place}uploads/", ok=(202,))) as started:
            self._moved(work, started)
            least = started.headers.get("OCI-Chunk-Min-Length", "")
            if least.isascii() and least.isdigit() and self._quirks.in_parts:
                work.part = max(work.part, min(int(least), work.blob.size))
        if not work.location:
            raise ServerFault(f"{self._connection.repository.host} names no place for the upload")

    async def _send_part(self, work: UploadState) -> None:
        start, size = work.offset, work.blob.size
        end = min(start + work.part, size)
        work.in_doubt, work.closing = True, end == size
        async with self._connection.once(self._part(work, start, end)) as response:
            status = response.status_code
            said = "" if response.is_success else await self._connection.read_text(response)
        if status == 413 or (status == 416 and "too large" in said):
            self._smaller(work, end - start, status)
        elif status == 416:
            self._take_position(work, response, said)
        elif status in (405, 501) and not work.closing:
            self._whole(work)
        elif status in (400, 404, 405, 501):
            await self._lost(work, status, said)
        elif work.closing:
            work.stored = True
        else:
            told = told_offset(response.headers)
            # Some count from the part's beginning, or never advance (ECR): only a smaller step is believed.
            work.offset = told if told is not None and start < told < end else end
            work.in_doubt = False
            self._moved(work, response)

    def _part(self, work: UploadState, start: int, end: int) -> Call:
        size = work.blob.size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(end - start)}
        if end - start not in (0, size):
            headers["Content-Range"] = f"{start}-{end - 1}"
        if end < size:
            method, target = "PATCH", work.location
        else:
            method = "PUT"
            # Its query may be signed: it stays, letter by letter.
            joined = "&" if "?" in work.location else "?"
            target = f"{work.location}{joined}digest={quote(work.blob.digest, safe='')}"

        def content() -> AsyncIterator[bytes]:
            return work.source.pieces(start, end)

        stored = end if end == size else end - start
        return Call(method, target, _ANSWERS, headers, content, patience_s=stored / _STORING_BYTES_S)

    def _take_position(self, work: UploadState, response: httpx.Response, said: str) -> None:
        """416: the registry is elsewhere than we believed."""
        told = told_offset(response.headers) if self._quirks.tells_progress else expected_offset(said)
        if told is not None and told <= work.blob.size and told != work.offset:
            work.goes_on_at(told)
            self._moved(work, response)
        elif not self._quirks.tells_progress or told == work.offset:
            work.forget()
        raise TryAgain(
            ServerFault(f"{self._connection.repository.host} does not take the part of an upload (416)")
        )

    def _smaller(self, work: UploadState, sent: int, status: int) -> None:
        """The registry, or a proxy on the way, takes no body as big as this one."""
        error = ServerFault(
            f"{self._connection.repository.host} takes no request of {sent} bytes ({status})",
            hint="a proxy before it limits the size of requests: have that limit raised",
        )
        half = sent // 2
        if not self._quirks.in_parts or half < max(self._quirks.least_part, _LEAST_PART):
            raise error
        work.part = half
        raise TryAgain(error)

    def _whole(self, work: UploadState) -> None:
        """There is no PATCH here: the blob goes in one request."""
        work.part = work.blob.size
        work.forget()
        raise TryAgain(ServerFault(f"{self._connection.repository.host} takes no uploads in parts"))

    async def _lost(self, work: UploadState, status: int, said: str) -> None:
        """404: the upload is gone. 400: what arrived is not the blob (and our file is: that was proved)."""
        broken = "DIGEST_INVALID" in said or "BLOB_UPLOAD_" in said
        if "NAME_UNKNOWN" in said or (status != 404 and not broken):
            raise self._connection.refusal("PUT" if work.closing else "PATCH", status, said.encode())
        if status != 404:
            await self.abandon(work.location)
        self._forget(work)
        raise TryAgain(
            ServerFault(f"{self._connection.repository.host} lost an upload ({status})", hint="run again")
        )

    async def _find_out(self, work: UploadState) -> None:
        """Where an upload is after a failure; without an answer it begins anew."""
        if work.closing and await self._is_stored(work.blob):
            work.stored = True
            return
        if work.begun and work.is_small:
            await self.abandon(work.location)
            work.forget()
            return
        if not self._quirks.tells_progress:
            work.in_doubt = False  # the part is sent again, and a 416 corrects us
            return
        async with self._connection.once(Call("GET", work.location, ok=_STATUS)) as status:
            told = told_offset(status.headers) if status.is_success else None
        if told is None or told > work.blob.size:
            self._forget(work)
            return
        work.goes_on_at(told)
        self._moved(work, status)

    async def _is_stored(self, blob: Descriptor) -> bool:
        """An answer may be lost though the upload ended well."""
        async with self._connection.once(Call("HEAD", f"{self._place}{blob.digest}", ok=(200, 404))) as found:
            return found.status_code == 200 and found.headers.get("Content-Length") == str(blob.size)

    def _forget(self, work: UploadState) -> None:
        work.forget()
        if self._sessions:
            self._sessions.forget(work.blob.digest)

    def _moved(self, work: UploadState, response: httpx.Response) -> None:
        """The address of an upload changes with each part; it is noted for the next run."""
        if location := response.headers.get("Location", ""):
            work.location = str(self._connection.url(location, response.url))
        if self._sessions and self._quirks.in_parts and not work.is_small and work.location:
            self._sessions.remember(work.blob.digest, work.location)
