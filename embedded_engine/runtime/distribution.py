"""Speaking to one repository of a registry: https or http, logins, tokens, proxies, patience, repetition.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md, and for tokens
https://distribution.github.io/distribution/spec/auth/token/. Nothing waits without bound: a request that
stands still for ``patience_s`` has failed, and what fails is repeated a bounded number of times.
"""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import anyio
import httpx

from embedded_engine.runtime.auth_files import HUB
from embedded_engine.runtime.port import Login, RuntimeFailure
from embedded_engine.runtime.proxies import proxy_of
from embedded_engine.runtime.trust import tls_context

T = TypeVar("T")
Content = Callable[[], AsyncIterator[bytes]]
ATTEMPTS = 5
STALLS = 2
PAUSE_S = 0.3
_LONGEST_WAIT_S = 30.0
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class Refused(RuntimeFailure):
    """A registry's answer that repeating does not change."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Passing(Exception):
    """A failure that may not come again. ``stalled``: it took the whole patience."""

    def __init__(self, text: str, *, stalled: bool = False, after_s: float = 0) -> None:
        super().__init__(text)
        self.stalled = stalled
        self.after_s = after_s


@dataclass(slots=True)
class Repository:
    """A repository; ``schemes`` in the order to try. Use it as a context manager."""

    host: str
    path: str
    login: Login | None = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)
    insecure: bool = False
    patience_s: float = 60
    mounts: set[str] = field(default_factory=set)  # other repositories that blobs are mounted from
    base: str = ""
    _client: httpx.AsyncClient | None = None
    authorization: str = field(default="", repr=False)
    _lock: anyio.Lock = field(default_factory=anyio.Lock)

    async def __aenter__(self) -> Repository:
        """Find out how the registry is spoken to. Raises RuntimeFailure."""
        server = "registry-1.docker.io" if self.host in HUB else self.host
        for scheme in ("https", "http") if self.insecure else ("https",):
            self._client = self._connected(scheme, server)
            self.base = f"{scheme}://{server}"
            try:
                await self.repeated(self._greet)
            except Unspoken as error:
                await self._client.aclose()
                if not self.insecure:
                    raise RuntimeFailure(f"{self.host}: {error}") from None
                problem = error
            except BaseException:
                await self._client.aclose()
                raise
            else:
                return self
        raise RuntimeFailure(f"{self.host}: {problem}")

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    @property
    def client(self) -> httpx.AsyncClient:
        """The connections, while the context is entered."""
        if self._client is None:
            raise RuntimeError("a Repository is used inside its context")
        return self._client

    def _connected(self, scheme: str, server: str) -> httpx.AsyncClient:
        wait = httpx.Timeout(self.patience_s, connect=min(self.patience_s, 30), pool=None)
        context = scheme == "https" and tls_context(self.host, self.environ, verified=not self.insecure)
        proxy = proxy_of(scheme, server, self.environ)
        return httpx.AsyncClient(verify=context, proxy=proxy, trust_env=False, timeout=wait)

    async def _greet(self) -> None:
        try:
            async with self.once("GET", "/v2/", ok=(200, 401, 403, 404)):
                return
        except Passing as error:
            cause = error.__cause__
            if isinstance(cause, httpx.ConnectError | httpx.RemoteProtocolError | httpx.ProxyError):
                raise Unspoken(untrusted(str(cause), self.host)) from None
            raise

    async def repeated(self, action: Callable[[], Awaitable[T]], progress: Callable[[], int] = int) -> T:
        """Do ``action`` until it succeeds; what failed after ``progress`` grew does not count.

        Raises RuntimeFailure with the registry's name.
        """
        failures = stalls = 0
        reached = progress()
        while True:
            try:
                return await action()
            except Passing as error:
                if progress() > reached:
                    reached, failures, stalls = progress(), 0, 0
                failures, stalls = failures + 1, stalls + error.stalled
                if failures >= ATTEMPTS or stalls >= STALLS:
                    raise RuntimeFailure(
                        f"{self.host}: {error} (given up after {failures} attempts)"
                    ) from None
                await anyio.sleep(max(error.after_s, random.uniform(0.7, 1.3) * PAUSE_S * 2**failures))  # noqa: S311  # jitter

    def once(  # noqa: PLR0913  # a request is these things
        self,
        method: str,
        target: str,
        *,
        ok: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        content: Content | bytes | None = None,
        more_patience_s: float = 0,
    ) -> Exchange:
        """One request (with a new token if it needs one); a context manager that gives the response.

        Raises Refused, Passing.
        """
        return Exchange(
            self, method, urljoin(self.base, target), ok, dict(headers or {}), content, more_patience_s
        )

    async def authorize(self, challenge: str, used: str) -> bool:
        """Answer a 401's challenge; False if there is nothing (more) to answer with."""
        async with self._lock:
            if self.authorization != used:
                return True  # somebody else did meanwhile
            kind, _, rest = challenge.partition(" ")
            told = dict(_CHALLENGE.findall(rest))
            if kind.lower() == "bearer" and "realm" in told:
                fresh = f"Bearer {await self._token(told)}"
            elif kind.lower() == "basic" and self.login is not None:
                fresh = basic(self.login)
            else:
                return False
            changed, self.authorization = fresh != used, fresh
            return changed

    async def _token(self, told: Mapping[str, str]) -> str:
        client = self.client
        scopes = [
            f"repository:{self.path}:pull,push",
            *(f"repository:{one}:pull" for one in sorted(self.mounts)),
        ]
        service = {"service": told["service"]} if "service" in told else {}
        realm, login = told["realm"], self.login
        if login is not None and login.is_token:
            form = {**service, "grant_type": "refresh_token", "refresh_token": login.password}
            form |= {"client_id": "embedded-engine", "scope": " ".join(scopes)}
            request = client.build_request("POST", realm, data=form)
            auth = None
        else:
            query = httpx.QueryParams([*service.items(), *(("scope", scope) for scope in scopes)])
            request = client.build_request("GET", httpx.URL(realm).copy_merge_params(query))
            auth = httpx.BasicAuth(login.username, login.password) if login else None
        try:
            response = await client.send(request, auth=auth)
        except httpx.HTTPError as error:
            raise Passing(f"no token from {plain(realm)}: {told_error(error)}") from error
        if response.status_code in _TRANSIENT:
            raise Passing(f"no token from {plain(realm)}: {response.status_code}")
        if response.status_code != 200:
            raise Refused(
                f"failed to fetch oauth token: unexpected status from {request.method} request to "
                f"{plain(realm)}: {status_of(response)}",
                response.status_code,
            )
        try:
            document = response.json()
            return str(document.get("token") or document["access_token"])
        except (ValueError, KeyError, AttributeError):
            raise Refused(f"{plain(realm)} answers what is no token", 200) from None


class Unspoken(RuntimeFailure):
    """Nobody answers in this scheme."""


@dataclass(slots=True)
class Exchange:
    """One request and its answer."""

    repository: Repository
    method: str
    url: str
    ok: tuple[int, ...]
    headers: dict[str, str]
    content: Content | bytes | None
    more_patience_s: float
    _response: httpx.Response | None = None

    async def __aenter__(self) -> httpx.Response:
        """The response, its body not yet read."""
        for _ in range(3):
            used = self.repository.authorization
            response = self._response = await self._sent(used)
            if response.status_code != 401 or 401 in self.ok:
                break
            challenge = response.headers.get("www-authenticate", "")
            await response.aclose()
            if not await self.repository.authorize(challenge, used):
                break
        if response.status_code in self.ok:
            return response
        body = await self._read(response)
        text = f"unexpected status from {self.method} request to {plain(self.url)}: {status_of(response)}"
        if response.status_code in _TRANSIENT:
            raise Passing(text, after_s=retry_after(response))
        raise Refused(text + reasons(body), response.status_code)

    async def __aexit__(self, *_: object) -> None:
        """Give the connection back, or close it."""
        if self._response is not None:
            await self._response.aclose()

    async def _sent(self, authorization: str) -> httpx.Response:
        client = self.repository.client
        headers = dict(self.headers)
        if authorization and urlsplit(self.url).netloc == urlsplit(self.repository.base).netloc:
            headers["Authorization"] = authorization  # not for the store that an upload is sent on to
        content = self.content() if callable(self.content) else self.content
        patience = self.repository.patience_s
        wait = httpx.Timeout(
            patience, connect=min(patience, 30), read=patience + self.more_patience_s, pool=None
        )
        request = client.build_request(self.method, self.url, headers=headers, content=content, timeout=wait)
        try:
            return await client.send(request, stream=True, follow_redirects=self.method in ("GET", "HEAD"))
        except httpx.TimeoutException as error:
            what = "does not take a connection" if isinstance(error, httpx.ConnectTimeout) else "stands still"
            raise Passing(
                f"the registry {what} for {patience:.0f} s at {self.method} {plain(self.url)}"
                " (EMBEDDED_ENGINE_REGISTRY_TIMEOUT sets the seconds)",
                stalled=True,
            ) from error
        except (httpx.HTTPError, OSError) as error:
            raise Passing(f"{self.method} {plain(self.url)}: {told_error(error)}") from error

    async def _read(self, response: httpx.Response) -> bytes:
        try:
            return (await response.aread())[:10_000]
        except (httpx.HTTPError, httpx.StreamError):
            return b""
        finally:
            await response.aclose()


def told_error(error: Exception) -> str:
    """An HTTP library's error in words: its own are sometimes empty."""
    return str(error) or {"ReadError": "the connection was cut", "WriteError": "the connection was cut"}.get(
        type(error).__name__, type(error).__name__
    )


def untrusted(text: str, host: str) -> str:
    """Why a registry could not be spoken to at all, and what to do."""
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return (
            f"its certificate is not trusted ({text.rpartition('] ')[2] or text}): put the CA into "
            f"/etc/containers/certs.d/{host}/ca.crt, the machine's store or SSL_CERT_FILE"
        )
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text:
        return 'it speaks plain http: mark it with "insecure = true" in registries.conf if that is meant'
    return f"cannot be reached: {text or 'the connection was cut'}"


def basic(login: Login) -> str:
    """RFC 7617."""
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()


def status_of(response: httpx.Response) -> str:
    """As Docker's tools write it: 401 Unauthorized."""
    return f"{response.status_code} {response.reason_phrase}".strip()


def plain(url: str) -> str:
    """A URL without its query, which may be signed, and without a login."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def reasons(body: bytes) -> str:
    """What the registry's error document says (distribution-spec, "Error Codes"), bounded."""
    try:
        errors = json.loads(body)["errors"]
        said = [" ".join(str(one.get(key) or "") for key in ("code", "message")).strip() for one in errors]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return ": " + "; ".join(said)[:500] if any(said) else ""


def retry_after(response: httpx.Response) -> float:
    """The seconds a busy registry asks for, within reason."""
    text = response.headers.get("retry-after", "")
    return min(float(text), _LONGEST_WAIT_S) if text.isascii() and text.isdigit() else 0
