"""Artifact Registry's API (v1, REST): repositories, their access policy, and operations that take a while.

Follows the service's discovery document; errors are google.rpc.Status (AIP-193).
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx

from pipelines.config_registries import is_loopback
from pipelines.errors import UsageError
from pipelines.registries.errors import AccessRefused, Busy, NotFound, RegistryError, ServerFault
from pipelines.registries.gar_credentials import CREDENTIALS_VARIABLE, endpoint
from pipelines.registries.gar_login import GoogleLogin
from pipelines.registries.reasons import connection_error, is_worth_retrying
from pipelines.registries.reference import Repository
from pipelines.registries.retries import Retries, TryAgain, retry_after_s
from pipelines.registries.transport import trusted_authorities

LOCATION_VARIABLE = "CLOUDSDK_ARTIFACTS_LOCATION"
"""gcloud's own variable: the location, where the registry's host does not tell it."""
OPERATION_LIMIT_S = 120.0
TIMEOUT_S = 60.0
_HOST = re.compile(r"([a-z0-9-]+)-docker\.pkg\.dev")
_GCR_LOCATIONS = {"gcr.io": "us", "us.gcr.io": "us", "eu.gcr.io": "europe", "asia.gcr.io": "asia"}

Json = dict[str, Any]
"""Google's JSON; every field is checked where it is read."""


class Conflict(RegistryError):
    """It is there already, or somebody else changed it in between (409)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where images lie, in Artifact Registry's own terms: a repository holds packages, one for each image."""

    project: str
    location: str
    """"" where neither the host nor the environment tells it."""
    repository: str
    package: str
    made_by_push: bool = False
    """Whether it is one of the gcr.io repositories: the first push makes it, where the pusher may do so."""

    @classmethod
    def of(cls, repository: Repository, environ: Mapping[str, str]) -> Place:
        """Take ``HOST/PROJECT/REPOSITORY/IMAGE`` apart; for gcr.io names ``HOST/PROJECT/IMAGE``.

        A domain-scoped project (``example.com:project``) is written with a slash.

        Raises:
            UsageError: a part is missing.
        """
        host = repository.host.partition(":")[0]
        parts = repository.path.split("/")
        scoped = "." in parts[0] and len(parts) > 1
        project, rest = (f"{parts[0]}:{parts[1]}", parts[2:]) if scoped else (parts[0], parts[1:])
        if host in _GCR_LOCATIONS:
            rest = [host, *rest]
        if len(rest) < 2:
            shape = "PROJECT" if host in _GCR_LOCATIONS else "PROJECT/REPOSITORY"
            raise UsageError(
                f"{repository} names no image of Artifact Registry",
                hint=f"write the registry as {repository.host}/{shape}; the model's name is added",
            )
        told = _HOST.fullmatch(host)
        location = _GCR_LOCATIONS.get(host) or (told[1] if told else environ.get(LOCATION_VARIABLE, ""))
        return cls(project, location, rest[0], "/".join(rest[1:]), host in _GCR_LOCATIONS)

    @property
    def parent(self) -> str:
        """The resource name of the location."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def name(self) -> str:
        """The resource name of the repository."""
        return f"{self.parent}/repositories/{self.repository}"


@dataclass(frozen=True, slots=True)
class ArtifactApi:
    """The API, as one identity. Every method raises RegistryError."""

    login: GoogleLogin = field(repr=False)
    project: str
    base_url: str
    retries: Retries = field(default_factory=Retries)

    @classmethod
    def of(cls, login: GoogleLogin, place: Place, environ: Mapping[str, str]) -> ArtifactApi:
        """Where Google has it, or where gcloud's variable says. Raises UsageError."""
        return cls(login, place.project, endpoint("artifactregistry", environ))

    async def get(self, path: str, **query: str) -> Json:
        """Read a resource. Raises NotFound."""
        return await self._call("GET", path, query, None)

    async def post(self, path: str, body: Json, **query: str) -> Json:
        """Make a resource, or call a method of one. Raises Conflict."""
        return await self._call("POST", path, query, body)

    async def patch(self, path: str, body: Json, **query: str) -> Json:
        """Change a resource."""
        return await self._call("PATCH", path, query, body)

    async def finished(self, operation: Json) -> Json:
        """The response of an operation, once it is done (AIP-151)."""
        wait_s = 0.1
        with anyio.move_on_after(OPERATION_LIMIT_S):
            while not operation.get("done"):
                await anyio.sleep(wait_s)
                wait_s = min(wait_s * 2, 5.0)
                operation = await self.get(_operation_name(operation))
        if not operation.get("done"):
            raise ServerFault(
                f"Artifact Registry has not finished in {OPERATION_LIMIT_S:.0f} s what it began",
                hint="run again later; it goes on by itself",
            )
        error = operation.get("error")
        if isinstance(error, dict):
            raise self._refusal(_HTTP_OF.get(error.get("code", 0), 500), {"error": error})
        response = operation.get("response")
        return response if isinstance(response, dict) else {}

    async def _call(self, method: str, path: str, query: Mapping[str, str], body: Json | None) -> Json:
        local = is_loopback(httpx.URL(self.base_url).netloc.decode())
        request = httpx.Request(method, f"{self.base_url}v1/{path}", params=query, json=body)
        plain = request.url.scheme == "http"  # only this machine: see ``endpoint``
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else trusted_authorities()
        async with httpx.AsyncClient(verify=verify, trust_env=not local, timeout=TIMEOUT_S) as http:
            try:
                return await self._retried(http, request, renew=False)
            except _Expired:
                return await self._retried(http, request, renew=True)

    async def _retried(self, http: httpx.AsyncClient, request: httpx.Request, *, renew: bool) -> Json:
        count = 0
        while True:
            count += 1
            try:
                return await self._once(http, request, renew=renew)
            except TryAgain as err:
                wait_s = self.retries.wait_s(count, err.asked_s)
                if wait_s is None:
                    raise err.error from err
                await anyio.sleep(wait_s)

    async def _once(self, http: httpx.AsyncClient, request: httpx.Request, *, renew: bool) -> Json:
        token = await self.login.token(renew=renew)
        if token is None:
            raise AccessRefused(
                "Artifact Registry's API wants Google credentials and there are none",
                hint=f"`gcloud auth application-default login`, or {CREDENTIALS_VARIABLE}",
            )
        request.headers["Authorization"] = f"Bearer {token.text}"
        if token.quota_project:
            request.headers["X-Goog-User-Project"] = token.quota_project
        try:
            response = await http.send(request)
        except httpx.HTTPError as err:
            broken = connection_error(request.url.netloc.decode(), err)
            raise (TryAgain(broken) if is_worth_retrying(err) else broken) from err
        content = _json(response)
        if response.status_code < 300:
            return content
        error = self._refusal(response.status_code, content)
        if response.status_code == 401 and not renew:
            raise _Expired(error.message)
        if response.status_code in (408, 429, 500, 502, 503, 504):
            raise TryAgain(error, asked_s=retry_after_s(response.headers.get("Retry-After", "")))
        raise error

    def _refusal(self, status: int, content: Json) -> RegistryError:  # noqa: PLR0911  a table
        """What an error means for the user (AIP-193)."""
        error = content.get("error")
        error = error if isinstance(error, dict) else {}
        said = _plain(error.get("message")) or f"it answered {status}"
        text = f"Artifact Registry's API: {said}"
        match status:
            case 401:
                return AccessRefused(text, hint="make the credentials anew")
            case 403 if "SERVICE_DISABLED" in _reasons(error):
                hint = f"gcloud services enable artifactregistry.googleapis.com --project {self.project}"
                return AccessRefused(text, hint=hint)
            case 403:
                return AccessRefused(text, hint=_permission_hint(said))
            case 404:
                return NotFound(text)
            case 409:
                return Conflict(text, hint="run again")
            case 429:
                return Busy(text, hint="run again later, or have the quota raised")
            case _ if status >= 500:
                return ServerFault(text, hint="run again later")
        return RegistryError(text, hint="see the settings of this registry in modelport.yaml")


class _Expired(AccessRefused):
    """The token is not taken any more (401). Only inside this module."""


# google.rpc.Code, for operations, and the HTTP status of each (google/rpc/code.proto)
_HTTP_OF = {3: 400, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 13: 500, 14: 503, 16: 401}


def _operation_name(operation: Json) -> str:
    name = operation.get("name")
    if isinstance(name, str) and re.fullmatch(r"[\w.:/-]+", name):
        return name
    raise ServerFault("Artifact Registry began something and does not say what", hint="run again later")


def _json(response: httpx.Response) -> Json:
    try:
        content = json.loads(response.content)
    except ValueError as err:
        if response.status_code >= 300:
            return {}  # a proxy's page: the status tells enough
        raise ServerFault("Artifact Registry's API answered with something else than JSON") from err
    return content if isinstance(content, dict) else {}


def _reasons(error: Json) -> tuple[str, ...]:
    """The reasons of google.rpc.ErrorInfo."""
    details = error.get("details")
    details = details if isinstance(details, list) else []
    return tuple(str(one.get("reason")) for one in details if isinstance(one, dict))


def _permission_hint(said: str) -> str:
    needed = re.search(r"artifactregistry\.[\w.]+", said)
    return f"give this identity {needed[0]}" if needed else "give this identity the right to do that"


def _plain(text: object) -> str:
    shown = text[:300] if isinstance(text, str) else ""
    return "".join(letter if letter.isprintable() else " " for letter in shown).strip()
