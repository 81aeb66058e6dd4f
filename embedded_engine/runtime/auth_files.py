"""Logins that the user's other tools left: Podman's and Docker's files, and the helpers these name.

containers-auth.json(5), and Docker's config.json. A password is read when it is needed, and kept nowhere.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded_engine.runtime.port import Login, RuntimeFailure
from embedded_engine.runtime.process import Runner, ToolMissing

HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
HUB_SERVER = "https://index.docker.io/v1/"
TOKEN_USER = "<token>"  # noqa: S105  # what a helper answers as user beside an identity token


@dataclass(frozen=True, slots=True)
class AuthFiles:
    """Looks logins up. ``runner`` starts credential helpers."""

    environ: Mapping[str, str]
    runner: Runner

    def files(self) -> list[Path]:
        """The files that count, the first that knows a registry decides."""
        environ = self.environ
        named = environ.get("REGISTRY_AUTH_FILE")
        user = environ.get("_CONTAINERS_ROOTLESS_UID") or os.getuid()  # in a user namespace everyone is 0
        home = Path(environ.get("HOME", "/root"))
        runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{user}"
        config = environ.get("XDG_CONFIG_HOME") or home / ".config"
        docker = environ.get("DOCKER_CONFIG") or home / ".docker"
        return [
            *([Path(named)] if named else []),
            Path(runtime) / ("containers/auth.json" if environ.get("XDG_RUNTIME_DIR") else "auth.json"),
            Path(config) / "containers/auth.json",
            Path(docker) / "config.json",
        ]

    async def login(self, name: str) -> Login | None:
        """The login for ``name`` (host/path), or None. Raises RuntimeFailure where a file or helper fails."""
        for file in self.files():
            document = _read(file)
            if document and (found := await self._in_file(document, name, file)):
                return found
        return None

    async def _in_file(self, document: Mapping[str, Any], name: str, file: Path) -> Login | None:
        keys = keys_of(name)
        helpers = document.get("credHelpers") or {}
        for key in keys:
            if key in helpers:
                return await self._helped(str(helpers[key]), name, file)
        auths = {_normal(key): value for key, value in (document.get("auths") or {}).items()}
        for key in keys:
            if found := _login(auths.get(key) or {}, key, file):
                return found
        store = document.get("credsStore")
        return await self._helped(str(store), name, file) if store else None

    async def _helped(self, helper: str, name: str, file: Path) -> Login | None:
        host = name.partition("/")[0]
        server = HUB_SERVER if host in HUB else host
        try:
            finished = await self.runner.run(
                [f"docker-credential-{helper}", "get"], stdin=server.encode(), check=False
            )
        except ToolMissing:
            raise RuntimeFailure(
                f"{file} names the credential helper docker-credential-{helper}, which is not on PATH"
            ) from None
        if finished.exit_code:
            if "not found" in finished.text.lower() or "not found" in finished.said.lower():
                return None
            raise RuntimeFailure(f"docker-credential-{helper} has no login for {server}: {finished.said}")
        try:
            answer = json.loads(finished.stdout)
            return _of_helper(str(answer["Username"]), str(answer["Secret"]))
        except (ValueError, KeyError, TypeError):
            raise RuntimeFailure(f"docker-credential-{helper} answers what is no login") from None


def keys_of(name: str) -> list[str]:
    """What an auth file may call it, the nearest first: host/team/app, host/team, host."""
    host, *rest = name.split("/")
    keys = ["/".join([host, *rest[:count]]) for count in range(len(rest), -1, -1)]
    return [*keys, *(one for one in HUB if one != host)] if host in HUB else keys


def _normal(key: str) -> str:
    """A key without what Docker puts around it: https://HOST/v1/ is HOST; host/path stays."""
    if "://" not in key:
        return key.rstrip("/")
    return key.partition("://")[2].partition("/")[0]


def _login(entry: Mapping[str, Any], key: str, file: Path) -> Login | None:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if text := entry.get("auth"):
        try:
            decoded = base64.b64decode(str(text), validate=True).decode()
        except (binascii.Error, ValueError):
            raise RuntimeFailure(f"{file}: the login for {key} is no base64") from None
        username, _, password = decoded.partition(":")
        password = password.strip("\0")
    if token := entry.get("identitytoken"):
        return Login(username or TOKEN_USER, str(token), is_token=True)
    return Login(username, password) if username else None


def _of_helper(username: str, secret: str) -> Login:
    return Login(username, secret, is_token=username == TOKEN_USER)


def _read(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes() or b"{}")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (OSError, ValueError) as error:
        raise RuntimeFailure(f"{file} cannot be read as JSON: {error}") from error
    return document if isinstance(document, dict) else {}
