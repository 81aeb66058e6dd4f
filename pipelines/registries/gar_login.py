"""Who we are for Google: what is configured, application-default credentials, Docker's auth files.

Follows Google's "How Application Default Credentials works" (AIP-4110) for the order, and Artifact Registry's
"Configure authentication for Docker" for the user names. google-auth is imported only when it is needed.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from pipelines.registries import gar_credentials
from pipelines.registries.credentials import Login, LoginSource, login_from_files
from pipelines.registries.errors import AccessRefused
from pipelines.registries.gar_credentials import CREDENTIALS_VARIABLE, Credentials, ExtraMissing
from pipelines.registries.reference import Repository

if TYPE_CHECKING:
    from pipelines.config_registries import RegistryTarget

TOKEN_USER = "oauth2accesstoken"  # noqa: S105  the user name that Google gives to an access token
_TOKEN_USERS = re.compile(rf"{TOKEN_USER}|_token|_dcgcloud_token|_dcgcr_\w+_token")
"""Ours, and those of gcloud's and Google's credential helpers."""
_KEY_USERS = ("_json_key", "_json_key_base64")


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. Safe to print."""

    text: str = field(repr=False)
    quota_project: str = ""
    """The project that pays for the calls of a person's credentials."""


class GoogleLogin:
    """One identity, for a registry's data plane and for its API. Tokens are kept in memory only."""

    def __init__(
        self,
        target: RegistryTarget,
        repository: Repository,
        environ: Mapping[str, str],
        *,
        read_only: bool = False,
    ) -> None:
        self._target = target
        self._repository = repository
        self._environ = environ
        self._read_only = read_only
        self._credentials: Credentials | None = None
        self._in_vain = False
        """There are no application-default credentials; asking the metadata server again takes long."""
        self._minting = anyio.Lock()

    def for_connection(self) -> LoginSource:
        """The login of one connection: a kept token at first; whenever it is asked for again, a new one."""
        asked = False

        async def login() -> Login | None:
            nonlocal asked
            renew, asked = asked, True
            given = await self._given()
            if given is not None and not self._target.gar.impersonate:
                return given
            token = await (
                self._default(renew=renew) if given is None else self._of_login(given, renew=renew)
            )
            return Login(TOKEN_USER, token.text) if token else await self._from_files()

        return login

    async def token(self, *, renew: bool = False) -> Token | None:
        """An access token that is valid for a while, or a new one; None: there are no Google credentials.

        Raises:
            RegistryError: they are there, and are not taken; or google-auth is needed and not installed.
        """
        given = await self._given()
        if given is not None:
            return await self._of_login(given, renew=renew)
        found = await self._default(renew=renew)
        files = None if found else await self._from_files()
        try:
            return await self._of_login(files, renew=renew) if files else found
        except ExtraMissing:
            return None  # such a login is good for images without google-auth, and for nothing else

    async def _given(self) -> Login | None:
        """What ``username:`` and ``password:`` refer to."""
        user, password = self._target.username, self._target.password
        if user is None and password is None:
            return None

        def resolve() -> Login:
            return Login(
                user.resolve(self._environ) if user else "",
                password.resolve(self._environ) if password else "",
            )

        return await anyio.to_thread.run_sync(resolve)

    async def _default(self, *, renew: bool) -> Token | None:
        """By application-default credentials; None where there are none, and another way may be open."""
        if self._in_vain and not renew:
            return None
        explicit = bool(self._environ.get(CREDENTIALS_VARIABLE) or self._target.gar.impersonate)
        try:
            token = await self._minted(
                lambda: gar_credentials.application_default(self._environ), renew=renew
            )
        except ExtraMissing:
            if explicit or not (self._read_only or await self._from_files()):
                raise
            token = None
        if token is None and self._target.gar.impersonate:
            raise AccessRefused(
                f"{self._repository.host}: gar.impersonate needs Google credentials to begin with",
                hint=f"`gcloud auth application-default login`, or {CREDENTIALS_VARIABLE}",
            )
        self._in_vain = token is None
        return token

    async def _of_login(self, login: Login, *, renew: bool) -> Token | None:
        """The access token that a login for Docker stands for; None where it is none of Google's."""
        is_token = _TOKEN_USERS.fullmatch(login.username) is not None
        impersonate = self._target.gar.impersonate
        if is_token and not impersonate:
            return Token(login.password)
        if is_token:
            return await self._minted(lambda: gar_credentials.of_token(login.password), renew=renew)
        if login.username in _KEY_USERS:
            return await self._minted(lambda: gar_credentials.of_key(self._key(login)), renew=renew)
        if impersonate:
            raise AccessRefused(
                f"{self._repository.host}: gar.impersonate can't begin with the password of {login.username}",
                hint=f"it takes {', '.join(_KEY_USERS)}, {TOKEN_USER}, or application-default credentials",
            )
        return None

    def _key(self, login: Login) -> Mapping[str, Any]:
        """The service-account key in a password (Any: Google's JSON, which google-auth checks)."""
        try:
            text = login.password
            if login.username.endswith("_base64"):
                text = base64.b64decode(text).decode()
            key = json.loads(text)
        except (binascii.Error, ValueError):
            key = None
        if isinstance(key, dict):
            return key
        raise AccessRefused(
            f"{self._repository.host}: the password of {login.username} is no service-account key",
            hint="it has to be the whole JSON file (for _json_key_base64: encoded, without line breaks)",
        ) from None

    async def _minted(self, find: Callable[[], Credentials | None], *, renew: bool) -> Token | None:
        def mint() -> Token | None:
            host, impersonate = self._repository.host, self._target.gar.impersonate
            with gar_credentials.plain_errors(host, impersonate):
                if renew or self._credentials is None:
                    found = find()
                    if found is None:
                        return None
                    self._credentials = gar_credentials.acting_as(found, impersonate, self._environ)
                text = gar_credentials.access_token(self._credentials, renew=renew)
            return Token(text, getattr(self._credentials, "quota_project_id", None) or "")

        async with self._minting:
            # abandon: whoever gives up does not wait for a token endpoint that is silent.
            return await anyio.to_thread.run_sync(mint, abandon_on_cancel=True)

    async def _from_files(self) -> Login | None:
        return await anyio.to_thread.run_sync(login_from_files, self._repository, self._environ)
