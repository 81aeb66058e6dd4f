"""Amazon Elastic Container Registry: the login by the AWS SDK, and repositories that are made before a push.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import anyio
import anyio.to_thread

from pipelines.config_clouds import Kind, RepositorySettings
from pipelines.config_registries import RegistryTarget
from pipelines.registries.aws import AwsApi, EcrAddress
from pipelines.registries.aws_errors import AlreadyThere, NoCredentials
from pipelines.registries.credentials import Login, LoginSource, login_from_files, login_source
from pipelines.registries.ecr_policies import creation
from pipelines.registries.errors import RepositoryMissing, ServerFault
from pipelines.registries.oci import OciRegistry
from pipelines.registries.port import OpenRegistry, UploadSessions
from pipelines.registries.quirks import quirks_of
from pipelines.registries.reference import Repository

MARGIN: Final = timedelta(minutes=15)
"""A token that ends sooner is not begun with: AWS gives them for twelve hours."""
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


def registry(
    target: RegistryTarget,
    repository: Repository,
    environ: Mapping[str, str],
    *,
    read_only: bool = False,
    moving_tags: tuple[str, ...] = (),
) -> EcrRegistry:
    """The adapter for ``repository``; nothing is asked of AWS yet.

    A user name or password of the target takes the place of AWS's login; then nothing is asked of the AWS API
    at all. ``moving_tags`` (patterns with ``*``) stay free where a repository is made with immutable tags.

    Raises:
        ConfigError: the host and ``ecr:`` contradict each other.
    """
    api = AwsApi(repository, EcrAddress.of(target), target.ecr, environ)
    own = target.username is not None or target.password is not None
    return EcrRegistry(
        OciRegistry(
            repository,
            login_source(repository, environ, target.username, target.password),
            read_only=read_only,
            quirks=quirks_of(Kind.ECR, repository.host),
        ),
        None if own else api,
        Tokens(api, lambda: login_from_files(repository, environ)),
        target.settings,
        moving_tags,
    )


class Tokens:
    """The registry's password, minted when it is wanted and kept in memory until shortly before it ends."""

    def __init__(self, api: AwsApi, from_files: Callable[[], Login | None]) -> None:
        self._api = api
        self._from_files = from_files
        self._held: Login | None = None
        self._good_until = _NEVER
        self._minting = anyio.Lock()

    def source(self) -> LoginSource:
        """For one connection: what it asks for a second time was refused, and is minted anew."""
        given: Login | None = None

        async def login() -> Login:
            nonlocal given
            given = await self._other_than(given)
            return given

        return login

    async def _other_than(self, refused: Login | None) -> Login:
        async with self._minting:  # connections that ask together mint once
            if self._held is None or self._held is refused or datetime.now(UTC) >= self._good_until:
                self._held, self._good_until = await self._minted()
            return self._held

    async def kept(self) -> Login | None:
        """What `aws ecr get-login-password | docker login` left on this machine, if anything."""
        return await anyio.to_thread.run_sync(self._from_files)

    async def _minted(self) -> tuple[Login, datetime]:
        """A login, and until when it is kept: one that has ended already, as AWS says, is used only now.

        Either clock may be wrong, and only the registry's answer counts.
        """
        try:
            answer = await self._api.call("GetAuthorizationToken")
        except NoCredentials:
            if login := await self.kept():
                return login, _NEVER
            raise
        data = (answer.get("authorizationData") or [{}])[0]
        until = data.get("expiresAt")
        return self._read(data.get("authorizationToken")), until - MARGIN if until else _NEVER

    def _read(self, token: object) -> Login:
        """``base64("AWS:password")``."""
        try:
            text = base64.b64decode(token if isinstance(token, str) else "", validate=True).decode()
        except (binascii.Error, ValueError):
            text = ""  # without the cause: its text may hold the token
        username, colon, password = text.partition(":")
        if not colon or not password:
            raise ServerFault(f"{self._api.repository.host}: AWS gave no token that can be read")
        return Login(username, password)


@dataclass(frozen=True, slots=True)
class EcrRegistry:
    """A repository of ECR."""

    plain: OciRegistry
    """The same, as any OCI registry; its login is that of the configuration."""
    api: AwsApi | None = field(repr=False)
    """None where the configuration brings a login of its own."""
    tokens: Tokens = field(repr=False)
    settings: RepositorySettings
    moving_tags: tuple[str, ...] = ()

    @property
    def repository(self) -> Repository:
        """Where it is."""
        return self.plain.repository

    @property
    def name(self) -> str:
        """``host/path``."""
        return self.plain.name

    @property
    def is_directory(self) -> bool:
        """It is not."""
        return False

    def reference(self, wanted: str) -> str:
        """``host/path:tag`` or ``host/path@digest``."""
        return self.plain.reference(wanted)

    def open(self, sessions: UploadSessions | None = None) -> AbstractAsyncContextManager[OpenRegistry]:
        """A connection with a token of its own asking."""
        return replace(self.plain, login=self.login_source()).open(sessions)

    def login_source(self) -> LoginSource:
        """See ``OciRegistry``."""
        return self.plain.login if self.api is None else self.tokens.source()

    async def repository_exists(self) -> bool | None:
        """Asked of AWS; None where there are no AWS credentials to ask with.

        Raises:
            RegistryError: AWS refused or failed.
        """
        if self.api is None:
            return None
        try:
            await self.api.call(
                "DescribeRepositories", repositoryNames=[self.repository.path], **self.api.registry
            )
        except RepositoryMissing:
            return False
        except NoCredentials:
            if await self.tokens.kept():
                return None
            raise
        return True

    async def make_repository(self) -> bool:
        """Make it with its ``settings``, unless it is there or they say not to. See ``Registry``.

        Raises:
            RegistryError: AWS refused or failed.
        """
        if self.api is None or not self.settings.create or await self.repository_exists() is not False:
            return False
        try:
            await self.api.on_repository("CreateRepository", **creation(self.settings, self.moving_tags))
        except AlreadyThere:
            return False
        return True
