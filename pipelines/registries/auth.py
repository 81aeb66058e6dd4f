"""The login dance of the distribution API: Basic, and Bearer tokens from a token endpoint.

Follows the distribution project's "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx

from pipelines.registries.credentials import Login, LoginSource
from pipelines.registries.descriptors import json_object
from pipelines.registries.errors import AccessRefused, BrokenContent, ServerFault
from pipelines.registries.reference import Repository
from pipelines.registries.retries import TryAgain, retry_after_s

_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_BEGINNING = re.compile(r"(?:^|,)\s*([A-Za-z0-9-]+)(?:\s+(?=[A-Za-z_]+\s*=)|\s*(?=,|$))")
_CLIENT = "modelport"


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a 401 asks for: ``scheme`` (lower case) and its parameters."""

    scheme: str
    parameters: Mapping[str, str]

    @classmethod
    def parse(cls, header: str) -> Challenge:
        """Read a WWW-Authenticate header; of several challenges Bearer, else Basic, else the first.

        An unknown scheme keeps its name.
        """
        unquoted = _QUOTED.sub(lambda found: '"' * len(found[0]), header)  # commas within are not between
        begins = list(_BEGINNING.finditer(unquoted))
        ends = [*(begin.start() for begin in begins[1:]), len(header)]
        challenges = {
            begin[1].lower(): header[begin.end() : end] for begin, end in zip(begins, ends, strict=False)
        }
        scheme = next((one for one in ("bearer", "basic", *challenges) if one in challenges), "")
        parameters = _PARAMETER.findall(challenges.get(scheme, ""))
        return cls(scheme, {key.lower(): quoted or plain for key, quoted, plain in parameters})

    def scopes(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The rights on repositories that it asks for: each path and what is to be done there."""
        for scope in self.parameters.get("scope", "").split():
            kind, _, rest = scope.partition(":")
            path, _, actions = rest.rpartition(":")
            if kind == "repository" and path:
                yield path, tuple(actions.split(","))


class Authenticator:
    """Holds the Authorization header for one repository; makes a new one when the registry asks for it."""

    def __init__(self, repository: Repository, login: LoginSource, actions: str = "pull,push") -> None:
        self.header: str | None = None
        self._repository = repository
        self._login = login
        self._wanted: dict[str, dict[str, None]] = {repository.path: dict.fromkeys(actions.split(","))}
        """What a token has to allow. The registry's challenges add to it: ``delete`` to delete something,
        ``metadata_read`` for a list in Azure, ``pull`` on the repository that a blob is mounted from."""
        self._believed: Login | None = None
        self._minting = anyio.Lock()

    async def renew(self, http: httpx.AsyncClient, challenge: Challenge, *, refused: str | None) -> None:
        """Replace the header ``refused`` (None: there was none). Tasks that ask together mint once.

        Raises:
            AccessRefused: there is no login, or the token endpoint doesn't take it.
        """
        async with self._minting:
            if self.header == refused:
                before = {path: dict(actions) for path, actions in self._wanted.items()}
                for path, actions in challenge.scopes():
                    self._wanted.setdefault(path, {}).update(dict.fromkeys(actions))
                try:
                    self.header = await self._minted(http, challenge, wants_more=self._wanted != before)
                except AccessRefused:
                    self._wanted = before  # or what this login may never do would be asked for from now on
                    raise

    async def _minted(self, http: httpx.AsyncClient, challenge: Challenge, *, wants_more: bool) -> str:
        """A header. A login that was believed, and only has to allow more, is not asked for anew."""
        if self._believed is None or not wants_more:
            self._believed = await self._login()
        login = self._believed
        if challenge.scheme == "bearer":
            return f"Bearer {await self._believed_token(http, challenge, login)}"
        if challenge.scheme == "basic" and login is not None:
            return login.basic
        if login is None:
            raise AccessRefused(
                f"{self._repository.host} wants a login and there is none", hint=login_hint(self._repository)
            )
        raise AccessRefused(
            f"{self._repository.host} asks for an unknown kind of login ({challenge.scheme[:20]!r})"
        )

    async def _believed_token(
        self, http: httpx.AsyncClient, challenge: Challenge, login: Login | None
    ) -> str:
        """A token; where this login is refused, one for what the source says when it is asked again.

        A cloud's login is itself a token that ends, and may have been kept from an earlier connection.
        """
        try:
            return await self._token(http, challenge, login)
        except AccessRefused:
            self._believed = await self._login()
            if self._believed is None or self._believed == login:
                raise
            return await self._token(http, challenge, self._believed)

    async def _token(self, http: httpx.AsyncClient, challenge: Challenge, login: Login | None) -> str:
        realm = self._realm(challenge)
        service = {"service": challenge.parameters.get("service", "")}
        scopes = [f"repository:{path}:{','.join(actions)}" for path, actions in self._wanted.items()]
        if login is not None and login.identity_token:
            grant = {
                "grant_type": "refresh_token",
                "client_id": _CLIENT,
                "refresh_token": login.identity_token,
            }
            answer = await http.post(realm, data={**service, "scope": " ".join(scopes), **grant})
        else:
            headers = {"Authorization": login.basic} if login is not None else {}
            fields = {**service, "scope": scopes, "client_id": _CLIENT}
            answer = await http.get(realm, params=fields, headers=headers)
        return self._read_token(answer, login)

    def _realm(self, challenge: Challenge) -> str:
        """The token endpoint. A registry that speaks TLS can't have a password sent in the clear."""
        realm = challenge.parameters.get("realm", "")
        scheme = urlsplit(realm).scheme
        if scheme == "https" or (scheme == "http" and self._repository.base_url.startswith("http:")):
            return realm
        raise AccessRefused(f"{self._repository.host} sends logins to a place without TLS: {realm[:200]!r}")

    def _read_token(self, answer: httpx.Response, login: Login | None) -> str:
        host = self._repository.host
        if answer.status_code in (400, 401, 403):
            who = f"the login of {login.username or 'the identity token'}" if login else "an anonymous client"
            raise AccessRefused(
                f"{host}: {who} gets no token for {self._repository.path} ({answer.status_code})",
                hint=role_hint(self._repository)
                if login and (login.identity_token or answer.status_code == 403)
                else login_hint(self._repository),
            )
        if answer.status_code >= 300:
            fault = ServerFault(
                f"{host}: its token endpoint answered {answer.status_code}", hint="run again later"
            )
            if answer.status_code in (408, 425, 429) or answer.status_code >= 500:
                raise TryAgain(fault, asked_s=retry_after_s(answer.headers.get("Retry-After", "")))
            raise fault
        try:
            content: dict[str, Any] = json_object(answer.content, "the token")
        except BrokenContent:
            content = {}  # without the cause: its text may hold the token
        token = content.get("token") or content.get("access_token")
        if not isinstance(token, str) or not token.isprintable():
            raise ServerFault(f"{host}: its token endpoint gave no token")
        return token


def role_hint(repository: Repository) -> str:
    """What an identity lacks that is known, and gets no token."""
    return (
        f"give it a role that allows {repository.path} on {repository.host} (a new one can take minutes), "
        "or log in again"
    )


def login_hint(repository: Repository) -> str:
    """How to get a login that is taken."""
    return (
        f"`docker login {repository.host}` (or podman, skopeo), or give username: and password: "
        "with this registry in modelport.yaml"
    )
