"""Who may pull and push: role assignments on an Azure Container Registry.

A registry in the mode "RBAC Registry + ABAC Repository Permissions" gives rights on one repository, by a
condition of the assignment ("Azure attribute-based access control repository permissions in Azure Container
Registry"). Azure keeps one assignment for each principal and role, so its condition names every repository
that the principal may use. A registry in the older mode only knows rights on all of it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from pipelines.registries.administration import Change
from pipelines.registries.errors import RegistryError
from pipelines.registries.resource_manager import ROLE_ASSIGNMENTS, Json, ResourceManager

_DATA: Final = "Microsoft.ContainerRegistry/registries/repositories"
_READ: Final = (f"{_DATA}/content/read", f"{_DATA}/metadata/read")
_WRITE: Final = (
    f"{_DATA}/content/read",
    f"{_DATA}/content/write",
    f"{_DATA}/metadata/read",
    f"{_DATA}/metadata/write",
)
_NAMED: Final = rf"@Request\[{re.escape(_DATA)}:name\]StringEqualsIgnoreCase'([a-z0-9._/-]+)'"
_ROLES: Final = "Microsoft.Authorization/roleDefinitions"
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Right:
    """What a principal may do: a built-in role, in each of the two modes."""

    key: str
    """The key of the settings."""
    role: str
    name: str
    actions: tuple[str, ...]
    """All data actions of the role. One that a condition leaves out would be given on all repositories."""
    old_role: str
    old_name: str


PULL: Final = Right(
    "pull",
    "b93aa761-3e63-49ed-ac28-beffa264f7ac",
    "Container Registry Repository Reader",
    _READ,
    "7f951dda-4ed3-4680-a7ca-43fe172d538d",
    "AcrPull",
)
PUSH: Final = Right(
    "push",
    "2a1e307c-b015-4ebd-883e-5b7698a07328",
    "Container Registry Repository Writer",
    _WRITE,
    "8311e382-0749-4cb8-b61a-304f252e45ec",
    "AcrPush",
)


def condition(right: Right, repositories: Iterable[str]) -> str:
    """The condition under which ``right`` is only for these repositories."""
    others = " AND ".join(f"!(ActionMatches{{'{action}'}})" for action in right.actions)
    names = " OR ".join(
        f"(@Request[{_DATA}:name] StringEqualsIgnoreCase '{name}')" for name in sorted(repositories)
    )
    return f"(({others}) OR {names})"


def repositories_of(right: Right, text: str) -> frozenset[str] | None:
    """The repositories that a condition names; None where it is no condition of ours."""
    packed = re.sub(r"\s+", "", text)
    names = frozenset(name.lower() for name in re.findall(_NAMED, packed))
    return names if names and packed == re.sub(r"\s+", "", condition(right, names)) else None


@dataclass(frozen=True, slots=True)
class Assignment:
    """A role assignment on the registry itself."""

    path: str
    principal: str
    condition: str

    @classmethod
    def of(cls, value: Json, registry: str, role: str) -> Assignment | None:
        """One of ``role`` directly on the registry; None for another, or one from above."""
        properties = value.get("properties")
        if not isinstance(properties, dict) or str(properties.get("scope", "")).lower() != registry.lower():
            return None
        if not str(properties.get("roleDefinitionId", "")).lower().endswith(f"/{role}"):
            return None
        principal = str(properties.get("principalId", "")).lower()
        return cls(str(value.get("id", "")), principal, str(properties.get("condition") or ""))


@dataclass(frozen=True, slots=True)
class Access:
    """The rights on one repository of the registry ``registry`` (its resource id)."""

    azure: ResourceManager = field(repr=False)
    host: str
    registry: str
    repository: str

    async def differences(
        self, right: Right, wanted: tuple[str, ...], *, by_repository: bool
    ) -> list[Change]:
        """What to give and to take. Raises RegistryError where that can't be done."""
        principals = [self._checked(right, principal) for principal in dict.fromkeys(wanted)]
        if by_repository:
            return await self._of_repository(right, principals)
        return await self._of_registry(right, principals)

    async def _of_repository(self, right: Right, principals: list[str]) -> list[Change]:
        there = await self._assignments(right.role)
        changes = [
            self._change(right, principal, "", f"{principal} ({right.name})", add)
            for principal in principals
            if (add := self._adding(right, there.get(principal))) is not None
        ]
        changes += [
            self._change(right, principal, f"{principal} ({right.name})", "", self._taking)
            for principal, one in there.items()
            if principal not in principals
            and self.repository in (repositories_of(right, one.condition) or ())
        ]
        return changes

    async def _of_registry(self, right: Right, principals: list[str]) -> list[Change]:
        there = await self._assignments(right.old_role)
        if others := [principal for principal in there if principal not in principals]:
            raise RegistryError(
                f"{self.host} (acr): {right.key}: {', '.join(others)} may {right.key} too: {right.old_name} "
                "is on the whole registry, and rights on one repository are not to be had in its mode",
                hint=f"list them under {right.key}:, or `az acr update --role-assignment-mode rbac-abac` "
                "(read docs/registries/acr.md first)",
            )
        after = f"({right.old_name}, on all repositories of the registry)"

        async def give(principal: str) -> None:
            await self._put(self._new_path(right.old_role, principal), right.old_role, principal, "")

        return [
            Change(right.key, "", f"{one} {after}", partial(give, one), widens=True)
            for one in principals
            if one not in there
        ]

    def _adding(self, right: Right, one: Assignment | None) -> Callable[..., frozenset[str]] | None:
        """How to extend what is there; None where it is enough already."""
        if one is None:
            return self._giving
        if not one.condition:  # on all repositories
            return None
        return None if self.repository in self._names(right, one) else self._giving

    def _names(self, right: Right, one: Assignment) -> frozenset[str]:
        names = repositories_of(right, one.condition)
        if names is None:
            raise RegistryError(
                f"{self.host} (acr): {right.key}: the {right.name} of {one.principal} has a condition "
                "that this program did not write, and does not change",
                hint="add the repository to that condition by hand, or remove the role assignment",
            )
        return names

    def _giving(self, names: frozenset[str]) -> frozenset[str]:
        return names | {self.repository}

    def _taking(self, names: frozenset[str]) -> frozenset[str]:
        return names - {self.repository}

    def _change(
        self,
        right: Right,
        principal: str,
        before: str,
        after: str,
        change: Callable[[frozenset[str]], frozenset[str]],
    ) -> Change:
        apply = partial(self._apply, right, principal, change)
        return Change(right.key, before, after, apply, widens=bool(after))

    async def _apply(
        self, right: Right, principal: str, change: Callable[[frozenset[str]], frozenset[str]]
    ) -> None:
        """Looks again first: the same assignment may just have been extended for another model."""
        one = (await self._assignments(right.role)).get(principal)
        after = change(self._names(right, one) if one else frozenset())
        if after:
            path = one.path if one else self._new_path(right.role, principal)
            await self._put(path, right.role, principal, condition(right, after))
        elif one is not None:
            await self.azure.delete(one.path, ROLE_ASSIGNMENTS)

    async def _assignments(self, role: str) -> dict[str, Assignment]:
        path = f"{self.registry}/providers/Microsoft.Authorization/roleAssignments"
        values = await self.azure.values(path, ROLE_ASSIGNMENTS, "$filter=atScope()")
        found = (Assignment.of(value, self.registry, role) for value in values)
        return {one.principal: one for one in found if one is not None}

    async def _put(self, path: str, role: str, principal: str, text: str) -> None:
        subscription = "/".join(self.registry.split("/")[:3])
        properties = {
            "roleDefinitionId": f"{subscription}/providers/{_ROLES}/{role}",
            "principalId": principal,
            **({"condition": text, "conditionVersion": "2.0"} if text else {}),
        }
        await self.azure.put(path, ROLE_ASSIGNMENTS, {"properties": properties})

    def _new_path(self, role: str, principal: str) -> str:
        name = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.registry}/{role}/{principal}".lower())
        return f"{self.registry}/providers/Microsoft.Authorization/roleAssignments/{name}"

    def _checked(self, right: Right, principal: str) -> str:
        if not _ID.fullmatch(principal.lower()):
            raise RegistryError(
                f'{self.host} (acr): {right.key}: "{principal}" is no object id',
                hint="`az ad sp show --id CLIENT --query id` tells it; else `az ad user`, `az ad group`",
            )
        return principal.lower()
