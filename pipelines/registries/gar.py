"""Google's Artifact Registry, and the gcr.io names that it serves: the login, and how repositories are made.

The data plane is the distribution API ("Docker API" in Artifact Registry's reference); what it does otherwise
than others (no chunked uploads) is told by its host. Repositories are made over the service's own API.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipelines.config_clouds import Kind
from pipelines.registries.errors import AccessRefused, NotFound
from pipelines.registries.gar_api import ArtifactApi, Conflict, Json, Place
from pipelines.registries.gar_login import GoogleLogin
from pipelines.registries.oci import OciRegistry
from pipelines.registries.port import OpenRegistry, Registry, UploadSessions
from pipelines.registries.quirks import quirks_of
from pipelines.registries.reference import Repository

if TYPE_CHECKING:
    from pipelines.config_clouds import RepositorySettings
    from pipelines.config_registries import RegistryTarget
    from pipelines.registries.credentials import LoginSource


def registry(
    target: RegistryTarget, repository: Repository, environ: Mapping[str, str], *, read_only: bool = False
) -> Registry:
    """``repository`` of Artifact Registry. Nothing is asked yet.

    Raises:
        UsageError: the address has no room for Artifact Registry's own parts.
    """
    place = Place.of(repository, environ)
    login = GoogleLogin(target, repository, environ, read_only=read_only)
    quirks = quirks_of(Kind.GAR, repository.host)
    plain = OciRegistry(repository, login.for_connection(), read_only, quirks=quirks)
    return GarRegistry(plain, login, place, ArtifactApi.of(login, place, environ), target.settings)


@dataclass(frozen=True, slots=True)
class GarRegistry:
    """A package of a repository of Artifact Registry."""

    plain: OciRegistry
    login: GoogleLogin = field(repr=False)
    place: Place
    api: ArtifactApi
    settings: RepositorySettings

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
        """A connection; it begins with the token that is kept, if that is valid for a while."""
        return replace(self.plain, login=self.login_source()).open(sessions)

    def login_source(self) -> LoginSource:
        """See ``OciRegistry``."""
        return self.login.for_connection()

    async def repository_exists(self) -> bool | None:
        """Whether the repository is there; None where this login may not ask, and for gcr.io names."""
        if self.place.made_by_push or not self.place.location or await self.login.token() is None:
            return None
        try:
            await self.api.get(self.place.name)
        except NotFound:
            return False
        except AccessRefused:
            return None  # the right to push does not need the right to look
        return True

    async def make_repository(self) -> bool:
        """Make the repository as the settings have it, where it is missing and ``create`` lets us."""
        if not self.settings.create or await self.repository_exists() is not False:
            return False
        return await create(self.api, self.place, self.settings)


async def create(api: ArtifactApi, place: Place, settings: RepositorySettings) -> bool:
    """Make the repository; False: somebody else did in between. Raises RegistryError."""
    try:
        operation = await api.post(
            f"{place.parent}/repositories", new_repository(settings), repositoryId=place.repository
        )
        await api.finished(operation)
    except Conflict:
        return False
    return True


def new_repository(settings: RepositorySettings) -> Json:
    """A Repository resource, as the settings have it; what they do not name is Google's default."""
    resource: Json = {"format": "DOCKER", "mode": "STANDARD_REPOSITORY"}
    if settings.encryption_key:
        resource["kmsKeyName"] = settings.encryption_key
    if settings.immutable_tags is not None:
        resource["dockerConfig"] = {"immutableTags": settings.immutable_tags}
    if settings.scan_on_push is not None:
        resource["vulnerabilityScanningConfig"] = {"enablementConfig": scanning(settings.scan_on_push)}
    return resource


def scanning(wanted: bool) -> str:
    """The enablementConfig: a repository can only follow the project, or opt out."""
    return "INHERITED" if wanted else "DISABLED"
