"""Query.http: a file fetched over HTTP (RFC 9110), streamed to disk, kept by content.

What a server said of a file (ETag, Last-Modified) is remembered, so that an unchanged one is asked for but
not sent again. Nothing half-received is kept. Proxies come from the environment (HTTP_PROXY, HTTPS_PROXY,
NO_PROXY), certificates from the machine's store (SSL_CERT_FILE).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio

from embedded_engine.entries import DirEntry, FileEntry, TreeError
from embedded_engine.events import Events
from embedded_engine.http_requests import (
    Asking,
    Download,
    DownloadFailed,
    asking,
    parse_checksum,
    reason_of,
    received,
)
from embedded_engine.operations import TreeLeaf, Work
from embedded_engine.store import Store
from embedded_engine.tree_sources import in_thread
from embedded_engine.values import File

FACT = "http"
TRIES = 3
PAUSE_S = 0.5
_PASSING = (408, 425, 429, 500, 502, 503, 504)


@dataclass(slots=True)
class Downloads:
    """The files of one session: each URL is asked once."""

    store: Store
    events: Events = field(default_factory=Events)
    _got: dict[str, FileEntry] = field(default_factory=dict)
    _locks: dict[str, anyio.Lock] = field(default_factory=dict)

    async def file(self, work: Work, wanted: Download) -> File:
        """The file, by content. Raises DownloadFailed."""
        checksum = parse_checksum(wanted.checksum)
        async with self._locks.setdefault(wanted.key, anyio.Lock()):
            entry = self._got.get(wanted.key) or await self._shown(work, wanted, checksum)
            if checksum:
                await in_thread(lambda: _check(work, wanted, entry, checksum))
            self._got[wanted.key] = entry
        tree = DirEntry({wanted.name: replace(entry, mode=wanted.mode)})
        return File(TreeLeaf(await in_thread(lambda: work.trees.put(tree))), f"/{wanted.name}")

    async def _shown(self, work: Work, wanted: Download, checksum: tuple[str, str] | None) -> FileEntry:
        with self.events.activity("http", wanted.shown):
            return await self._tried(work, wanted, checksum)

    async def _tried(self, work: Work, wanted: Download, checksum: tuple[str, str] | None) -> FileEntry:
        import httpx  # noqa: PLC0415  # 0.1 s that a session without downloads need not pay

        for left in range(TRIES - 1, -1, -1):
            try:
                async with asking(work, wanted) as ask:
                    return await self._fetched(work, wanted, ask, checksum)
            except _Passing as passing:
                if not left:
                    raise DownloadFailed(str(passing)) from passing
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                lasting = isinstance(
                    error, httpx.UnsupportedProtocol | httpx.InvalidURL | httpx.TooManyRedirects
                )
                if lasting or not left:
                    raise DownloadFailed(f"http {wanted.shown}: {reason_of(error)}") from None
            await anyio.sleep(PAUSE_S * (TRIES - left))
        raise AssertionError("the last try ends in a file or an error")

    async def _fetched(
        self,
        work: Work,
        wanted: Download,
        ask: Asking,
        checksum: tuple[str, str] | None,
    ) -> FileEntry:
        known = self._known(work, wanted)
        headers = {**ask.headers, **(_conditions(known[1]) if known else {})}
        async with ask.client.stream("GET", ask.url, headers=headers) as response:
            if response.status_code == 304 and known is not None:
                return known[0]
            if response.status_code != 200:
                status = f"http {wanted.shown}: invalid response status {response.status_code}"
                text = f"{status} {response.reason_phrase}".rstrip()
                raise (_Passing if response.status_code in _PASSING else DownloadFailed)(text)
            async with work.scratch() as scratch:
                target = scratch / "file"
                await received(response, target, wanted)
                entry = await in_thread(lambda: _stored(work, target))
        said = {name: response.headers.get(name) for name in ("etag", "last-modified")}
        if checksum:
            await in_thread(lambda: _check(work, wanted, entry, checksum))
        self.store.remember(FACT, wanted.key, [entry.sha256, entry.size, said])
        return entry

    def _known(self, work: Work, wanted: Download) -> tuple[FileEntry, dict[str, str]] | None:
        fact = self.store.fact(FACT, wanted.key)
        if not isinstance(fact, list):
            return None
        sha256, size, said = fact
        entry = FileEntry(str(sha256), int(str(size)), 0o600)
        try:
            work.trees.blobs.content(entry)
        except TreeError:
            return None
        return entry, said if isinstance(said, dict) else {}  # type: ignore[return-value]  # as it was stored


class _Passing(Exception):
    """A status that may be gone at the next try."""


def _conditions(said: dict[str, str]) -> dict[str, str]:
    """RFC 9110, 13.1: If-None-Match where there is an ETag, else If-Modified-Since."""
    if said.get("etag"):
        return {"If-None-Match": said["etag"]}
    return {"If-Modified-Since": said["last-modified"]} if said.get("last-modified") else {}


def _stored(work: Work, target: Path) -> FileEntry:
    descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return work.trees.blobs.add_stream(descriptor, mode=0o600)
    finally:
        os.close(descriptor)


def _check(work: Work, wanted: Download, entry: FileEntry, checksum: tuple[str, str]) -> None:
    algorithm, digits = checksum
    found = entry.sha256
    if algorithm != "sha256":
        with work.trees.blobs.content(entry).open("rb") as stream:
            found = hashlib.file_digest(stream, algorithm).hexdigest()
    if found != digits:
        raise DownloadFailed(
            f"http {wanted.shown}: checksum mismatch: expected {algorithm}:{digits}, got {algorithm}:{found}"
        )
