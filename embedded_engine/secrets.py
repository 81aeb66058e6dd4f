"""The values of secrets, while the session lives. Nothing else holds one for longer than an exec.

Every value that the session comes to know is also hidden in all that the engine tells: ``learn`` is for those
that are no API secret (a git or http token, a registry's password, the session's own token).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets as random_secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from embedded_engine.disguises import SHORTEST
from embedded_engine.masking import Hidden, encoded
from embedded_engine.store import Store
from embedded_engine.values import Secret

COMMAND_LIMIT_S = 60
SURE = 8
"""A value of so many characters is hidden in the outputs of every exec, a shorter one ("test", "admin") only
where it was given: outputs are data too."""
_URL_PASSWORD = re.compile(r"://[^/@:\s]*:([^/@\s]+)@")


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
    by_key: dict[str, str] = field(default_factory=dict, repr=False)
    learnt: set[str] = field(default_factory=set, repr=False)
    warn: Callable[[str], None] = field(default=lambda _: None, repr=False)
    warned: set[str] = field(default_factory=set, repr=False)
    _hidden: dict[tuple[str, ...], Hidden] = field(default_factory=dict, repr=False)

    @classmethod
    def in_session(cls, store: Store, workdir: Path) -> Secrets:
        """With the store's salt, so that a hashed value gives the same cache key in a later session."""
        salt = store.remember_once("salt", "secrets", random_secrets.token_hex(32))
        return cls(workdir, bytes.fromhex(str(salt)))

    def put(self, name: str, plaintext: str) -> Secret:
        """``setSecret``: keyed by name; the same name again is a new value for every user of the name."""
        self._learn(plaintext, f"secret {name!r}")
        self.named[name] = plaintext
        return Secret(name, f"name:{name}")

    async def at(self, uri: str, cache_key: str | None = None) -> Secret:
        """``secret(uri)``: keyed by a salted hash of the value unless ``cache_key`` is given.

        A value that can't be had is an error only when it is used.
        """
        if cache_key is not None:
            return Secret(uri, f"key:{cache_key}", uri)
        if uri.startswith("file://"):
            self.by_uri.pop(uri, None)  # a file may have changed since: then it is another secret
        try:
            value = await self._read(uri)
        except SecretUnavailable:
            return Secret(uri, "unavailable", uri)
        key = "hash:" + hmac.new(self.salt, encoded(value), hashlib.sha256).hexdigest()
        self.by_key[key] = value
        return Secret(uri, key, uri)

    async def value(self, secret: Secret) -> str:
        """The plaintext. Raises SecretUnavailable."""
        if secret.uri:
            found = self.by_key.get(secret.key)  # the very value that the key was made of
            return await self._read(secret.uri) if found is None else found
        if secret.name not in self.named:
            raise SecretUnavailable(f"secret {secret.name!r} was not set in this session")
        return self.named[secret.name]

    def learn(self, *values: str) -> None:
        """Hide these too, wherever something is told."""
        self.learnt.update(value for value in values if value)

    def known(self) -> Hidden:
        """Every value the session knows: for what the engine itself tells (errors, events, its log)."""
        return self._compiled(self.learnt)

    def hidden_in(self, own: Iterable[str]) -> Hidden:
        """What to hide in the outputs of a run that has the values ``own``."""
        return self._compiled({*own, *(value for value in self.learnt if len(value.strip()) >= SURE)})

    def warn_of(self, data: bytes, where: str) -> None:
        """Warn, once, of a value that the program itself put where everyone who gets ``data`` can read it."""
        if where in self.warned:
            return
        for value in (value.strip() for value in self.learnt):
            if len(value) >= SURE and (encoded(value) in data or encoded(json.dumps(value)[1:-1]) in data):
                self.warned.add(where)
                self.warn(f"a secret's value stands in {where}: whoever gets the image can read it")
                return

    def _compiled(self, values: Iterable[str]) -> Hidden:
        key = tuple(sorted(values))
        if key not in self._hidden:
            while len(self._hidden) >= 8:
                del self._hidden[next(iter(self._hidden))]
            self._hidden[key] = Hidden.of(key)
        return self._hidden[key]

    def _learn(self, value: str, what: str) -> None:
        if value not in self.learnt and len(value.strip().encode("utf-8", "surrogateescape")) < SHORTEST:
            self.warn(f"{what} has fewer than {SHORTEST} characters: it is not masked in what is told")
        self.learn(value)

    async def _read(self, uri: str) -> str:
        if uri not in self.by_uri:
            scheme, separator, rest = uri.partition("://")
            if not separator:
                scheme, rest = "env", uri  # as Dagger does with a bare name
            value = await self._fetch(scheme, rest)
            self._learn(value, f"secret {uri if scheme != 'cmd' else 'cmd://'}")
            self.by_uri[uri] = value
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


def url_passwords(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The passwords in the URLs of an environment: those of proxies and package indexes."""
    return tuple(found for value in environ.values() for found in _URL_PASSWORD.findall(value))
