"""Azure Container Registry: an Entra identity becomes a login of the registry.

An Entra token for the registry's audience is exchanged for the registry's refresh token (POST
/oauth2/exchange); from there on it is the usual token login with a refresh token. See "Azure Container
Registry integration with Azure Active Directory" (azure.github.io/acr/AAD-OAuth.html).
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Final

import anyio
import anyio.to_thread
import httpx

from pipelines.config_clouds import Kind
from pipelines.config_registries import RegistryTarget
from pipelines.registries.azure_cloud import Cloud
from pipelines.registries.azure_http import ask
from pipelines.registries.credentials import Login, LoginSource, login_from_files, login_source
from pipelines.registries.descriptors import json_object
from pipelines.registries.entra import EntraIdentity, NoIdentity
from pipelines.registries.errors import (
    AccessRefused,
    BrokenContent,
    RepositoryMissing,
    ServerFault,
)
from pipelines.registries.oci import OciRegistry, OpenRepository
from pipelines.registries.port import UploadSessions
from pipelines.registries.quirks import quirks_of
from pipelines.registries.reference import Repository
from pipelines.registries.retries import Retries
from pipelines.registries.transport import new_http_client

SCOPE: Final = "https://containerregistry.azure.net/.default"
"""The registries' own audience, the same in every cloud. The Resource Manager's can be switched off."""
_EARLY_S: Final = 120
"""A refresh token is not used any more so long before its end."""


def registry(
    target: RegistryTarget,
    repository: Repository,
    environ: Mapping[str, str],
    *,
    read_only: bool = False,
) -> AcrRegistry:
    """The repository of a model in an Azure Container Registry. Nobody is asked yet."""
    logins = logins_of(target, repository, environ, read_only=read_only)
    quirks = quirks_of(Kind.ACR, repository.host)
    return AcrRegistry(OciRegistry(repository, logins.source(), read_only, quirks=quirks), logins)


def logins_of(
    target: RegistryTarget, repository: Repository, environ: Mapping[str, str], *, read_only: bool = False
) -> Logins:
    """Who speaks to the registry: ``username`` and ``password``, or else an Entra identity."""
    if target.username is not None or target.password is not None:
        return GivenLogin(login_source(repository, environ, target.username, target.password))
    identity = EntraIdentity(target.acr, Cloud.of(repository.host, environ), environ)
    return EntraLogins(repository, identity, environ, may_be_anonymous=read_only)


@dataclass(frozen=True, slots=True)
class GivenLogin:
    """An admin user, a repository-scoped token, or a service principal's id and secret."""

    given: LoginSource = field(repr=False)

    def source(self) -> LoginSource:
        """Always the same."""
        return self.given


class EntraLogins:
    """Logins by an Entra identity. The registry's refresh token stays in memory, for all connections."""

    def __init__(
        self,
        repository: Repository,
        identity: EntraIdentity,
        environ: Mapping[str, str],
        *,
        may_be_anonymous: bool = False,
        retries: Retries | None = None,
    ) -> None:
        self._repository = repository
        self._identity = identity
        self._environ = environ
        self._may_be_anonymous = may_be_anonymous
        self._retries = retries or Retries()
        self._kept: Login | None = None
        self._until = 0.0
        self._minting = anyio.Lock()

    def source(self) -> LoginSource:
        """For one connection: at first what is kept, and a new one whenever that is not believed."""
        asked = False

        async def login() -> Login | None:
            nonlocal asked
            anew, asked = asked, True
            return await self._login(anew=anew)

        return login

    async def _login(self, *, anew: bool) -> Login | None:
        async with self._minting:
            if anew or self._kept is None or time.time() >= self._until:
                self._kept = None
                try:
                    entra = await self._identity.token(SCOPE)
                except NoIdentity as err:
                    return await self._from_files(err)
                token = await self._exchanged(entra)
                self._kept, self._until = Login("", identity_token=token), _end_of(token) - _EARLY_S
            return self._kept

    async def _from_files(self, nobody: NoIdentity) -> Login | None:
        """What ``az acr login`` or ``docker login`` left; for reading it may be nobody."""
        found = await anyio.to_thread.run_sync(login_from_files, self._repository, self._environ)
        if found is None and (self._identity.is_named or not self._may_be_anonymous):
            raise nobody
        return found

    async def _exchanged(self, entra: str) -> str:
        fields = {"grant_type": "access_token", "service": self._repository.host, "access_token": entra}
        if self._identity.tenant:
            fields["tenant"] = self._identity.tenant
        url = f"{self._repository.base_url}/oauth2/exchange"
        async with new_http_client(self._repository) as http:
            return self._refresh_token(await ask(http, self._retries, "POST", url, data=fields))

    def _refresh_token(self, answer: httpx.Response) -> str:
        host = self._repository.host
        if answer.status_code in (400, 401, 403):
            raise AccessRefused(
                f"{host} does not take the Entra login of {self._identity.client or 'this identity'} "
                f"({answer.status_code})",
                hint="is the identity in the registry's tenant, and has it a role on this registry? "
                "docs/registries/acr.md has the least that it needs",
            )
        if answer.status_code == 404:
            raise AccessRefused(
                f"{host} has no exchange of Entra logins: it is no Azure Container Registry",
                hint="correct kind: and repository: in modelport.yaml, or give username: and password:",
            )
        try:
            token = json_object(answer.content, "the refresh token").get("refresh_token")
        except BrokenContent:
            token = None  # without the cause: its text may hold the token
        if answer.status_code != 200 or not isinstance(token, str) or not token.isprintable():
            raise ServerFault(f"{host}: its exchange ({answer.status_code}) gave no refresh token")
        return token


Logins = GivenLogin | EntraLogins


@dataclass(frozen=True, slots=True)
class AcrRegistry:
    """A repository of an Azure Container Registry, which makes it at the first push."""

    images: OciRegistry
    logins: Logins = field(repr=False)

    @property
    def name(self) -> str:
        """``host/path``."""
        return self.images.name

    @property
    def is_directory(self) -> bool:
        """It is not."""
        return False

    def reference(self, wanted: str) -> str:
        """``host/path:tag`` or ``host/path@digest``."""
        return self.images.reference(wanted)

    def open(self, sessions: UploadSessions | None = None) -> AbstractAsyncContextManager[OpenRepository]:
        """See ``Registry``; each connection holds for itself whether its login is still believed."""
        return replace(self.images, login=self.login_source()).open(sessions)

    def login_source(self) -> LoginSource:
        """See ``OciRegistry``."""
        return self.logins.source()

    async def repository_exists(self) -> bool | None:
        """True where it has tags; else None: the first push makes it, where the login may push."""
        async with self.open() as opened:
            try:
                await opened.client.tags()
            except RepositoryMissing:
                return None
        return True

    async def make_repository(self) -> bool:
        """Never: the first push makes it."""
        return False


def _end_of(token: str) -> float:
    """When a JWT ends (RFC 7519, 4.1.4), in Unix time. Read, not verified: it is not for us."""
    try:
        claims = token.split(".")[1]
        end = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        return float(end)
    except (ValueError, LookupError, TypeError):
        return 0.0  # not to be kept
