"""Any registry that speaks the OCI distribution API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.config_clouds import kind_of
from pipelines.registries.auth import Authenticator
from pipelines.registries.blob_source import BlobSource
from pipelines.registries.client import RepositoryClient
from pipelines.registries.credentials import LoginSource
from pipelines.registries.descriptors import Descriptor, Manifest, is_digest, short
from pipelines.registries.errors import BrokenContent, RepositoryMissing
from pipelines.registries.http import Connection
from pipelines.registries.port import UploadSessions
from pipelines.registries.quirks import Quirks, quirks_of
from pipelines.registries.reference import Repository
from pipelines.registries.referrers import Referrers
from pipelines.registries.retries import Retries
from pipelines.registries.transport import new_http_client
from pipelines.registries.uploads import Uploads


@dataclass(frozen=True, slots=True)
class OciRegistry:
    """A repository, and where its login comes from. Read-only use asks for no more than the right to read."""

    repository: Repository
    login: LoginSource = field(repr=False)
    read_only: bool = False
    retries: Retries = field(default_factory=Retries)
    quirks: Quirks | None = None
    """How this registry differs; None: as its host's name tells. Adapters give those of their kind."""

    @property
    def name(self) -> str:
        """``host/path``."""
        return str(self.repository)

    @property
    def is_directory(self) -> bool:
        """It is not."""
        return False

    def reference(self, wanted: str) -> str:
        """``host/path:tag`` or ``host/path@digest``."""
        return f"{self.repository}{'@' if is_digest(wanted) else ':'}{wanted}"

    def login_source(self) -> LoginSource:
        """The login of one connection, for whoever opens one of its own, such as an engine that pulls."""
        return self.login

    @asynccontextmanager
    async def open(self, sessions: UploadSessions | None = None) -> AsyncIterator[OpenRepository]:
        """A client for one push or trace; its connections end with the block."""
        actions = "pull" if self.read_only else "pull,push"
        authenticator = Authenticator(self.repository, self.login, actions)
        host = self.repository.host
        quirks = self.quirks or quirks_of(kind_of(host), host)
        async with new_http_client(self.repository, self.retries.silence_s) as http:
            connection = Connection(http, self.repository, authenticator, self.retries, quirks)
            uploads = Uploads(connection, quirks, sessions)
            yield OpenRepository(RepositoryClient(connection, uploads), Referrers(connection))

    async def repository_exists(self) -> bool | None:
        """Only a push can tell: most registries make a repository by the first one."""
        return None

    async def make_repository(self) -> bool:
        """The distribution API has no way to; the first push does it, where the registry lets it."""
        return False


@dataclass(frozen=True, slots=True)
class OpenRepository:
    """The port over the client."""

    client: RepositoryClient
    attached: Referrers

    async def has_blob(self, blob: Descriptor) -> bool:
        """See ``OpenRegistry``."""
        size = await self.client.blob_size(blob.digest)
        if size is not None and size not in (blob.size, -1):
            raise BrokenContent(
                f"{self.client.repository} has {short(blob.digest)} with {size} bytes instead of {blob.size}",
                hint="its storage is damaged: have the blob removed there, then run again",
            )
        return size is not None

    async def put_blob(self, source: BlobSource) -> int:
        """See ``OpenRegistry``."""
        return await self.client.upload_blob(source)

    async def mount_blob(self, blob: Descriptor, origin: str) -> bool:
        """See ``OpenRegistry``."""
        return await self.client.mount_blob(blob, origin)

    async def read_blob(self, digest: str, limit: int) -> bytes:
        """See ``OpenRegistry``."""
        return await self.client.read_blob(digest, limit)

    async def download_blob(self, blob: Descriptor, path: Path) -> None:
        """See ``OpenRegistry``."""
        await self.client.download_blob(blob, path)

    async def attach(self, referrer: Manifest) -> None:
        """See ``OpenRegistry``."""
        await self.attached.attach(referrer)

    async def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """See ``OpenRegistry``."""
        return await self.attached.of(digest)

    async def check_write(self) -> None:
        """See ``OpenRegistry``."""
        await self.client.check_write()

    async def put_manifest(self, manifest: Manifest) -> None:
        """See ``OpenRegistry``."""
        await self.client.put_manifest(manifest.digest, manifest)

    async def read_manifest(self, reference: str) -> Manifest:
        """See ``OpenRegistry``."""
        return await self.client.read_manifest(reference)

    async def tag_digest(self, tag: str) -> str | None:
        """See ``OpenRegistry``."""
        return await self.client.manifest_digest(tag)

    async def tags(self) -> tuple[str, ...]:
        """See ``OpenRegistry``."""
        try:
            return await self.client.tags()
        except RepositoryMissing:
            return ()

    async def tag(self, tag: str, manifest: Manifest) -> None:
        """See ``OpenRegistry``."""
        await self.client.put_manifest(tag, manifest)
