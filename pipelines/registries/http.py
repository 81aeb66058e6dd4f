"""One registry over HTTP: login, retries, and every failure as a plain reason with the host named.

The retry rules are the design's: 408, 425, 429, 5xx, broken connections; jitter, Retry-After, and an end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
import httpx

from pipelines.registries.auth import Authenticator, Challenge
from pipelines.registries.errors import BrokenContent, RegistryError, ServerFault
from pipelines.registries.quirks import Quirks
from pipelines.registries.reasons import connection_error, is_worth_retrying, refusal
from pipelines.registries.reference import Repository
from pipelines.registries.retries import Retries, TryAgain, retry_after_s

T = TypeVar("T")
Content = Callable[[], AsyncIterator[bytes]]
"""Makes the body of a request anew for every attempt."""

ANSWER_LIMIT = 1024 * 1024
_FEW = {httpx.ConnectError: 3, httpx.ConnectTimeout: 2}
_RETRIED = frozenset({408, 425, 429})
_BROKEN_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Call:
    """A request: ``target`` is seen from the registry's root, ``ok`` are the answers that are no failure."""

    method: str
    target: str
    ok: Collection[int] = (200,)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | Content | None = field(default=None, repr=False)
    patience_s: float = 0.0
    """How much longer than usual the answer may take."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its body is small and in memory."""

    status: int
    headers: httpx.Headers
    body: bytes


@contextmanager
def broken_on_its_way() -> Iterator[None]:
    """BrokenContent within is worth a few more attempts: a proxy may have spoilt what is well at home."""
    try:
        yield
    except BrokenContent as err:
        raise TryAgain(err, attempts=_BROKEN_ATTEMPTS) from err


def _any(answer: Answer) -> None:
    """Every answer is well."""


class Connection:
    """Requests to the registry of one repository, over one HTTP client, as long as ``opened``."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        repository: Repository,
        authenticator: Authenticator,
        retries: Retries,
        quirks: Quirks,
    ) -> None:
        self.repository = repository
        self.quirks = quirks
        self._http = http
        self._authenticator = authenticator
        self._retries = retries
        self._base = httpx.URL(repository.base_url)

    async def request(
        self, call: Call, limit: int = ANSWER_LIMIT, check: Callable[[Answer], None] = _any
    ) -> Answer:
        """Send until it works or ``Retries`` ends, and read the answer. Raises RegistryError.

        What ``check`` finds broken (BrokenContent) is asked for again: it may have broken on its way.
        """

        async def attempt() -> Answer:
            async with self.once(call) as response:
                answer = Answer(response.status_code, response.headers, await self._read(response, limit))
            with broken_on_its_way():
                check(answer)
            return answer

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

    def url(self, target: str, seen_from: httpx.URL | None = None) -> httpx.URL:
        """``target`` from the registry's root, or from the address that named it.

        A registry behind a TLS proxy may say http of itself: that is put right.
        """
        try:
            url = (seen_from or self._base).join(target)
        except httpx.InvalidURL as err:
            raise ServerFault(
                f"{self.repository.host} points to {target[:200]!r}, which is no address"
            ) from err
        if url.scheme == "http" and self._base.scheme == "https" and url.host == self._base.host:
            url = url.copy_with(scheme="https", port=self._base.port)
        return url

    def refusal(self, method: str, status: int, body: bytes) -> RegistryError:
        """What an answer that is not a success means here."""
        return refusal(self.repository, self.quirks, method, status, body)

    async def read_text(self, response: httpx.Response) -> str:
        """What a refusal says: a short body."""
        return (await self._read(response, ANSWER_LIMIT)).decode("utf-8", "replace")

    async def _with_login(self, call: Call) -> httpx.Response:
        own = self._same_origin(self.url(call.target))
        used = self._authenticator.header if own else None
        response = await self._send(call, used)
        ended = response.status_code == 403 and self.quirks.ended_is_forbidden and used is not None
        if not own or (response.status_code != 401 and not ended):
            return response
        response = await self._again(call, response, used)
        given = self._authenticator.header
        if response.status_code == 401 and used is None and (given or "").startswith("Basic "):
            # A cloud's password may have been kept from an earlier connection: its source gives another now.
            response = await self._again(call, response, given)
        return response

    async def _again(self, call: Call, refused: httpx.Response, used: str | None) -> httpx.Response:
        """The request with another login than ``used``; the refusal itself where there is no other."""
        challenge = Challenge.parse(refused.headers.get("WWW-Authenticate", ""))
        if refused.status_code == 403:  # it comes without a challenge
            challenge = Challenge("basic", {})
        await self._authenticator.renew(self._http, challenge, refused=used)
        if self._authenticator.header == used:
            return refused
        await refused.aclose()
        return await self._send(call, self._authenticator.header)

    async def _send(self, call: Call, authorization: str | None) -> httpx.Response:
        headers = dict(call.headers) | ({"Authorization": authorization} if authorization else {})
        if not callable(call.content):
            return await self._send_body(call, headers, call.content)
        body = call.content()
        try:
            return await self._send_body(call, headers, body)
        finally:  # a generator that a failure left in its middle holds its file open
            if isinstance(body, AsyncGenerator):
                await body.aclose()

    async def _send_body(
        self, call: Call, headers: Mapping[str, str], content: bytes | AsyncIterator[bytes] | None
    ) -> httpx.Response:
        timeout = httpx.Timeout(self._http.timeout)
        timeout.read = self._retries.silence_s + call.patience_s
        request = self._http.build_request(
            call.method, self.url(call.target), headers=headers, content=content, timeout=timeout
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
        error = self.refusal(method, response.status_code, body)
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
