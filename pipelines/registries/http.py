"""One registry over HTTP: login, retries, and every failure as a plain reason with the host named.

The retry rules are the design's: 408, 425, 429, 5xx, broken connections; jitter, Retry-After, and an end.
"""

from __future__ import annotations

import os
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import anyio
import httpx

from pipelines.config_registries import is_loopback
from pipelines.registries.auth import Authenticator, Challenge
from pipelines.registries.errors import BrokenContent, RegistryError, ServerFault
from pipelines.registries.reasons import connection_error, is_worth_retrying, refusal
from pipelines.registries.reference import Repository

T = TypeVar("T")
Content = Callable[[], AsyncIterator[bytes]]
"""Makes the body of a request anew for every attempt."""

ANSWER_LIMIT = 1024 * 1024
TIMEOUT = httpx.Timeout(connect=10, read=120, write=60, pool=None)
_FEW = {httpx.ConnectError: 3, httpx.ConnectTimeout: 2}
_RETRIED = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Retries:
    """How patient to be: waits of about 0.25, 0.5, 1, 2 … seconds, or what the registry asks for."""

    attempts: int = 5
    first_wait_s: float = 0.25
    longest_wait_s: float = 30.0

    def wait_s(self, attempt: int, asked_s: float | None) -> float | None:
        """The wait after the ``attempt``-th failure (from 1), or None to give up."""
        if attempt >= self.attempts or (asked_s is not None and asked_s > self.longest_wait_s):
            return None
        own: float = self.first_wait_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311  jitter, not a secret
        return min(self.longest_wait_s, max(own, asked_s or 0.0))


@dataclass(frozen=True, slots=True)
class Call:
    """A request: ``target`` is seen from the registry's root, ``ok`` are the answers that are no failure."""

    method: str
    target: str
    ok: Collection[int] = (200,)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | Content | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its body is small and in memory."""

    status: int
    headers: httpx.Headers
    body: bytes


class TryAgain(Exception):
    """An attempt failed in a way that may pass. Only inside this package: ``retrying`` raises ``error``."""

    def __init__(
        self, error: RegistryError, *, asked_s: float | None = None, attempts: int | None = None
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.asked_s = asked_s
        self.attempts = attempts
        """Fewer than usual, where another attempt hardly helps."""


class Connection:
    """Requests to the registry of one repository, over one HTTP client, as long as ``opened``."""

    def __init__(
        self, http: httpx.AsyncClient, repository: Repository, authenticator: Authenticator, retries: Retries
    ) -> None:
        self.repository = repository
        self._http = http
        self._authenticator = authenticator
        self._retries = retries
        self._base = httpx.URL(repository.base_url)

    async def request(self, call: Call, limit: int = ANSWER_LIMIT) -> Answer:
        """Send until it works or ``Retries`` ends, and read the answer. Raises RegistryError."""

        async def attempt() -> Answer:
            async with self.once(call) as response:
                return Answer(response.status_code, response.headers, await self._read(response, limit))

        return await self.retrying(attempt)

    async def retrying(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do ``attempt``, and again where it raises TryAgain, with growing waits. Raises RegistryError."""
        count = 0
        while True:
            count += 1
            try:
                return await attempt()
            except TryAgain as err:
                wait_s = self._retries.wait_s(count, err.asked_s)
                if wait_s is None or count == err.attempts:
                    raise err.error from err
                await anyio.sleep(wait_s)

    @asynccontextmanager
    async def once(self, call: Call) -> AsyncIterator[httpx.Response]:
        """One attempt (with a new login where that is asked for); the answer's body is still to be read.

        Raises:
            TryAgain: it may work the next time.
            RegistryError: it will not.
        """
        try:
            response = await self._with_login(call)
            try:
                if response.status_code not in call.ok:
                    raise await self._refused(call.method, response)
                yield response
            finally:
                await response.aclose()
        except httpx.HTTPError as err:
            error = connection_error(self._host_of(err), err)
            if not is_worth_retrying(err):
                raise error from err
            # Nobody there: a wrong address far more often than a registry that starts. Say so soon.
            few = next((count for kind, count in _FEW.items() if isinstance(err, kind)), None)
            raise TryAgain(error, attempts=few) from err

    def url(self, target: str) -> httpx.URL:
        """``target`` from the registry's root. One behind a TLS proxy may say http of itself: put right."""
        try:
            url = self._base.join(target)
        except httpx.InvalidURL as err:
            raise ServerFault(
                f"{self.repository.host} points to {target[:200]!r}, which is no address"
            ) from err
        if url.scheme == "http" and self._base.scheme == "https" and url.host == self._base.host:
            url = url.copy_with(scheme="https", port=self._base.port)
        return url

    async def _with_login(self, call: Call) -> httpx.Response:
        own = self._same_origin(self.url(call.target))
        used = self._authenticator.header if own else None
        response = await self._send(call, used)
        if response.status_code != 401 or not own:
            return response
        await response.aclose()
        challenge = Challenge.parse(response.headers.get("WWW-Authenticate", ""))
        await self._authenticator.renew(self._http, challenge, refused=used)
        return await self._send(call, self._authenticator.header)

    async def _send(self, call: Call, authorization: str | None) -> httpx.Response:
        headers = dict(call.headers) | ({"Authorization": authorization} if authorization else {})
        content = call.content() if callable(call.content) else call.content
        request = self._http.build_request(
            call.method, self.url(call.target), headers=headers, content=content
        )
        # httpx drops Authorization when a redirect leads to another host (a store's signed URL).
        return await self._http.send(request, stream=True, follow_redirects=call.method in ("GET", "HEAD"))

    def _host_of(self, err: httpx.HTTPError) -> str:
        """The host that failed: a token endpoint or a blob store may be another than the registry."""
        try:
            return err.request.url.netloc.decode()
        except RuntimeError:  # the error came before there was a request
            return self.repository.host

    def _same_origin(self, url: httpx.URL) -> bool:
        return (url.scheme, url.host, url.port) == (self._base.scheme, self._base.host, self._base.port)

    async def _refused(self, method: str, response: httpx.Response) -> RegistryError | TryAgain:
        body = await self._read(response, ANSWER_LIMIT) if method != "HEAD" else b""
        error = refusal(self.repository, method, response.status_code, body)
        if response.status_code in _RETRIED or response.status_code in (500, 502, 503, 504):
            return TryAgain(error, asked_s=retry_after_s(response.headers.get("Retry-After", "")))
        return error

    async def _read(self, response: httpx.Response, limit: int) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > limit:
                raise BrokenContent(f"{self.repository.host} answers with more than {limit} bytes")
        return bytes(body)


def retry_after_s(header: str) -> float | None:
    """The seconds of a Retry-After header, which holds a number or a date (RFC 9110, 10.2.3)."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def new_http_client(repository: Repository) -> httpx.AsyncClient:
    """A client for one push or one trace. Proxies come from the environment, but never for loopback."""
    plain = repository.base_url.startswith("http:")
    return httpx.AsyncClient(
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else trusted_authorities(repository.ca_file),
        trust_env=not is_loopback(repository.host),
        timeout=TIMEOUT,
        limits=httpx.Limits(max_connections=16, max_keepalive_connections=16),
        headers={"User-Agent": "modelport", "Accept-Encoding": "identity"},
    )


def trusted_authorities(ca_file: str = "") -> ssl.SSLContext:
    """The machine's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR; else certifi's; and ``ca_file``.

    Raises:
        RegistryError: ``ca_file`` holds no certificate.
    """
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not paths.capath and "SSL_CERT_FILE" not in os.environ:
        import certifi  # noqa: PLC0415  only where Python brings no CAs

        context.load_verify_locations(certifi.where())
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as err:  # ssl.SSLError is one too
            raise RegistryError(
                f"ca_file {ca_file} can't be used: {err.strerror or 'it holds no certificate'}",
                hint="it has to hold the authority's certificate as PEM text",
            ) from err
    return context
