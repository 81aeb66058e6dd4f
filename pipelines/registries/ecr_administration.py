"""Amazon ECR: what to do so that a repository is as the configuration says."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.config_clouds import RepositorySettings
from pipelines.config_registries import RegistryTarget
from pipelines.registries.administration import Change
from pipelines.registries.aws import AwsApi, EcrAddress
from pipelines.registries.ecr_access import (
    ACCESSES,
    Access,
    Statement,
    foreign_told,
    own,
    same,
    statements_of,
    told,
    widens,
    with_statements,
)
from pipelines.registries.ecr_policies import (
    Mutability,
    Rule,
    creation,
    creation_told,
    lifecycle,
    lifecycle_told,
    on_or_off,
    protects,
    same_lifecycle,
)
from pipelines.registries.errors import NotFound, RegistryError, RepositoryMissing
from pipelines.registries.reference import Repository


def administration(
    target: RegistryTarget, repository: Repository, environ: Mapping[str, str]
) -> EcrAdministration:
    """The management of ``repository``; nothing is asked of AWS yet.

    Raises:
        ConfigError: the host and ``ecr:`` contradict each other.
    """
    return EcrAdministration(AwsApi(repository, EcrAddress.of(target), target.ecr, environ))


@dataclass(frozen=True, slots=True)
class EcrAdministration:
    """The management of one repository, by the ECR API."""

    api: AwsApi = field(repr=False)

    async def differences(
        self, settings: RepositorySettings, moving_tags: tuple[str, ...]
    ) -> tuple[Change, ...]:
        """See ``Administration``. Encryption can't be changed any more: another one is an error."""
        found = await self._described()
        if found is None:
            changes = [self._to_make(settings, moving_tags)]
        else:
            await self._hold_encryption(settings, found)
            changes = [*self._mutability(settings, moving_tags, found), *self._scanning(settings, found)]
        changes += await self._retention(settings, moving_tags, there=found is not None)
        changes += await self._access(settings, there=found is not None)
        return tuple(changes)

    async def _described(self) -> Mapping[str, Any] | None:
        names = [self.api.repository.path]
        try:
            answer = await self.api.call("DescribeRepositories", repositoryNames=names, **self.api.registry)
        except RepositoryMissing:
            return None
        found: Mapping[str, Any] = answer["repositories"][0]
        return found

    def _to_make(self, settings: RepositorySettings, moving_tags: tuple[str, ...]) -> Change:
        if not settings.create:
            raise RepositoryMissing(
                f"{self.api.repository} is not there, and settings.create says not to make it",
                hint="have it made, or set create: true",
            )
        parameters = creation(settings, moving_tags)
        make = functools.partial(self._do, "CreateRepository", parameters)
        return Change("repository", "", creation_told(parameters), make)

    async def _do(self, operation: str, parameters: Mapping[str, object]) -> None:
        await self.api.on_repository(operation, **parameters)

    def _mutability(
        self, settings: RepositorySettings, moving_tags: tuple[str, ...], found: Mapping[str, Any]
    ) -> list[Change]:
        if settings.immutable_tags is None:
            return []
        wanted = Mutability.wanted(immutable=settings.immutable_tags, moving_tags=moving_tags)
        now = Mutability.of(found)
        if wanted == now:
            return []
        put = functools.partial(self._do, "PutImageTagMutability", wanted.parameters)
        return [Change("tag immutability", str(now), str(wanted), put, wanted.is_looser_than(now))]

    def _scanning(self, settings: RepositorySettings, found: Mapping[str, Any]) -> list[Change]:
        wanted = settings.scan_on_push
        now = bool((found.get("imageScanningConfiguration") or {}).get("scanOnPush", False))
        if wanted is None or wanted == now:
            return []
        parameters = {"imageScanningConfiguration": {"scanOnPush": wanted}}
        put = functools.partial(self._do, "PutImageScanningConfiguration", parameters)
        return [Change("scan on push", on_or_off(now), on_or_off(wanted), put)]

    async def _hold_encryption(self, settings: RepositorySettings, found: Mapping[str, Any]) -> None:
        wanted = settings.encryption_key
        now = found.get("encryptionConfiguration") or {"encryptionType": "AES256"}
        if wanted is None or (now["encryptionType"] != "AES256" and await self._is_key(wanted, now)):
            return
        raise RegistryError(
            f"ecr: settings.encryption_key: {self.api.repository} is encrypted with "
            f"{now.get('kmsKey') or now['encryptionType']}, not with {wanted}, and ECR can't change that",
            hint="remove encryption_key, or take a repository of another name: this one is never made anew",
        )

    async def _is_key(self, wanted: str, now: Mapping[str, Any]) -> bool:
        key = str(now.get("kmsKey", ""))
        if wanted in (key, key.rpartition("/")[2]):
            return True
        if "alias/" not in wanted:
            return False
        described = await self.api.call("DescribeKey", "kms", KeyId=wanted)
        return bool(described["KeyMetadata"]["Arn"] == key)

    async def _retention(
        self, settings: RepositorySettings, moving_tags: tuple[str, ...], *, there: bool
    ) -> list[Change]:
        if settings.retention is None:
            return []
        now = await self._rules() if there else []
        wanted = lifecycle(settings.retention, moving_tags)
        if same_lifecycle(now, wanted):
            return []
        put = functools.partial(self._put_rules, wanted)
        removed = lifecycle_told(rule for rule in wanted if not protects(rule))
        return [Change("retention", lifecycle_told(now), lifecycle_told(wanted), put, removes=removed)]

    async def _rules(self) -> list[Rule]:
        try:
            answer = await self.api.on_repository("GetLifecyclePolicy")
        except NotFound:
            return []
        rules: list[Rule] = json.loads(answer["lifecyclePolicyText"]).get("rules") or []
        return rules

    async def _put_rules(self, rules: list[Rule]) -> None:
        if rules:
            await self.api.on_repository(
                "PutLifecyclePolicy", lifecyclePolicyText=json.dumps({"rules": rules})
            )
        else:
            await self.api.on_repository("DeleteLifecyclePolicy")

    async def _access(self, settings: RepositorySettings, *, there: bool) -> list[Change]:
        if settings.pull is None and settings.push is None:
            return []
        statements = statements_of(await self._policy() if there else "")
        found = []
        for access in ACCESSES:
            principals = getattr(settings, access.key)
            if principals is not None:
                wanted = access.statements(principals, self.api.address.partition)
                found += self._grant(access, statements, wanted)
        return found

    def _grant(self, access: Access, statements: list[Statement], wanted: list[Statement]) -> list[Change]:
        now = own(statements, access)
        if same(now, wanted):
            return []
        kept = foreign_told(statements)
        also = f"; not ours, and kept: {kept}" if kept else ""
        before, after = told(now), told(wanted)
        if before == after:
            after = f"{after} (only what {access.key} needs, unconditionally)"
        put = functools.partial(self._put_statements, access, wanted)
        # Held against our own statements alone: what others granted may be taken back by them.
        return [Change(access.key, before, f"{after}{also}", put, widens(now, wanted))]

    async def _policy(self) -> str:
        try:
            return str((await self.api.on_repository("GetRepositoryPolicy"))["policyText"])
        except NotFound:
            return ""

    async def _put_statements(self, access: Access, wanted: list[Statement]) -> None:
        text = with_statements(await self._policy(), access, wanted)
        if text:
            await self.api.on_repository("SetRepositoryPolicy", policyText=text)
        else:
            await self.api.on_repository("DeleteRepositoryPolicy")
