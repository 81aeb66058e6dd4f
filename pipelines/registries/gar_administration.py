"""What to do, so that a repository of Artifact Registry is as the configuration says.

Follows the v1 REST reference of projects.locations.repositories. A repository there holds many images: its
immutability, scan, key and grants are those of all of them; retention is limited to this image's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pipelines.registries import gar_access, gar_retention
from pipelines.registries.administration import Administration, Change
from pipelines.registries.errors import NotFound, RegistryError, RepositoryMissing
from pipelines.registries.gar import create, scanning
from pipelines.registries.gar_api import LOCATION_VARIABLE, ArtifactApi, Json, Place
from pipelines.registries.gar_login import GoogleLogin
from pipelines.registries.reference import Repository

if TYPE_CHECKING:
    from pipelines.config_clouds import RepositorySettings
    from pipelines.config_registries import RegistryTarget


def administration(
    target: RegistryTarget, repository: Repository, environ: Mapping[str, str]
) -> Administration:
    """The management of ``repository``. Nothing is asked yet. Raises UsageError."""
    place = Place.of(repository, environ)
    login = GoogleLogin(target, repository, environ)
    return GarAdministration(repository.host, place, ArtifactApi.of(login, place, environ))


@dataclass(frozen=True, slots=True)
class GarAdministration:
    """One repository of Artifact Registry, and one image's part of it."""

    host: str
    place: Place
    api: ArtifactApi = field(repr=False)

    async def differences(
        self, settings: RepositorySettings, moving_tags: tuple[str, ...]
    ) -> tuple[Change, ...]:
        """See ``Administration``."""
        self._check(settings, moving_tags)
        now = await self._repository()
        changes = (
            [self._creation(settings)]
            if now is None
            else [*self._immutability(settings, now), *self._scan(settings, now)]
        )
        changes += gar_retention.differences(self.api, self.place, settings.retention, moving_tags, now or {})
        policy = {} if now is None else await gar_access.policy(self.api, self.place, settings)
        changes += gar_access.differences(self.api, self.place, settings, policy)
        return tuple(changes)

    def _check(self, settings: RepositorySettings, moving_tags: tuple[str, ...]) -> None:
        if not self.place.location:
            raise RegistryError(
                f"gar: {self.host}: nothing tells the location of {self.place.repository}",
                hint=f"set {LOCATION_VARIABLE}, like europe-west1",
            )
        if conflict := immutability_conflict(self.host, settings, moving_tags):
            raise conflict
        gar_access.check(self.host, settings)

    async def _repository(self) -> Json | None:
        """The repository as it is; None: there is none. Raises RegistryError where it takes no images."""
        try:
            now = await self.api.get(self.place.name)
        except NotFound:
            return None
        if now.get("format") != "DOCKER" or now.get("mode") not in (None, "STANDARD_REPOSITORY"):
            raise RegistryError(
                f"gar: {self.host}: {self.place.repository} is a {now.get('mode', '')} of format "
                f"{now.get('format')}: images can't be pushed to it",
                hint="name a standard repository of format docker",
            )
        return now

    def _creation(self, settings: RepositorySettings) -> Change:
        if not settings.create:
            raise RepositoryMissing(
                f"{self.host} has no repository {self.place.name}, and settings.create says not to make it",
                hint="have it made, or set create: true",
            )
        parts = [f"docker repository in {self.place.location}"]
        if settings.immutable_tags:
            parts.append("tags can't be overwritten")
        if settings.encryption_key:
            parts.append(f"encrypted with {settings.encryption_key}")
        if settings.scan_on_push is not None:
            parts.append("scanned" if settings.scan_on_push else "not scanned")

        async def make() -> None:
            await create(self.api, self.place, settings)

        return Change("repository", "", ", ".join(parts), make)

    def _immutability(self, settings: RepositorySettings, now: Json) -> list[Change]:
        wanted, there = settings.immutable_tags, _part(now, "dockerConfig").get("immutableTags") is True
        if wanted is None or wanted is there:
            return []
        resource: Json = {"dockerConfig": {"immutableTags": wanted}}
        apply = partial(self._patch, resource, "dockerConfig")
        return [Change("tag immutability", _on(there), _on(wanted), apply, widens=not wanted)]

    def _scan(self, settings: RepositorySettings, now: Json) -> list[Change]:
        self._check_key(settings, now)
        if settings.scan_on_push is None:
            return []
        scan = _part(now, "vulnerabilityScanningConfig")
        wanted, there = settings.scan_on_push, scan.get("enablementConfig") != "DISABLED"
        if wanted and there and scan.get("enablementState") == "SCANNING_DISABLED":
            raise RegistryError(
                f"gar: settings.scan_on_push: the project of {self.place.repository} does not scan",
                hint="gcloud services enable containerscanning.googleapis.com "
                f"--project {self.place.project}",
            )
        if wanted is there:
            return []
        resource: Json = {"vulnerabilityScanningConfig": {"enablementConfig": scanning(wanted)}}
        apply = partial(self._patch, resource, "vulnerabilityScanningConfig")
        return [Change("scan on push", _on(there), _on(wanted), apply)]

    def _check_key(self, settings: RepositorySettings, now: Json) -> None:
        key = now.get("kmsKeyName") or ""
        if settings.encryption_key and settings.encryption_key != key:
            raise RegistryError(
                f"gar: settings.encryption_key: {self.place.repository} is encrypted with "
                f"{key or 'a key of Google'}, and Artifact Registry never changes a repository's key",
                hint="make another repository with the wanted key and release there",
            )

    async def _patch(self, resource: Json, mask: str) -> None:
        await self.api.patch(self.place.name, {"name": self.place.name, **resource}, updateMask=mask)


def immutability_conflict(
    host: str, settings: RepositorySettings, moving_tags: tuple[str, ...]
) -> RegistryError | None:
    """What is wrong where tags are held fast and some are to move: there are no exceptions by name here."""
    if not settings.immutable_tags or not moving_tags:
        return None
    return RegistryError(
        f"gar: settings.immutable_tags: {host} then holds every tag fast, and {', '.join(moving_tags)} "
        "would have to move",
        hint="moving_tags: [] for this model, or immutable_tags: false; a digest never changes either way",
    )


def _part(resource: Json, name: str) -> Json:
    part = resource.get(name)
    return part if isinstance(part, dict) else {}


def _on(value: bool) -> str:
    return "on" if value else "off"
