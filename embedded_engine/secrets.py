"""The values of secrets, while the session lives. Nothing else holds one for longer than an exec."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets as random_secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from embedded_engine.store import Store
from embedded_engine.values import Secret

COMMAND_LIMIT_S = 60


class SecretUnavailable(Exception):
    """A secret's value can't be had; the text says which and why, never what."""


@dataclass(slots=True)
class Secrets:
    """Named plaintexts and resolved URIs of one session."""

    workdir: Path
    salt: bytes = field(repr=False)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    named: dict[str, str] = field(default_factory=dict, repr=False)
    by_uri: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def in_session(cls, store: Store, workdir: Path) -> Secrets:
        """With the store's salt, so that a hashed value gives the same cache key in a later session."""
        salt = store.remember_once("salt", "secrets", random_secrets.token_hex(32))
        return cls(workdir, bytes.fromhex(str(salt)))

    def put(self, name: str, plaintext: str) -> Secret:
        """``setSecret``: keyed by name; the same name again is a new value for every user of the name."""
        self.named[name] = plaintext
        return Secret(name, f"name:{name}")

    async def at(self, uri: str, cache_key: str | None = None) -> Secret:
        """``secret(uri)``: keyed by a salted hash of the value unless ``cache_key`` is given.

        A value that can't be had is an error only when it is used.
        """
        if cache_key is not None:
            return Secret(uri, f"key:{cache_key}", uri)
        try:
            value = await self._read(uri)
        except SecretUnavailable:
            return Secret(uri, "unavailable", uri)
        return Secret(uri, "hash:" + hmac.new(self.salt, value.encode(), hashlib.sha256).hexdigest(), uri)

    async def value(self, secret: Secret) -> str:
        """The plaintext. Raises SecretUnavailable."""
        if secret.uri:
            return await self._read(secret.uri)
        if secret.name not in self.named:
            raise SecretUnavailable(f"secret {secret.name!r} was not set in this session")
        return self.named[secret.name]

    def known(self) -> tuple[str, ...]:
        """Every plaintext of the session: for masking what the engine itself prints."""
        return (*self.named.values(), *self.by_uri.values())

    async def _read(self, uri: str) -> str:
        if uri not in self.by_uri:
            scheme, separator, rest = uri.partition("://")
            if not separator:
                scheme, rest = "env", uri  # as Dagger does with a bare name
            self.by_uri[uri] = await self._fetch(scheme, rest)
        return self.by_uri[uri]

    async def _fetch(self, scheme: str, rest: str) -> str:
        if scheme == "env":
            if rest not in self.environ:
                raise SecretUnavailable(f"secret env://{rest}: the environment has no variable {rest}")
            return self.environ[rest]
        if scheme == "file":
            return await self._from_file(rest)
        if scheme == "cmd":
            return await self._from_command(rest)
        raise SecretUnavailable(
            f"secret {scheme}://: only env://, file:// and cmd:// are served by the embedded engine"
        )

    async def _from_file(self, rest: str) -> str:
        file = self.workdir / Path(rest).expanduser()
        try:
            return await anyio.Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SecretUnavailable(f"secret file://{rest}: {reason}") from error

    async def _from_command(self, command: str) -> str:
        try:
            with anyio.fail_after(COMMAND_LIMIT_S):
                done = await anyio.run_process(["/bin/sh", "-c", command], check=False, cwd=self.workdir)
        except TimeoutError as error:
            raise SecretUnavailable(f"secret cmd://: the command took over {COMMAND_LIMIT_S} s") from error
        if done.returncode:
            raise SecretUnavailable(f"secret cmd://: the command ended with exit code {done.returncode}")
        return done.stdout.decode("utf-8", "replace")
