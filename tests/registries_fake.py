"""A registry that speaks the distribution protocol on loopback, in this process, and fails as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from pipelines.registries.credentials import Login
from pipelines.registries.retries import Retries
from pipelines.registries.oci import OciRegistry
from pipelines.registries.reference import Repository

QUICK = Retries(attempts=4, first_wait_s=0.001, longest_wait_s=2)


def target(host: str, login: Login | None = None, path: str = "models/langid") -> OciRegistry:
    """A repository of a registry on loopback, and an impatient client for it."""

    async def known() -> Login | None:
        return login

    return OciRegistry(Repository(host, path), known, retries=QUICK)


@dataclass(slots=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Response:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


CUT = Response(0)
"""A fault: the connection ends without an answer."""


@dataclass(slots=True)
class Fault:
    """For the next ``times`` requests that match, ``response`` instead of the truth."""

    method: str
    path: str
    response: Response | Callable[[Request], Response | None]
    times: int = 1


def error(status: int, code: str, message: str = "", headers: dict[str, str] | None = None) -> Response:
    body = json.dumps({"errors": [{"code": code, "message": message or code.lower()}]}).encode()
    return Response(status, headers or {}, body)


def digest_of(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


class FakeRegistry:
    """Blobs, manifests and tags in memory. ``log`` is every request, ``faults`` are what goes wrong."""

    def __init__(self, *, creates_repositories: bool = True) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.tags: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.creates_repositories = creates_repositories
        self.basic: str | None = None
        """The Authorization header that is asked for."""
        self.token_login: str | None = None
        """With a token endpoint: the Authorization header that it takes."""
        self.valid_tokens: set[str] = set()
        self.minted = 0
        self.uploads_abandoned = 0
        self.port = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def fault(
        self,
        method: str,
        path: str,
        response: Response | Callable[[Request], Response | None],
        times: int = 1,
    ) -> None:
        self.faults.append(Fault(method, path, response, times))

    def asked(self, method: str, path: str = "") -> list[str]:
        return [
            request.path for request in self.log if request.method == method and re.search(path, request.path)
        ]

    def order(self) -> list[str]:
        """What was written, in order: blob, manifest (by digest), tag NAME."""
        names = []
        for request in self.log:
            if request.method != "PUT":
                continue
            last = request.path.rpartition("/")[2]
            if "/manifests/" in request.path:
                names.append("manifest" if last.startswith("sha256:") else f"tag {last}")
            else:
                names.append("blob")
        return names

    @contextlib.asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeRegistry]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _read_request(reader):
                if request.method == "TLS":
                    writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                    return
                self.log.append(request)
                response = self._faulty(request) or self._answer(request)
                if response is CUT:
                    return
                writer.write(_bytes_of(response, head_only=request.method == "HEAD"))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _faulty(self, request: Request) -> Response | None:
        for fault in self.faults:
            if fault.times and fault.method == request.method and re.search(fault.path, request.path):
                fault.times -= 1
                return fault.response(request) if callable(fault.response) else fault.response
        return None

    def _answer(self, request: Request) -> Response:
        if request.path == "/token":
            return self._token(request)
        if refused := self._unauthorised(request):
            return refused
        match = re.fullmatch(r"/v2/(.+?)/(blobs/uploads/.*|blobs/.+|manifests/.+|tags/list)", request.path)
        if match is None:
            return Response(404)
        what = match[2]
        if what.startswith("blobs/uploads/"):
            return self._upload(request, match[1])
        if what.startswith("blobs/"):
            return self._blob(request, what.removeprefix("blobs/"))
        if what.startswith("manifests/"):
            return self._manifest(request, what.removeprefix("manifests/"))
        return self._tag_list(request)

    def _token(self, request: Request) -> Response:
        if self.token_login and request.headers.get("authorization") != self.token_login:
            return error(401, "UNAUTHORIZED")
        self.minted += 1
        token = f"token-{self.minted}"
        self.valid_tokens.add(token)
        return Response(200, {"Content-Type": "application/json"}, json.dumps({"token": token}).encode())

    def _unauthorised(self, request: Request) -> Response | None:
        given = request.headers.get("authorization", "")
        if self.basic and given != self.basic:
            return error(401, "UNAUTHORIZED", headers={"WWW-Authenticate": 'Basic realm="test"'})
        if self.token_login is not None and given.removeprefix("Bearer ") not in self.valid_tokens:
            challenge = f'Bearer realm="http://{self.host}/token",service="fake",scope="repository:x:pull"'
            return error(401, "UNAUTHORIZED", headers={"WWW-Authenticate": challenge})
        return None

    def _upload(self, request: Request, repository: str) -> Response:
        if request.method == "POST":
            if not self.creates_repositories:
                return error(404, "NAME_UNKNOWN", "repository name not known to registry")
            return Response(202, {"Location": f"/v2/{repository}/blobs/uploads/1?_state=abc"})
        if request.method == "DELETE":
            self.uploads_abandoned += 1
            return Response(204)
        digest = digest_of(request.body)
        if digest != request.query.get("digest") or request.query.get("_state") != "abc":
            return error(400, "DIGEST_INVALID")
        self.blobs[digest] = request.body
        return Response(201, {"Docker-Content-Digest": digest})

    def _blob(self, request: Request, digest: str) -> Response:
        body = self.blobs.get(digest)
        return error(404, "BLOB_UNKNOWN") if body is None else Response(200, {}, body)

    def _manifest(self, request: Request, reference: str) -> Response:
        if request.method == "PUT":
            digest = digest_of(request.body)
            self.manifests[digest] = (request.headers["content-type"], request.body)
            if not reference.startswith("sha256:"):
                self.tags[reference] = digest
            return Response(201, {"Docker-Content-Digest": digest})
        digest = self.tags.get(reference, reference)
        if digest not in self.manifests:
            return error(404, "MANIFEST_UNKNOWN")
        media_type, body = self.manifests[digest]
        return Response(200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, body)

    def _tag_list(self, request: Request) -> Response:
        names = sorted(self.tags)
        start = int(request.query.get("last", 0))
        headers = {"Link": f'<{request.path}?last={start + 2}>; rel="next"'} if len(names) > start + 2 else {}
        return Response(200, headers, json.dumps({"name": "x", "tags": names[start : start + 2]}).encode())


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        first_byte = await reader.readexactly(1)
        if first_byte == b"\x16":  # a TLS handshake, which a server without TLS answers as it can
            return Request("TLS", "", {}, {}, b"")
        head = (first_byte + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return Request(method, parts.path, query, headers, body)


def _bytes_of(response: Response, *, head_only: bool) -> bytes:
    headers = {"Content-Length": str(len(response.body)), **response.headers}
    lines = [f"HTTP/1.1 {response.status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head_only else response.body)
