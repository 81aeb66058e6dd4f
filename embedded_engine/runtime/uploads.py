"""Sending one blob (distribution-spec, "Pushing blobs"): not if it is there, mounted if it is elsewhere.

A large one goes in parts. After a failure the registry is asked how far it got, and an upload that was left
(by a killed engine too) goes on from there if the registry still has it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urljoin, urlsplit

import anyio
import anyio.to_thread
import httpx

from embedded_engine.runtime import oci
from embedded_engine.runtime.distribution import Content, Passing, Refused, Repository
from embedded_engine.runtime.places import place, remember_place
from embedded_engine.runtime.port import Facts, RuntimeFailure

PART = 64 << 20
_LEAST_PART = 4 << 20
_PIECE = 1 << 19
_STORING_BYTES_S = 20_000_000  # how fast a registry is at least when it puts an upload into its place
_FACT = "upload"
_BEGINNINGS = 5
# Google's documentation: "does not support Docker chunked uploads"; GitHub's takes parts of 4 MiB at most but
# one body of any size; Quay's parts did not work with other clients.
_WHOLE_ONLY = (".pkg.dev", "gcr.io", "ghcr.io", "quay.io")


@dataclass(frozen=True, slots=True)
class Blob:
    """What is to be sent: bytes, or a file."""

    digest: str
    size: int
    source: bytes | Path


@dataclass(slots=True)
class Upload:
    """One blob on its way into one repository."""

    repository: Repository
    facts: Facts
    blob: Blob
    part: int = PART
    location: str = ""
    offset: int = 0
    in_doubt: bool = False
    begun: int = 0

    async def send(self) -> None:
        """See that the registry has the blob. Raises RuntimeFailure."""
        if await self.repository.repeated(self._is_there):
            self._arrived()
            return
        whole = self.repository.host.partition(":")[0].endswith(_WHOLE_ONLY)
        self.part = self.blob.size if whole else PART
        fact = None if whole or self.blob.size <= PART else self.facts.fact(_FACT, self._key)
        if isinstance(fact, str) and fact:
            self.location, self.in_doubt = fact, True
        while not await self.repository.repeated(self._step, lambda: self.offset):
            pass
        self._arrived()

    @property
    def _key(self) -> str:
        return f"{self._name}@{self.blob.digest}"

    @property
    def _name(self) -> str:
        return f"{self.repository.host}/{self.repository.path}"

    @property
    def _place(self) -> str:
        return f"/v2/{self.repository.path}/blobs/"

    def _arrived(self) -> None:
        remember_place(self.facts, self._name, self.blob.digest)
        if self.facts.fact(_FACT, self._key):
            self.facts.remember(_FACT, self._key, "")

    async def _is_there(self) -> bool:
        async with self.repository.once("HEAD", self._place + self.blob.digest, ok=(200, 404)) as response:
            return response.status_code == 200

    async def _step(self) -> bool:
        """One part, from where the registry is; whether the blob is complete."""
        if self.in_doubt and await self._find_out():
            return True
        if not self.location and await self._begin():
            return True
        return await self._send_part()

    async def _begin(self) -> bool:
        """Open an upload; whether that was not needed, since the blob could be mounted."""
        self.begun += 1
        if self.begun > _BEGINNINGS:
            raise RuntimeFailure(
                f"{self.repository.host} lost the upload of {self.blob.digest[:19]} {_BEGINNINGS} times"
            )
        source = place(self.facts, self.repository.host, self.blob.digest)
        query = ""
        if self.begun == 1 and source and source != self.repository.path:
            query = f"?mount={quote(self.blob.digest, safe='')}&from={quote(source, safe='')}"
        target = f"{self._place}uploads/{query}"
        async with self.repository.once(
            "POST", target, ok=(201, 202), headers={"Content-Length": "0"}
        ) as response:
            if response.status_code == 201:
                return True
            self._moved(response)
        self.offset = 0
        return False

    async def _send_part(self) -> bool:
        start, size = self.offset, self.blob.size
        end = min(start + self.part, size)
        closing = end == size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(end - start)}
        if end - start not in (0, size):
            headers["Content-Range"] = f"{start}-{end - 1}"
        target = self.location
        if closing:  # its query may be signed: it stays, letter by letter
            target += f"{'&' if '?' in target else '?'}digest={quote(self.blob.digest, safe='')}"
        self.in_doubt = True
        exchange = self.repository.once(
            "PUT" if closing else "PATCH",
            target,
            ok=(200, 201, 202, 204, 400, 404, 413, 416),
            headers=headers,
            content=pieces(self.blob.source, start, end),
            more_patience_s=size / _STORING_BYTES_S if closing else 0,
        )
        async with exchange as response:
            if response.status_code in (400, 404, 413, 416):
                await self._refused(response, end - start)
                return False
            self._moved(response)
        self.in_doubt = False
        told = told_offset(response)
        # Some count from the part's beginning, or never advance: only a smaller step is believed.
        self.offset = told if told is not None and start < told < end else end
        return closing

    async def _refused(self, response: httpx.Response, sent: int) -> None:
        """A part was not taken: smaller ones, another place, or anew. Raises RuntimeFailure, Passing."""
        said = (await response.aread())[:2000].decode("utf-8", "replace")
        host, status = self.repository.host, response.status_code
        if status == 413:
            if sent // 2 < _LEAST_PART:
                raise RuntimeFailure(f"{host} takes no request of {sent} bytes (413): have that limit raised")
            self.part = sent // 2
        elif "DIGEST_INVALID" in said:
            await self._check_ours()
            self._forget()
        elif "NAME_UNKNOWN" in said or (status == 400 and "BLOB_UPLOAD_" not in said):
            raise Refused(
                f"{host}: an upload to {self.repository.path} is refused ({status}): {said[:500]}", status
            )
        elif status != 416:
            self._forget()
        raise Passing(f"a part of {self.blob.digest[:19]} is not taken ({status})")

    async def _check_ours(self) -> None:
        """The registry got other bytes than the digest's: is it our file? Then it goes, to be made anew."""
        source = self.blob.source
        if (
            isinstance(source, Path)
            and await anyio.to_thread.run_sync(oci.file_digest, source) != self.blob.digest
        ):
            source.unlink(missing_ok=True)
            raise RuntimeFailure(
                f"the layer {self.blob.digest[:19]} in the engine's store was damaged and is removed: "
                "run again, it is made anew"
            )

    async def _find_out(self) -> bool:
        """Where the upload is after a failure; whether the blob is complete."""
        if await self._is_there():
            return True
        if self.location:
            try:
                async with self.repository.once("GET", self.location, ok=(200, 202, 204)) as response:
                    told = told_offset(response)
                    self._moved(response)
                self.offset = told if told is not None and told <= self.blob.size else 0
                if told is None or told > self.blob.size:
                    self._forget()
            except Refused:
                self._forget()
        self.in_doubt = False
        return False

    def _forget(self) -> None:
        self.location, self.offset, self.in_doubt = "", 0, False

    def _moved(self, response: httpx.Response) -> None:
        location = response.headers.get("location")
        if not location:
            return
        self.location = urljoin(str(response.request.url), location)
        own = urlsplit(self.location).netloc == urlsplit(self.repository.base).netloc
        if own and self.blob.size > PART:
            self.facts.remember(_FACT, self._key, self.location)


def pieces(source: bytes | Path, start: int, end: int) -> Content:
    """The bytes from ``start`` to ``end``, read anew at each call, never much at a time."""

    async def read() -> AsyncIterator[bytes]:
        if isinstance(source, bytes):
            yield source[start:end]
            return
        stream: BinaryIO = await anyio.to_thread.run_sync(source.open, "rb")
        try:
            stream.seek(start)
            left = end - start
            while left:
                piece = await anyio.to_thread.run_sync(stream.read, min(left, _PIECE))
                if not piece:
                    raise RuntimeFailure(f"{source.name[:12]}: a layer in the engine's store is cut off")
                left -= len(piece)
                yield piece
        finally:
            stream.close()

    return read


def told_offset(response: httpx.Response) -> int | None:
    """How many bytes the registry has, by ``Range: 0-N``."""
    first, dash, last = response.headers.get("range", "").removeprefix("bytes=").partition("-")
    if not dash or not (first.isdigit() and last.isdigit()):
        return None
    return int(last) + 1 if int(last) else 0
