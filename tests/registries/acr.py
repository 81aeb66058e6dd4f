"""Azure Container Registry before a real registry: its token dance, its attributes and locks.

    tokens = AcrTokens(Authority(directory), free_port())
    with running_registry(directory, settings=tokens.settings(directory)) as behind:
        with tokens.running(behind.host):
            ...  # speak TLS to tokens.host; sign in at tokens.entra.url

Wire formats: "Azure Container Registry integration with Azure Active Directory"
(azure.github.io/acr/AAD-OAuth.html), the REST reference of the data plane (/acr/v1/), and the distribution
project's token authentication.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.registries.authority import PEM, Authority, rsa_key, self_signed
from tests.registries.entra import TENANT, Entra, new_id
from tests.registries.web import Answered, Asked, Send, WebServer, free_port, serving

ISSUER = "Azure Container Registry"
NOBODY = "00000000-0000-0000-0000-000000000000"
"""The user name that stands for "the password is a refresh token"."""
ALL_RIGHTS = frozenset({"pull", "push", "delete", "metadata_read", "metadata_write"})
_TAG_PUT = re.compile(r"/v2/(.+)/manifests/([A-Za-z0-9_][A-Za-z0-9._-]*)")
_ATTRIBUTES = re.compile(r"/acr/v1/(.+?)(?:/_tags(?:/([^/]+))?)?")
_HOP_BY_HOP = ("connection", "transfer-encoding", "keep-alive")


class AcrTokens(WebServer):
    """One registry: what a client of it speaks to.

    Args:
        authority: whose certificates it and its Entra show.
        port: where it listens, on 127.0.0.1.
        host: ``host:port`` that clients use, where that is something in front of this server (a proxy that
            ends TLS: then ``tls=False``); its own ``localhost:PORT`` otherwise.
        tls: whether it speaks TLS itself.

    ``users`` are admin users and repository-scoped tokens; ``rights`` limits a principal (an object id or a
    user name), who else may do everything; a refresh token in ``revoked`` is not taken any more; ``locked``
    are the (repository, tag) that can't be written; ``log`` holds "METHOD path" of all that is not passed on.
    """

    def __init__(self, authority: Authority, port: int, *, host: str = "", tls: bool = True) -> None:
        super().__init__(port, authority if tls else None)
        self.host = host or f"localhost:{port}"
        self.entra = Entra(free_port(), authority)
        self.users: dict[str, str] = {}
        self.rights: dict[str, frozenset[str]] = {}
        self.revoked: set[str] = set()
        self.locked: set[tuple[str, str]] = set()
        self.audiences = {"https://containerregistry.azure.net"}
        """What the exchange takes; a registry may take the Resource Manager's too."""
        self.refresh_s = 3 * 3600
        self.access_s = 75 * 60
        self.is_strict = False
        """Whether who asks for more than he may gets nothing, instead of less."""
        self.faults: list[int] = []
        """Statuses that the next exchanges are answered with."""
        self.log: list[str] = []
        self.refresh_tokens: list[str] = []
        self._key = rsa_key("acr")
        self._certificate: x509.Certificate = self_signed(self._key, ISSUER)
        self._upstream: httpx.AsyncClient | None = None
        self._upstream_host = ""

    def settings(self, directory: Path) -> dict[str, Mapping[str, object]]:
        """What ``running_registry`` has to be told, so that it believes these tokens."""
        directory.mkdir(parents=True, exist_ok=True)
        bundle = directory / "acr-tokens.pem"
        bundle.write_bytes(self._certificate.public_bytes(PEM))
        token = {
            "realm": f"https://{self.host}/oauth2/token",
            "service": self.host,
            "issuer": ISSUER,
            "rootcertbundle": str(bundle),
        }
        return {"auth": {"token": token}, "http": {"relativeurls": True}}

    @contextmanager
    def running(self, upstream: str = "", *beside: WebServer) -> Iterator[AcrTokens]:
        """Serve, and Entra beside it, until the block ends; ``upstream`` is the real registry's address."""
        self._upstream_host = upstream
        with serving(self, self.entra, *beside):
            yield self

    async def respond(self, asked: Asked, send: Send) -> None:
        """The registry's own endpoints; everything else is passed on."""
        if asked.path.startswith("/v2/"):
            locked = _TAG_PUT.fullmatch(asked.path)
            if asked.method == "PUT" and locked and locked.groups() in self.locked:
                await asked.body()
                await _disallowed().send(send)
            else:
                await self._pass_on(asked, send)
            return
        self.log.append(f"{asked.method} {asked.path}")
        if asked.path == "/oauth2/exchange" and asked.method == "POST":
            answered = self._exchange(await asked.form())
        elif asked.path == "/oauth2/token":
            answered = self._token(asked, await asked.form() if asked.method == "POST" else {})
        elif found := _ATTRIBUTES.fullmatch(asked.path):
            answered = await self._attributes(asked, found[1], found[2])
        else:
            answered = _error(404, "NOT_FOUND", "no such page")
        await answered.send(send)

    # The token dance

    def _exchange(self, form: Mapping[str, str]) -> Answered:
        if self.faults:
            return _error(self.faults.pop(0), "UNKNOWN", "as the test wants it")
        if form.get("grant_type") != "access_token" or form.get("service") != self.host:
            return _error(400, "BAD_REQUEST", "unsupported grant or unknown service")
        try:
            principal = self.entra.principal_of(form.get("access_token", ""), self.audiences)
        except jwt.InvalidTokenError:
            return _unauthorized()
        if form.get("tenant", TENANT) != TENANT:
            return _unauthorized()
        token = self.refresh_token(principal)
        return Answered({"refresh_token": token})

    def refresh_token(self, principal: str) -> str:
        """A refresh token of this registry."""
        now = int(time.time())
        claims = {"jti": new_id(), "sub": principal, "nbf": now, "exp": now + self.refresh_s, "iat": now}
        claims |= {"iss": ISSUER, "aud": self.host, "grant_type": "refresh_token", "tenant": TENANT}
        self.refresh_tokens.append(jwt.encode(claims, self._key, "RS256"))
        return self.refresh_tokens[-1]

    def _token(self, asked: Asked, form: Mapping[str, str]) -> Answered:
        fields = form or asked.query
        principal = self._principal(asked, form)
        if principal is None or fields.get("service") != self.host:
            return _unauthorized()
        wanted = _scopes([form["scope"]] if "scope" in form else asked.all_of("scope"))
        rights = self.rights.get(principal, ALL_RIGHTS)
        given = {name: actions & rights for name, actions in wanted.items()}
        if not any(given.values()) or (self.is_strict and given != wanted):
            return _unauthorized()
        return Answered({"access_token": self.access_token(principal, given)})

    def _principal(self, asked: Asked, form: Mapping[str, str]) -> str | None:
        if form.get("grant_type") == "refresh_token":
            return self._refreshed(form.get("refresh_token", ""))
        user, password = form.get("username", ""), form.get("password", "")
        scheme, _, encoded = asked.headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            user, _, password = base64.b64decode(encoded).decode().partition(":")
        if user == NOBODY:
            return self._refreshed(password)
        application = self.entra.applications.get(user)
        if application is not None and application.secret and application.secret == password:
            return application.principal
        return user if user in self.users and self.users[user] == password else None

    def _refreshed(self, token: str) -> str | None:
        try:
            claims = jwt.decode(token, self._key.public_key(), ["RS256"], audience=self.host)
        except jwt.InvalidTokenError:
            return None
        right = claims.get("grant_type") == "refresh_token" and token not in self.revoked
        return str(claims["sub"]) if right else None

    def access_token(self, principal: str, given: Mapping[str, set[str]]) -> str:
        """An access token for actions on repositories, as the real registry behind this believes it."""
        now = int(time.time())
        claims = {
            "jti": new_id(),
            "sub": principal,
            "iss": ISSUER,
            "aud": self.host,
            "iat": now,
            "nbf": now - 5,
        }
        claims["exp"] = now + self.access_s
        claims["access"] = [
            {"type": "repository", "name": name, "actions": sorted(actions)}
            for name, actions in given.items()
        ]
        der = self._certificate.public_bytes(serialization.Encoding.DER)
        return jwt.encode(claims, self._key, "RS256", headers={"x5c": [base64.b64encode(der).decode()]})

    # Attributes and locks

    async def _attributes(self, asked: Asked, name: str, tag: str | None) -> Answered:
        action = "metadata_write" if asked.method == "PATCH" else "metadata_read"
        if not self._may(asked, name, action):
            scope = f"repository:{name}:{action}"
            challenge = (
                f'Bearer realm="https://{self.host}/oauth2/token",service="{self.host}",scope="{scope}"'
            )
            return _error(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": challenge})
        tags = await self._tags(name)
        if tags is None or (tag is not None and tag not in tags):
            return _error(404, "NAME_UNKNOWN", f'repository "{name}" is not found')
        if asked.method == "PATCH" and tag is not None:
            return self._patched(name, tag, json.loads(await asked.body()))
        if asked.path.endswith("/_tags"):
            return self._tag_list(asked, name, tags)
        return Answered({"registry": self.host, "imageName": name, "tagCount": len(tags)})

    def _may(self, asked: Asked, name: str, action: str) -> bool:
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            claims = jwt.decode(token, self._key.public_key(), ["RS256"], audience=self.host)
        except jwt.InvalidTokenError:
            return False
        return any(one["name"] == name and action in one["actions"] for one in claims.get("access", ()))

    def _patched(self, name: str, tag: str, wanted: Mapping[str, object]) -> Answered:
        if "writeEnabled" in wanted:
            (self.locked.discard if wanted["writeEnabled"] else self.locked.add)((name, tag))
        return Answered({"registry": self.host, "imageName": name, "tag": self._tag_value(name, tag)})

    def _tag_list(self, asked: Asked, name: str, tags: list[str]) -> Answered:
        size = int(asked.query.get("n", "100"))
        left = [tag for tag in sorted(tags) if tag > asked.query.get("last", "")]
        page = left[:size]
        more = {"Link": f'</acr/v1/{name}/_tags?last={page[-1]}&n={size}>; rel="next"'} if left[size:] else {}
        values = [self._tag_value(name, tag) for tag in page]
        return Answered({"registry": self.host, "imageName": name, "tags": values}, headers=more)

    def _tag_value(self, name: str, tag: str) -> dict[str, object]:
        writable = (name, tag) not in self.locked
        attributes = {
            "deleteEnabled": True,
            "listEnabled": True,
            "readEnabled": True,
            "writeEnabled": writable,
        }
        return {"name": tag, "signed": False, "changeableAttributes": attributes}

    async def _tags(self, name: str) -> list[str] | None:
        bearer = {"Authorization": f"Bearer {self.access_token('self', {name: {'pull'}})}"}
        answer = await self._behind.get(f"/v2/{name}/tags/list", headers=bearer)
        return (answer.json()["tags"] or []) if answer.status_code == 200 else None

    # The real registry

    @property
    def _behind(self) -> httpx.AsyncClient:
        if self._upstream is None:  # made in the server's own event loop
            base = f"http://{self._upstream_host}"
            self._upstream = httpx.AsyncClient(base_url=base, trust_env=False, timeout=60)
        return self._upstream

    async def close(self) -> None:
        """The connections to the real registry."""
        if self._upstream is not None:
            await self._upstream.aclose()
            self._upstream = None

    async def _pass_on(self, asked: Asked, send: Send) -> None:
        headers = {name: value for name, value in asked.headers.items() if name not in _HOP_BY_HOP}
        has_body = asked.headers.get("content-length", "0") != "0" or "transfer-encoding" in asked.headers
        request = self._behind.build_request(
            asked.method, asked.target, headers=headers, content=_pieces(asked) if has_body else None
        )
        answer = await self._behind.send(request, stream=True)
        try:
            raw = ((name.lower(), value) for name, value in answer.headers.raw)
            head = [(name, value) for name, value in raw if name.decode() not in _HOP_BY_HOP]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": head})
            async for piece in answer.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})
        finally:
            await answer.aclose()


def _scopes(texts: list[str]) -> dict[str, set[str]]:
    """The actions on each repository."""
    found: dict[str, set[str]] = {}
    for scope in " ".join(texts).split():
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        if kind == "repository":
            found.setdefault(name, set()).update(actions.split(","))
    return found


async def _pieces(asked: Asked) -> AsyncIterator[bytes]:
    while True:
        message = await asked.receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        yield bytes(message.get("body", b""))
        if not message.get("more_body"):
            return


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Answered:
    return Answered({"errors": [{"code": code, "message": message}]}, status, headers or {})


def _unauthorized() -> Answered:
    text = "authentication required, visit https://aka.ms/acr/authorization for more information."
    return _error(401, "UNAUTHORIZED", text)


def _disallowed() -> Answered:
    text = "The operation is disallowed on this registry, repository or image. View troubleshooting steps at "
    return _error(405, "REGISTRY_DISALLOWED_OPERATION", f"{text}https://aka.ms/acr/faq/")
