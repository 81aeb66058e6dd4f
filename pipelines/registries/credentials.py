"""Whose name to push under: the configuration's secrets, then Docker's and Podman's auth files, or nobody's.

The order, the first that knows the host wins (containers-auth.json(5) and Docker's ``config.json``):

1. ``username:`` and ``password:`` of the registry in modelport.yaml;
2. the file that REGISTRY_AUTH_FILE names; 3. ``$DOCKER_CONFIG/config.json``;
4. ``$XDG_RUNTIME_DIR/containers/auth.json`` (without that variable ``/run/containers/UID/auth.json``);
5. ``~/.config/containers/auth.json`` (XDG_CONFIG_HOME); 6. ``~/.docker/config.json``; 7. nobody: anonymous.

In each file: the helper that ``credHelpers`` names for the host, the one of ``credsStore``, then ``auths``,
where the longest path wins. A helper that doesn't know the host, or isn't installed, doesn't end the search;
one that isn't installed is told where nothing else has a login.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from pipelines.registries.errors import AccessRefused
from pipelines.registries.reference import DOCKER_HUB, Repository

if TYPE_CHECKING:
    from pipelines.config_values import SecretRef

HELPER_TIMEOUT_S = 30
_HELPER = re.compile(r"[A-Za-z0-9._-]+")
_TOKEN_USER = "<token>"  # noqa: S105  how docker-credential-helpers mark an identity token


@dataclass(frozen=True, slots=True)
class Login:
    """A user name and password, or an identity (refresh) token. Safe to print."""

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


LoginSource = Callable[[], Awaitable[Login | None]]
"""Asked when the registry wants to know who pushes, and again when it no longer believes the answer."""


def login_source(
    repository: Repository,
    environ: Mapping[str, str],
    username: SecretRef | None = None,
    password: SecretRef | None = None,
) -> LoginSource:
    """The login for ``repository``: from the references, else from auth files, else none (anonymous)."""

    def look_up() -> Login | None:
        if username is not None or password is not None:
            user = username.resolve(environ) if username is not None else ""
            return Login(user, password.resolve(environ) if password is not None else "")
        return login_from_files(repository, environ)

    async def login() -> Login | None:
        return await anyio.to_thread.run_sync(look_up)

    return login


def login_from_files(repository: Repository, environ: Mapping[str, str]) -> Login | None:
    """The first auth file that knows the repository or its host.

    Raises:
        AccessRefused: a helper broke, or is missing and nothing else has a login.
    """
    missing: AccessRefused | None = None
    for file in auth_files(environ):
        content = _read(file)
        helpers = content.get("credHelpers")
        helper = helpers.get(repository.host) if isinstance(helpers, dict) else None
        for name in (helper, content.get("credsStore")):
            if not isinstance(name, str) or not name:
                continue
            try:
                login = _from_helper(name, repository.host, environ)
            except _HelperMissing as err:
                missing = missing or err
                continue
            if login:
                return login
        if login := _from_auths(content.get("auths"), repository):
            return login
    if missing:
        raise missing
    return None


def auth_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where logins may be kept, the most explicit first."""
    if explicit := environ.get("REGISTRY_AUTH_FILE"):
        yield Path(explicit)
    home = Path(environ.get("HOME") or "/nonexistent")
    docker = environ.get("DOCKER_CONFIG")
    if docker:
        yield Path(docker) / "config.json"
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}"
    yield Path(runtime) / ("containers/auth.json" if environ.get("XDG_RUNTIME_DIR") else "auth.json")
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json"
    if not docker:
        yield home / ".docker/config.json"


def _read(file: Path) -> dict[str, Any]:
    """An auth file (Any: foreign JSON, checked where it is used); one that is not there is empty."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _from_auths(auths: object, repository: Repository) -> Login | None:
    """The most specific entry wins: ``host/team/model``, ``host/team``, ``host``, then the old URL forms."""
    if not isinstance(auths, dict):
        return None
    parts = f"{repository.host}/{repository.path}".split("/")
    names = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    for prefix in ("https://", "http://"):
        names += [f"{prefix}{repository.host}{end}" for end in ("", "/", "/v1/", "/v2/")]
    if repository.host == DOCKER_HUB:
        names += ["https://index.docker.io/v1/", "index.docker.io"]
    return next((login for name in names if (login := _from_entry(auths.get(name)))), None)


def _from_entry(entry: object) -> Login | None:
    if not isinstance(entry, dict):
        return None
    user, secret = entry.get("username"), entry.get("password")
    if isinstance(encoded := entry.get("auth"), str) and encoded:
        try:
            user, _, secret = base64.b64decode(encoded).decode("utf-8").partition(":")
        except ValueError:
            return None
    token = entry.get("identitytoken")
    if not user and not token:
        return None
    return Login(str(user or ""), str(secret or "").rstrip("\0"), str(token or ""))


class _HelperMissing(AccessRefused):
    """The helper's program is not there."""


def _from_helper(name: str, host: str, environ: Mapping[str, str]) -> Login | None:
    """Ask ``docker-credential-NAME get``; it knows nothing of this host: None."""
    program = (
        shutil.which(f"docker-credential-{name}", path=environ.get("PATH"))
        if _HELPER.fullmatch(name)
        else None
    )
    if program is None:
        raise _HelperMissing(
            f"{host}: the credential helper docker-credential-{name[:60]} is not on PATH",
            hint="install it, or remove it from the auth file that names it",
        )
    server = "https://index.docker.io/v1/" if host == DOCKER_HUB else host
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            check=False,
            timeout=HELPER_TIMEOUT_S,
            env=dict(environ),
        )
        answer = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, subprocess.TimeoutExpired, ValueError) as err:
        # Never the cause's text: a helper that prints badly may have printed the secret.
        raise AccessRefused(
            f"{host}: docker-credential-{name} gave no login ({type(err).__name__})", hint="run it by hand"
        ) from None
    user, secret = (
        (answer.get("Username"), answer.get("Secret")) if isinstance(answer, dict) else (None, None)
    )
    if not isinstance(user, str) or not isinstance(secret, str) or not secret:
        return None
    return Login("", identity_token=secret) if user == _TOKEN_USER else Login(user, secret)
