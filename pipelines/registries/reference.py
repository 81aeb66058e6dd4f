"""Image references as people write them: ``host[:port]/repository[:tag][@digest]``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipelines.config_registries import is_loopback
from pipelines.errors import UsageError
from pipelines.registries.descriptors import is_digest

# The grammars of the OCI distribution specification, "Pulling manifests".
_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:\d{1,5})?")
DOCKER_HUB = "docker.io"


def is_tag(text: str) -> bool:
    """Whether ``text`` is a valid tag."""
    return _TAG.fullmatch(text) is not None


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and int((found[3] or ":0")[1:]) < 2**16


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of a registry, and how that registry is spoken to."""

    host: str
    path: str
    plain_http: bool = False
    ca_file: str = ""
    """A file with the certificate of a private authority."""

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"

    @property
    def base_url(self) -> str:
        """Where the registry's API is. Loopback hosts speak plain HTTP, unless an authority is named."""
        plain = self.plain_http or (is_loopback(self.host) and not self.ca_file)
        scheme = "http" if plain else "https"
        return f"{scheme}://{'registry-1.docker.io' if self.host == DOCKER_HUB else self.host}"

    @classmethod
    def parse(cls, text: str, *, plain_http: bool = False, ca_file: str = "") -> Repository:
        """``host/path``; without a host it is Docker Hub's. Raises UsageError."""
        host, slash, path = text.partition("/")
        if not slash or not ("." in host or ":" in host or host == "localhost"):
            host, path = DOCKER_HUB, text
        if host in ("index.docker.io", "registry-1.docker.io"):
            host = DOCKER_HUB
        if host == DOCKER_HUB and "/" not in path:
            path = f"library/{path}"
        if not _is_host(host) or not _NAME.fullmatch(path):
            raise UsageError(
                f'"{text}" is not a repository', hint='write it like "registry.example.com/models/langid"'
            )
        return cls(host, path, plain_http, ca_file)


@dataclass(frozen=True, slots=True)
class Reference:
    """One image of a repository, by tag, by digest, or by both."""

    repository: Repository
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str, *, plain_http: bool = False) -> Reference:
        """Read a reference; without tag and digest it means ``latest``. Raises UsageError."""
        if "://" in text:
            raise UsageError(
                "a reference is written without a scheme", hint=f"write {text.partition('://')[2]}"
            )
        name, at, digest = text.partition("@")
        head, colon, tag = name.rpartition(":")
        if not colon or "/" in tag:
            head, tag = name, ""
        if (at and not is_digest(digest)) or (tag and not is_tag(tag)) or (colon and not head):
            raise UsageError(
                f'"{text}" is not an image reference',
                hint='write it like "registry.example.com/models/langid:1.2.0" or "…/langid@sha256:…"',
            )
        return cls(Repository.parse(head, plain_http=plain_http), tag or ("" if digest else "latest"), digest)

    @property
    def wanted(self) -> str:
        """What to ask for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        return (
            f"{self.repository}{':' + self.tag if self.tag else ''}{'@' + self.digest if self.digest else ''}"
        )
