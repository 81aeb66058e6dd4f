"""Azure Resource Manager over HTTPS: only what the administration of a registry needs.

Follows "Azure REST API reference": Container Registry 2025-11-01 (the first that tells how a registry's roles
work), Role Assignments 2022-04-01.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import httpx

from pipelines.config_registries import is_loopback
from pipelines.errors import UsageError
from pipelines.registries.azure_http import ask
from pipelines.registries.descriptors import json_object
from pipelines.registries.entra import EntraIdentity
from pipelines.registries.errors import AccessRefused, BrokenContent, NotFound, RegistryError, ServerFault
from pipelines.registries.retries import Retries
from pipelines.registries.transport import trusted_authorities

Json = dict[str, Any]
"""A resource (Any: foreign JSON, checked where it is used)."""
REGISTRIES: Final = "2025-11-01"
ROLE_ASSIGNMENTS: Final = "2022-04-01"
_PATIENCE_S: Final = 120.0
_TIMEOUT_S: Final = 60
_DONE: Final = (httpx.codes.OK, httpx.codes.CREATED, httpx.codes.ACCEPTED, httpx.codes.NO_CONTENT)


class ResourceManager:
    """Calls in one identity's name. A path is a resource's id: ``/subscriptions/…``."""

    def __init__(self, identity: EntraIdentity, retries: Retries | None = None) -> None:
        self._identity = identity
        self._endpoint = identity.cloud.resource_manager
        self._retries = retries or Retries()
        if urlsplit(self._endpoint).scheme != "https":
            raise UsageError("AZURE_RESOURCE_MANAGER_ENDPOINT has to begin with https://")

    async def get(self, path: str, api: str) -> Json:
        """A resource. Raises NotFound, AccessRefused, RegistryError."""
        return await self._call("GET", self._url(path, api))

    async def values(self, path: str, api: str, query: str) -> list[Json]:
        """All of a list, page by page."""
        found: list[Json] = []
        url = f"{self._url(path, api)}&{query}"
        while url:
            page = await self._call("GET", url)
            found += [one for one in page.get("value") or () if isinstance(one, dict)]
            link = page.get("nextLink")
            url = link if isinstance(link, str) and link.startswith(f"{self._endpoint}/") else ""
        return found

    async def put(self, path: str, api: str, content: Mapping[str, Any]) -> None:
        """Make a resource, or replace it."""
        await self._call("PUT", self._url(path, api), content)

    async def delete(self, path: str, api: str) -> None:
        """Remove a resource; one that is not there is no failure."""
        try:
            await self._call("DELETE", self._url(path, api))
        except NotFound:
            return

    async def patch(self, path: str, api: str, content: Mapping[str, Any]) -> None:
        """Change a resource, and wait until that is done ("Track asynchronous Azure operations")."""
        await self._call("PATCH", self._url(path, api), content)
        with anyio.move_on_after(_PATIENCE_S):
            wait_s = 0.25
            while True:
                state = (await self.get(path, api)).get("properties", {}).get("provisioningState")
                if state in (None, "Succeeded"):
                    return
                if state in ("Failed", "Canceled"):
                    raise RegistryError(
                        f"Azure did not change {path}: {state}", hint="`az acr show` tells more"
                    )
                await anyio.sleep(wait_s)
                wait_s = min(wait_s * 2, 5)
        raise ServerFault(
            f"Azure is still changing {path}", hint="run again later: it looks before it changes"
        )

    def _url(self, path: str, api: str) -> str:
        return f"{self._endpoint}{path}?api-version={api}"

    async def _call(self, method: str, url: str, content: Mapping[str, Any] | None = None) -> Json:
        token = await self._identity.token(f"{self._endpoint}/.default")
        async with httpx.AsyncClient(
            verify=trusted_authorities(),
            trust_env=not is_loopback(urlsplit(self._endpoint).netloc),
            timeout=_TIMEOUT_S,
            headers={"User-Agent": "modelport", "Authorization": f"Bearer {token}"},
        ) as http:
            body = {} if content is None else {"json": dict(content)}
            answer = await ask(http, self._retries, method, url, **body)
        if answer.status_code not in _DONE:
            raise self._refusal(answer, urlsplit(url).path)
        return json_object(answer.content, "Azure's answer") if answer.content else {}

    def _refusal(self, answer: httpx.Response, path: str) -> RegistryError:
        code, said = _told(answer.content)
        why = f"{answer.status_code} {code}: {said}".strip(": ")
        match answer.status_code:
            case 401 | 403:
                return AccessRefused(
                    f"Azure refuses {self._identity.client or 'this identity'}: {why}",
                    hint="docs/registries/acr.md has the role that `modelport registry apply` needs",
                )
            case 404:
                return NotFound(
                    f"Azure has no {path} ({code})", hint="check acr: subscription: and resource_group:"
                )
        hint = "is it an object id of this tenant? One that was just made can take minutes"
        return RegistryError(
            f"Azure refused the change of {path}: {why}", hint=hint if code == "PrincipalNotFound" else ""
        )


def _told(body: bytes) -> tuple[str, str]:
    """The code and message of an error ("OData error response"), safe for a terminal."""
    try:
        error = json_object(body, "the error").get("error")
    except BrokenContent:
        error = None
    if not isinstance(error, dict):
        return "", ""
    code, message = str(error.get("code", "")), str(error.get("message", ""))
    return _plain(code), _plain(message)


def _plain(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:400]
