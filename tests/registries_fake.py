"""A registry that speaks the distribution protocol on loopback, in this process, and fails as it is told.

``Ways`` are what real registries do otherwise than the specification; ``faults`` and ``cuts`` go wrong.
"""

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
from pipelines.registries.descriptors import OCI_INDEX
from pipelines.registries.oci import OciRegistry
from pipelines.registries.reference import Repository
from pipelines.registries.retries import Retries

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
    stalls_after: int | None = None
    """After so many bytes of the body nothing comes any more."""


CUT = Response(0)
"""A fault: the connection ends without an answer."""


@dataclass(slots=True)
class Ways:
    """How this registry differs from the specification, as real ones do."""

    takes_parts: bool = True
    """False: PATCH is refused (Artifact Registry)."""
    part_answer: int = 202
    """ECR: 201."""
    range_is_stuck: bool = False
    """``Range`` stays at the end of the first part (ECR)."""
    tells_progress: bool = True
    """GET on an upload answers; else 404 (ECR)."""
    explains_position: bool = False
    """416 names the expected byte in its message instead of a header (ECR)."""
    least_part: int = 0
    """Smaller parts, but for the last, are refused with 400 (ECR)."""
    asks_least: int = 0
    """``OCI-Chunk-Min-Length``."""
    largest_body: int | None = None
    """Bigger requests get 413, as from a proxy."""
    too_large_answer: int = 413
    state_of_offset: bool = False
    """The address holds the offset, and a request with another one gets 404 (docker-registry 2.8 and 3)."""
    lists_referrers: bool = False
    """The referrers API, and ``OCI-Subject``."""
    tells_subject: bool = True
    """With the API: some forget that header (go-containerregistry's)."""
    mounts: bool = True


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

    def __init__(self, *, creates_repositories: bool = True, ways: Ways | None = None) -> None:
        self.ways = ways or Ways()
        self.uploads: dict[str, bytearray] = {}
        self.first_parts: dict[str, int] = {}
        self.began = 0
        self.cuts: list[tuple[str, int]] = []
        """Methods of uploads whose body is cut after so many bytes, which are kept; one after the other."""
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
                if await self._cut_body(request, reader):
                    return
                request.body = await reader.readexactly(int(request.headers.get("content-length", 0)))
                self.log.append(request)
                response = self._faulty(request) or self._answer(request)
                if response is CUT:
                    return
                answer = _bytes_of(response, head_only=request.method == "HEAD")
                if response.stalls_after is not None:
                    writer.write(answer[: len(answer) - len(response.body) + response.stalls_after])
                    await reader.read(1)  # until the other side has had enough
                    return
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _cut_body(self, request: Request, reader: asyncio.StreamReader) -> bool:
        if not self.cuts or self.cuts[0][0] != request.method or "/blobs/uploads/" not in request.path:
            return False
        _, kept = self.cuts.pop(0)
        body = await reader.readexactly(kept)
        self.log.append(Request(request.method, request.path, request.query, request.headers, body))
        if held := self.uploads.get(request.path.rpartition("/")[2]):
            held += body
        elif kept:
            self.uploads[request.path.rpartition("/")[2]] = bytearray(body)
        return True

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
        match = re.fullmatch(
            r"/v2/(.+?)/(blobs/uploads/.*|blobs/.+|manifests/.+|referrers/.+|tags/list)", request.path
        )
        if match is None:
            return Response(404)
        what = match[2]
        if what.startswith("blobs/uploads/"):
            return self._upload(request, match[1])
        if what.startswith("blobs/"):
            return self._blob(request, what.removeprefix("blobs/"))
        if what.startswith("manifests/"):
            return self._manifest(request, what.removeprefix("manifests/"))
        if what.startswith("referrers/"):
            return self._referrers(what.removeprefix("referrers/"))
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
            return self._begin_upload(request, repository)
        place = request.path.rpartition("/")[2]
        if request.method == "DELETE":
            self.uploads_abandoned += 1
            self.uploads.pop(place, None)
            return Response(204)
        held = self.uploads.get(place)
        if held is None or request.query.get("_state") != self._state(held):
            return error(404, "BLOB_UPLOAD_INVALID", "blob upload invalid")
        if request.method == "GET":
            return (
                Response(204, self._progress(request.path, held))
                if self.ways.tells_progress
                else error(404, "X")
            )
        if self.ways.largest_body is not None and len(request.body) > self.ways.largest_body:
            return error(self.ways.too_large_answer, "TOO_BIG", "the request body is too large")
        if refused := self._misplaced(request, held):
            return refused
        if request.method == "PATCH":
            return self._take_part(request, place, held)
        held += request.body
        del self.uploads[place]
        digest = digest_of(bytes(held))
        if digest != request.query.get("digest"):
            return error(400, "DIGEST_INVALID")
        self.blobs[digest] = bytes(held)
        return Response(201, {"Docker-Content-Digest": digest})

    def _begin_upload(self, request: Request, repository: str) -> Response:
        if not self.creates_repositories:
            return error(404, "NAME_UNKNOWN", "repository name not known to registry")
        if self.ways.mounts and request.query.get("mount") in self.blobs:
            return Response(201, {"Docker-Content-Digest": request.query["mount"]})
        self.began += 1
        self.uploads[str(self.began)] = bytearray()
        least = {"OCI-Chunk-Min-Length": str(self.ways.asks_least)} if self.ways.asks_least else {}
        path = f"/v2/{repository}/blobs/uploads/{self.began}"
        return Response(202, self._progress(path, bytearray()) | least)

    def _misplaced(self, request: Request, held: bytearray) -> Response | None:
        if request.method == "PATCH" and not self.ways.takes_parts:
            return error(405, "UNSUPPORTED", "the operation is unsupported")
        first, _, last = request.headers.get("content-range", f"{len(held)}-").partition("-")
        if int(first) != len(held):
            if self.ways.explains_position:
                said = f"First byte of the layer part is {first} instead of {len(held)}"
                return error(416, "BLOB_UPLOAD_INVALID", said)
            return Response(416, self._progress(request.path, held))
        if last and int(last) - int(first) + 1 != len(request.body):
            return error(400, "SIZE_INVALID")
        if request.method == "PATCH" and len(request.body) < self.ways.least_part:
            return error(
                400, "BLOB_UPLOAD_INVALID", "All layer parts except the last part should be at least 5MB"
            )
        return None

    def _take_part(self, request: Request, place: str, held: bytearray) -> Response:
        held += request.body
        self.first_parts.setdefault(place, len(held))
        headers = self._progress(request.path, held)
        if self.ways.range_is_stuck:
            headers["Range"] = f"0-{self.first_parts[place] - 1}"
        return Response(self.ways.part_answer, headers)

    def _state(self, held: bytearray) -> str:
        return f"abc{len(held)}" if self.ways.state_of_offset else "abc"

    def _progress(self, path: str, held: bytearray) -> dict[str, str]:
        return {"Location": f"{path}?_state={self._state(held)}", "Range": f"0-{max(len(held) - 1, 0)}"}

    def _referrers(self, digest: str) -> Response:
        if not self.ways.lists_referrers:
            return Response(404, {"Content-Type": "text/plain"}, b"404 page not found")
        found = []
        for own, (media_type, body) in self.manifests.items():
            content = json.loads(body)
            if content.get("subject", {}).get("digest") == digest:
                kind = content.get("artifactType") or content.get("config", {}).get("mediaType", "")
                found.append(
                    {"mediaType": media_type, "digest": own, "size": len(body), "artifactType": kind}
                    | ({"annotations": content["annotations"]} if "annotations" in content else {})
                )
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
        return Response(200, {"Content-Type": OCI_INDEX}, json.dumps(index).encode())

    def _blob(self, request: Request, digest: str) -> Response:
        body = self.blobs.get(digest)
        return error(404, "BLOB_UNKNOWN") if body is None else Response(200, {}, body)

    def _manifest(self, request: Request, reference: str) -> Response:
        if request.method == "PUT":
            digest = digest_of(request.body)
            self.manifests[digest] = (request.headers["content-type"], request.body)
            if not reference.startswith("sha256:"):
                self.tags[reference] = digest
            subject = json.loads(request.body).get("subject") if self.ways.lists_referrers else None
            subject = subject if self.ways.tells_subject else None
            told = {"OCI-Subject": subject["digest"]} if subject else {}
            return Response(201, {"Docker-Content-Digest": digest} | told)
        if request.method == "DELETE":
            return self._delete(reference)
        digest = self.tags.get(reference, reference)
        if digest not in self.manifests:
            return error(404, "MANIFEST_UNKNOWN")
        media_type, body = self.manifests[digest]
        return Response(200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, body)

    def _delete(self, reference: str) -> Response:
        if reference in self.tags:
            del self.tags[reference]
            return Response(202)
        if self.manifests.pop(reference, None) is None:
            return error(404, "MANIFEST_UNKNOWN")
        self.tags = {tag: digest for tag, digest in self.tags.items() if digest != reference}
        return Response(202)

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
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return Request(method, parts.path, query, headers, b"")


def _bytes_of(response: Response, *, head_only: bool) -> bytes:
    headers = {"Content-Length": str(len(response.body)), **response.headers}
    lines = [f"HTTP/1.1 {response.status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head_only else response.body)
