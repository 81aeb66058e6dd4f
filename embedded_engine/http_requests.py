"""One request of Query.http: what is asked for, with what, and its body onto the disk."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio

from embedded_engine.entries import TreeError
from embedded_engine.operations import Work
from embedded_engine.values import Secret, Service

if TYPE_CHECKING:
    import httpx

LIMIT_BYTES = 10 << 30
"""The largest file that is fetched; EMBEDDED_ENGINE_HTTP_LIMIT (bytes) says otherwise."""
MARGIN_BYTES = 64 << 20
STALL_S = 60
_CHECKSUM = re.compile(r"(sha256|sha384|sha512):([0-9a-f]+)")


class DownloadFailed(TreeError):
    """A file could not be had; the text says which (without credentials) and why."""


@dataclass(frozen=True, slots=True)
class Download:
    """What is asked for."""

    url: str = field(repr=False)  # may hold a token
    name: str
    mode: int = 0o600
    checksum: str = ""
    auth: Secret | None = None
    service: Service | None = None

    @property
    def shown(self) -> str:
        """The URL for people: no user, no password, no query."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()

    @property
    def key(self) -> str:
        """What is remembered of it goes by; the URL itself is not stored."""
        auth = self.auth.digest if self.auth else ""
        service = self.service.digest if self.service else ""
        return hashlib.sha256("\n".join((self.url, auth, service)).encode()).hexdigest()


def parse_checksum(text: str) -> tuple[str, str] | None:
    """Algorithm and hex digits. Raises DownloadFailed."""
    if not text:
        return None
    match = _CHECKSUM.fullmatch(text)
    if match is None or len(match[2]) != hashlib.new(match[1]).digest_size * 2:
        raise DownloadFailed(f'invalid checksum "{text}": it is written sha256:<64 hex digits>')
    return match[1], match[2]


def file_name(url: str) -> str:
    """The last part of the URL's path; "index" if there is none."""
    name = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    return name if name not in ("", ".", "..") else "index"


@dataclass(frozen=True, slots=True)
class Asking:
    """A client, the URL as it is asked for, and the headers."""

    client: httpx.AsyncClient
    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)


@asynccontextmanager
async def asking(work: Work, wanted: Download) -> AsyncIterator[Asking]:
    """What to ask with, through the proxies of the environment. Raises DownloadFailed."""
    import ssl  # noqa: PLC0415  # with httpx, only where it is used

    import httpx  # noqa: PLC0415

    if urlsplit(wanted.url).scheme not in ("http", "https"):
        raise DownloadFailed(f"http {wanted.shown}: the URL must begin with http:// or https://")
    headers = {"Accept-Encoding": "identity", "User-Agent": "embedded-engine"}
    if wanted.auth is not None:
        headers["Authorization"] = (await work.secrets.value(wanted.auth)).strip()
    url, transport = wanted.url, None
    if wanted.service is not None:
        url, transport = await _at_service(work, wanted, headers)
    options: dict[str, Any] = {"verify": ssl.create_default_context(), "follow_redirects": True}
    options["timeout"] = httpx.Timeout(STALL_S, connect=30)
    async with httpx.AsyncClient(trust_env=transport is None, **options) as client:
        yield Asking(client, url, headers)


async def _at_service(work: Work, wanted: Download, headers: dict[str, str]) -> tuple[str, bool]:
    """The URL with the service's address for its name, which only this engine knows."""
    from embedded_engine.services import hostname_of  # noqa: PLC0415  # services need the evaluator

    assert wanted.service is not None  # noqa: S101  # asked by the caller
    running = await work.services.running(work, wanted.service)
    parts = urlsplit(wanted.url)
    if parts.hostname != hostname_of(wanted.service):
        return wanted.url, True
    address, port = running.reach(parts.port or (443 if parts.scheme == "https" else 80))
    headers["Host"] = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{address}:{port}").geturl(), True


async def received(response: httpx.Response, target: Path, wanted: Download) -> None:
    """Write the body to ``target``. Raises DownloadFailed for one that is too large."""
    limit = _limit()
    length = response.headers.get("content-length", "")
    expected = int(length) if length.isascii() and length.isdigit() else 0
    free = shutil.disk_usage(target.parent).free - MARGIN_BYTES
    # once as it comes, and once more for a moment when it goes into the store
    if expected > limit or 2 * expected > free:
        bound = f"the disk has {free} free" if expected <= limit else f"the limit is {limit}"
        raise DownloadFailed(f"http {wanted.shown}: {expected} bytes are too many: {bound}")
    received = 0
    async with await anyio.open_file(target, "wb") as stream:
        async for chunk in response.aiter_raw(1 << 20):
            received += len(chunk)
            if received > limit:
                raise DownloadFailed(
                    f"http {wanted.shown}: more than {limit} bytes (EMBEDDED_ENGINE_HTTP_LIMIT)"
                )
            await stream.write(chunk)


def _limit() -> int:
    text = os.environ.get("EMBEDDED_ENGINE_HTTP_LIMIT", "")
    return int(text) if text.isascii() and text.isdigit() else LIMIT_BYTES


def reason_of(error: Exception) -> str:
    """An httpx error in words; some have none."""
    cause: BaseException | None = error
    while cause is not None:  # the system's own word is at the bottom: connection refused, name unknown
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    words = str(error).splitlines()
    name = type(error).__name__
    known = {"ReadTimeout": f"no data for {STALL_S} s", "ConnectTimeout": "no connection within 30 s"}
    return words[0] if words else known.get(name, name)
