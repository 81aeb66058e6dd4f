"""What to do, so that a repository of an Azure Container Registry is as the configuration says.

Tags are held fast one by one: a registry of this kind knows no tags that are immutable from the start
(Azure/acr issue 890), so ``immutable_tags`` locks the release tags that are there ("Lock a container image in
an Azure container registry"). Retention and the mode of roles are the registry's, for all its repositories.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Final

import httpx

from pipelines.config_clouds import Kind, RepositorySettings
from pipelines.config_registries import RegistryTarget
from pipelines.errors import UsageError
from pipelines.registries.acr import Logins, logins_of
from pipelines.registries.acr_access import PULL, PUSH, Access
from pipelines.registries.administration import Administration, Change
from pipelines.registries.auth import Authenticator
from pipelines.registries.azure_cloud import Cloud
from pipelines.registries.descriptors import json_object
from pipelines.registries.entra import EntraIdentity
from pipelines.registries.errors import RegistryError
from pipelines.registries.http import Call, Connection
from pipelines.registries.quirks import quirks_of
from pipelines.registries.reference import Repository
from pipelines.registries.resource_manager import REGISTRIES, Json, ResourceManager
from pipelines.registries.retries import Retries
from pipelines.registries.transport import new_http_client

_LONGEST_DAYS: Final = 365
_PAGE: Final = 100
_BESIDE: Final = re.compile(r"sha256-[0-9a-f]{64}(\..+)?")
"""Tags of what belongs to an image (signatures, the fallback list of referrers): they have to stay free."""
_NEXT: Final = re.compile(r"<([^>]+)>\s*;\s*rel=\"?next\"?")


def administration(
    target: RegistryTarget, repository: Repository, environ: Mapping[str, str]
) -> Administration:
    """The management of ``repository``. Nothing is asked yet."""
    identity = EntraIdentity(target.acr, Cloud.of(repository.host, environ), environ)
    return AcrAdministration(target, repository, logins_of(target, repository, environ), identity)


@dataclass(frozen=True, slots=True)
class AcrAdministration:
    """One repository, and what concerns it of its registry."""

    target: RegistryTarget
    repository: Repository
    logins: Logins = field(repr=False)
    identity: EntraIdentity = field(repr=False)

    async def differences(
        self, settings: RepositorySettings, moving_tags: tuple[str, ...]
    ) -> tuple[Change, ...]:
        """See ``Administration``."""
        self._check(settings)
        days = settings.retention.untagged_days if settings.retention else None
        changes: list[Change] = []
        if any(value is not None for value in (days, settings.pull, settings.push, settings.encryption_key)):
            changes += await self._of_registry(settings, days)
        if settings.immutable_tags is not None:
            changes += await self._locks(moving_tags, locked=settings.immutable_tags)
        return tuple(changes)

    def _check(self, settings: RepositorySettings) -> None:
        if settings.scan_on_push is not None:
            raise self._unable(
                "scan_on_push: images are scanned by Microsoft Defender for Containers, which is switched on "
                "for a subscription",
                "leave the key out, and see `az security pricing create --name Containers`",
            )
        if settings.retention and settings.retention.keep_last is not None:
            raise self._unable(
                "retention: keep_last: a registry of this kind removes nothing that has a tag",
                "leave the key out; a scheduled `acr purge --keep` does it, for what it may delete",
            )
        days = settings.retention.untagged_days if settings.retention else None
        if days is not None and days > _LONGEST_DAYS:
            raise self._unable(
                f"retention: untagged_days: {days} is more than {_LONGEST_DAYS}", "it takes up to a year"
            )

    def _unable(self, what: str, hint: str) -> RegistryError:
        return RegistryError(f"{self.repository.host} (acr): {what}", hint=hint)

    # The registry, by the Resource Manager

    async def _of_registry(self, settings: RepositorySettings, days: int | None) -> list[Change]:
        azure, path = ResourceManager(self.identity), self._path()
        there = await azure.get(path, REGISTRIES)
        self._check_registry(settings, there)
        changes = [] if days is None else self._retention(azure, path, there, days)
        by_repository = _properties(there).get("roleAssignmentMode") == "AbacRepositoryPermissions"
        access = Access(azure, self.repository.host, str(there.get("id") or path), self.repository.path)
        for right, wanted in ((PULL, settings.pull), (PUSH, settings.push)):
            if wanted is not None:
                changes += await access.differences(right, wanted, by_repository=by_repository)
        return changes

    def _path(self) -> str:
        """The registry's resource id. A name is of letters and digits; a dash in the host begins a hash."""
        acr = self.target.acr
        if not acr.subscription or not acr.resource_group:
            raise UsageError(
                f"{self.repository.host} (acr): who manages the registry has to know its place in Azure",
                hint="give acr: subscription: and resource_group: with this registry in modelport.yaml",
            )
        name = re.split(r"[.:-]", self.repository.host)[0]
        return (
            f"/subscriptions/{acr.subscription}/resourceGroups/{acr.resource_group}"
            f"/providers/Microsoft.ContainerRegistry/registries/{name}"
        )

    def _check_registry(self, settings: RepositorySettings, there: Json) -> None:
        host = str(_properties(there).get("loginServer", "")).lower()
        if host != self.repository.host.lower():
            raise self._unable(
                f"the registry of that name in resource group {self.target.acr.resource_group} is {host}",
                "correct acr: subscription: and resource_group:",
            )
        key = _part(_part(_properties(there), "encryption"), "keyVaultProperties").get("keyIdentifier")
        if settings.encryption_key is not None and settings.encryption_key != key:
            raise self._unable(
                f"encryption_key: the registry is encrypted with {key or 'a key of Microsoft'}, and that is "
                "set when a registry is made",
                "leave the key out, or make a registry with `az acr create --key-encryption-key`",
            )

    def _retention(self, azure: ResourceManager, path: str, there: Json, days: int) -> list[Change]:
        policy = _part(_part(_properties(there), "policies"), "retentionPolicy")
        now = policy.get("days") if policy.get("status") == "enabled" else None
        if now == days:
            return []
        tier = str(_part(there, "sku").get("name", ""))
        if tier != "Premium":
            raise self._unable(
                f"retention: untagged_days: only a Premium registry has it, this one is {tier}",
                "leave the key out, or `az acr update --sku Premium`",
            )
        wanted = {"properties": {"policies": {"retentionPolicy": {"status": "enabled", "days": days}}}}
        return [
            Change(
                "retention: untagged_days",
                "" if now is None else f"{now}",
                f"{days}, in all repositories of the registry",
                partial(azure.patch, path, REGISTRIES, wanted),
                removes=f"manifests of all repositories, {days} days after they lose their last tag",
            )
        ]

    # Locks, by the registry's own API

    async def _locks(self, moving_tags: tuple[str, ...], *, locked: bool) -> list[Change]:
        tags = {
            tag: is_locked
            for tag, is_locked in (await self._tags()).items()
            if not any(fnmatchcase(tag, one) for one in moving_tags) and not _BESIDE.fullmatch(tag)
        }
        wrong = sorted(tag for tag, is_locked in tags.items() if is_locked is not locked)
        if not wrong:
            return []
        done, word = len(tags) - len(wrong), "locked" if locked else "free"
        before, after = f"{done} of {len(tags)} release tags {word}", f"{_some(wrong)} {word} too"
        return [
            Change("immutable_tags", before, after, partial(self._lock, wrong, locked), widens=not locked)
        ]

    async def _tags(self) -> dict[str, bool]:
        """Every tag, and whether it is locked; none where there is no repository yet."""
        found: dict[str, bool] = {}
        target = f"/acr/v1/{self.repository.path}/_tags?n={_PAGE}"
        async with new_http_client(self.repository) as http:
            connection = self._connection(http, "metadata_read")
            while target:
                answer = await connection.request(Call("GET", target, ok=(200, 404)))
                page = json_object(answer.body, "the list of tags").get("tags") or []
                for value in (one for one in page if isinstance(one, dict)):
                    attributes = _part(value, "changeableAttributes")
                    found[str(value.get("name", ""))] = attributes.get("writeEnabled") is False
                link = _NEXT.search(answer.headers.get("Link", ""))
                target = link[1] if link and page else ""
        return found

    async def _lock(self, tags: list[str], locked: bool) -> None:
        body = json.dumps({"writeEnabled": not locked}).encode()
        async with new_http_client(self.repository) as http:
            connection = self._connection(http, "metadata_write")
            for tag in tags:
                path = f"/acr/v1/{self.repository.path}/_tags/{tag}"
                await connection.request(Call("PATCH", path, headers=_JSON, content=body))

    def _connection(self, http: httpx.AsyncClient, actions: str) -> Connection:
        authenticator = Authenticator(self.repository, self.logins.source(), actions)
        quirks = quirks_of(Kind.ACR, self.repository.host)
        return Connection(http, self.repository, authenticator, Retries(), quirks)


_JSON: Final = {"Content-Type": "application/json"}


def _some(tags: list[str]) -> str:
    return ", ".join(tags) if len(tags) <= 5 else f"{', '.join(tags[:4])} and {len(tags) - 4} more"


def _properties(resource: Json) -> Json:
    return _part(resource, "properties")


def _part(value: Json, name: str) -> Json:
    part = value.get(name)
    return part if isinstance(part, dict) else {}
