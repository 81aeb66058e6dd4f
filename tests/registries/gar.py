"""Artifact Registry on loopback: Google's logins and API, and its ways of the data plane.

    with running_registry(directory, password=True) as registry, GarFront(registry).running() as front:
        front.repositories.add(front.resource("models"))   # "demo-project/models/IMAGE" may be pushed to now
        environ = front.environ(directory)                 # and this is how modelport is told of it
        ...                                                # kind: gar, at front.host

A real registry keeps the images. What is Google's: the challenge, and the token at ``/v2/token`` (by Basic
``oauth2accesstoken``, ``_json_key`` …); uploads go to ``/artifacts-uploads/…``, blobs come from
``/artifacts-downloads/…`` by a redirect; a blob comes in one piece: a part (``Content-Range``) or a second
PATCH is refused; a repository has to be there; where ``immutableTags`` is set, a tag that is taken is refused
with Google's words.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.registries.google import Identities, Repositories
from tests.registries.web import Answered, Asked, Send, WebServer, serving
from tests.registry_process import RegistryProcess, free_port

_TOKEN_USERS = ("oauth2accesstoken", "_token", "_dcgcloud_token")
_NAMED = re.compile(r"/v2/([^/]+)/([^/]+)/(.+)/(blobs|manifests|tags|referrers)/(.*)")
_DROPPED = frozenset({"host", "connection", "authorization", "transfer-encoding", "expect"})
_UPLOADS, _DOWNLOADS = "artifacts-uploads", "artifacts-downloads"


class GarFront(WebServer):
    """Artifact Registry of one project and location, on a port of its own, before ``registry``.

    ``identities`` are its logins, ``repositories`` its API's resources, ``log`` each request to the data
    plane; ``running()`` serves it.
    """

    project = "demo-project"
    location = "europe-west1"

    def __init__(self, registry: RegistryProcess, port: int = 0) -> None:
        super().__init__(port or free_port(), None)
        self.registry = registry
        self.host = f"127.0.0.1:{self.port}"
        self._http: httpx.AsyncClient | None = None
        self.forget()

    async def close(self) -> None:
        """See ``WebServer``."""
        if self._http is not None:
            await self._http.aclose()

    def forget(self) -> None:
        """All but the images: as it was at the start."""
        self.identities = Identities(f"http://{self.host}")
        self.repositories = Repositories(self.identities)
        self.log: list[tuple[str, str]] = []
        self._bearers: set[str] = set()
        self._signed: dict[str, str] = {}
        self._patched: set[str] = set()

    @contextmanager
    def running(self) -> Iterator[GarFront]:
        """Serve until the block ends."""
        with serving(self):
            yield self

    def resource(self, repository: str) -> str:
        """The API's name of a repository."""
        return f"projects/{self.project}/locations/{self.location}/repositories/{repository}"

    def challenge(self, host: str) -> str:
        """What a 401 asks for, where it is spoken to as ``host``: a proxy's, where one is before it."""
        return f'Bearer realm="http://{host}/v2/token",service="{host}"'

    def expire(self) -> None:
        """Every token ends now: access tokens, and those of the registry."""
        self.identities.expire()
        self._bearers.clear()

    def environ(self, directory: Path, *, credentials: Path | None = None) -> dict[str, str]:
        """The variables that lead modelport here; ``credentials`` are a new key if they are not given."""
        file = credentials or self.identities.key_file(directory / "key.json")
        return {
            "HOME": str(directory),
            "GOOGLE_APPLICATION_CREDENTIALS": str(file),
            "CLOUDSDK_ARTIFACTS_LOCATION": self.location,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_ARTIFACTREGISTRY": f"http://{self.host}/artifactregistry/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS": f"http://{self.host}/iam/",
            "GCE_METADATA_HOST": self.host,
        }

    async def respond(self, asked: Asked, send: Send) -> None:
        """Answer one request."""
        if asked.path.startswith("/artifactregistry/"):
            answer: Answered | None = await self.repositories.answer(asked)
        else:
            answer = await self.identities.answer(asked)
        if answer is None:
            self.log.append((asked.method, asked.target))
            answer = await self._own(asked)
            if answer is not None:
                await _read(asked)
        if answer is not None:
            await answer.send(send)
        else:
            await self._pass(asked, send)

    # What Google says before the registry is asked

    async def _own(self, asked: Asked) -> Answered | None:
        if asked.path == "/v2/token":
            return self._token(asked)
        kind = asked.path.split("/")[1]
        if kind in (_UPLOADS, _DOWNLOADS):
            return self._signed_place(asked)
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self._bearers:
            return self._refused(asked)
        named = _NAMED.fullmatch(asked.path)
        if named is None:
            return None
        resource = self.repositories.resources.get(self.resource(named[2]))
        if resource is None or named[1] != self.project:
            return oci_error(404, "NAME_UNKNOWN", f'Repository "{named[2]}" not found')
        if asked.method == "PUT" and named[4] == "manifests":
            return await self._held(asked, named, resource)
        if asked.method == "GET" and named[4] == "blobs":
            return Answered(status=302, headers={"Location": self._sign(_DOWNLOADS, named, asked.target)})
        return None

    def _refused(self, asked: Asked) -> Answered:
        headers = {"WWW-Authenticate": self.challenge(asked.headers["host"])}
        return oci_error(401, "UNAUTHORIZED", "Unauthenticated request.", headers)

    def _token(self, asked: Asked) -> Answered:
        try:
            encoded = asked.headers.get("authorization", "").removeprefix("Basic ")
            user, _, password = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, ValueError):
            user, password = "", ""
        if not user:
            return oci_error(
                403, "DENIED", "Unauthenticated request. Unauthenticated requests do not have permission"
            )
        if not self._is_known(user, password):
            return oci_error(401, "UNAUTHORIZED", "authentication failed")
        for action, permission in (("push", "uploadArtifacts"), ("pull", "downloadArtifacts")):
            needed = f"artifactregistry.repositories.{permission}"
            if action in asked.query.get("scope", "") and needed in self.repositories.denied:
                return oci_error(
                    403, "DENIED", f'Permission "{needed}" denied on resource (or it may not exist)'
                )
        bearer = secrets.token_urlsafe(16)
        self._bearers.add(bearer)
        return Answered({"token": bearer, "expires_in": 3600})

    def _is_known(self, user: str, password: str) -> bool:
        if user in _TOKEN_USERS:
            return self.identities.who(password) is not None
        try:
            text = base64.b64decode(password) if user == "_json_key_base64" else password
            return user.startswith("_json_key") and json.loads(text) == self.identities.key_info()
        except ValueError:
            return False

    async def _held(self, asked: Asked, named: re.Match[str], resource: dict[str, object]) -> Answered | None:
        config = resource.get("dockerConfig")
        if not (isinstance(config, dict) and config.get("immutableTags")) or ":" in named[5]:
            return None
        answer = await self._upstream().head(asked.target, headers={"Accept": asked.headers["content-type"]})
        if answer.status_code != 200:
            return None
        said = f"cannot update tag {named[5]}. The repository has enabled tag immutability"
        return oci_error(400, "MANIFEST_INVALID", f"manifest invalid: {said}")

    # Addresses that stand for an upload or a download, and need no login

    def _sign(self, kind: str, named: re.Match[str], target: str) -> str:
        token = secrets.token_urlsafe(32)
        self._signed[token] = target
        return f"/{kind}/namespaces/{named[1]}/repositories/{named[2]}/{kind.partition('-')[2]}/{token}"

    def _signed_place(self, asked: Asked) -> Answered | None:
        token = asked.path.rpartition("/")[2]
        if token not in self._signed:
            return oci_error(404, "BLOB_UPLOAD_UNKNOWN", "upload not found")
        if asked.method == "PATCH":
            if "content-range" in asked.headers or token in self._patched:
                return oci_error(400, "UNSUPPORTED", "chunked uploads are not supported")
            self._patched.add(token)
        return None

    # On to the registry

    def _upstream(self) -> httpx.AsyncClient:
        if self._http is None:  # made here, for it belongs to this thread's event loop
            login = (self.registry.username, self.registry.password) if self.registry.username else None
            url = f"http://{self.registry.host}"
            self._http = httpx.AsyncClient(base_url=url, auth=login, trust_env=False, timeout=60)
        return self._http

    async def _pass(self, asked: Asked, send: Send) -> None:
        headers = {name: value for name, value in asked.headers.items() if name not in _DROPPED}
        content = _pieces(asked) if asked.method in ("POST", "PUT", "PATCH") else None
        http = self._upstream()
        request = http.build_request(asked.method, self._target(asked), headers=headers, content=content)
        response = await http.send(request, stream=True)
        try:
            head = [
                (name.encode(), self._rewritten(asked, name, value).encode())
                for name, value in response.headers.items()
                if name not in ("connection", "transfer-encoding")
            ]
            await send({"type": "http.response.start", "status": response.status_code, "headers": head})
            async for piece in response.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()

    def _target(self, asked: Asked) -> str:
        parts = urlsplit(asked.target)
        signed = self._signed.get(parts.path.rpartition("/")[2], asked.target)
        if signed == asked.target or not parts.query:
            return signed
        return f"{signed}{'&' if '?' in signed else '?'}{parts.query}"

    def _rewritten(self, asked: Asked, name: str, value: str) -> str:
        """Where an upload goes on: at an address of Google's own, which is always told without a host."""
        if name != "location" or "/blobs/uploads/" not in value:
            return value
        parts = urlsplit(value)
        named = _NAMED.fullmatch(parts.path)
        assert named is not None, value
        location = self._sign(_UPLOADS, named, f"{parts.path}?{parts.query}" if parts.query else parts.path)
        if asked.method == "PATCH":
            self._patched.add(location.rpartition("/")[2])
        return location


def oci_error(status: int, code: str, said: str, headers: dict[str, str] | None = None) -> Answered:
    """An error as the distribution specification has it."""
    return Answered({"errors": [{"code": code, "message": said}]}, status, headers or {})


async def _read(asked: Asked) -> None:
    """Google's front end takes the whole body before it answers, whatever it says then."""
    async for _ in _pieces(asked):
        pass


async def _pieces(asked: Asked) -> AsyncIterator[bytes]:
    while True:
        message = await asked.receive()
        if message["type"] == "http.disconnect":
            return
        piece = message.get("body", b"")
        assert isinstance(piece, bytes)
        if piece:
            yield piece
        if not message.get("more_body"):
            return
