"""Who may pull and push: the members of two roles in a repository's own access policy.

Read, changed and written with its etag (IAM's "Policy" reference), so that nobody else's change is lost.
Other roles stay as they are; what is granted on the project or above is not seen here, and holds as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from pipelines.registries.administration import Change
from pipelines.registries.errors import RegistryError
from pipelines.registries.gar_api import Conflict

if TYPE_CHECKING:
    from pipelines.config_clouds import RepositorySettings
    from pipelines.registries.gar_api import ArtifactApi, Json, Place

ROLES = {"pull": "roles/artifactregistry.reader", "push": "roles/artifactregistry.writer"}
_PUBLIC = ("allUsers", "allAuthenticatedUsers")
_PRINCIPAL = re.compile(
    r"(user|serviceAccount|group):[^\s:@]+@[^\s@]+|serviceAccount:\S+\.svc\.id\.goog\[\S+/\S+\]"
    r"|domain:\S+|principal(Set)?://iam\.googleapis\.com/\S+|project(Owner|Editor|Viewer):\S+"
    rf"|{'|'.join(_PUBLIC)}"
)
_ATTEMPTS = 4


def check(host: str, settings: RepositorySettings) -> None:
    """Hold that every principal is one. Raises RegistryError, with kind and key."""
    for key, members in _wanted(settings).items():
        for member in members:
            if not _PRINCIPAL.fullmatch(member):
                raise RegistryError(
                    f'gar: settings.{key}: {host}: "{member}" is no principal of Google Cloud',
                    hint="like serviceAccount:NAME@PROJECT.iam.gserviceaccount.com, group:TEAM@example.com, "
                    "principalSet://iam.googleapis.com/…",
                )
            if key == "push" and member in _PUBLIC:
                raise RegistryError(
                    f"gar: settings.push: {host}: {member} would let anybody replace images",
                    hint="name who pushes; pull: may be public",
                )


async def policy(api: ArtifactApi, place: Place, settings: RepositorySettings) -> Json:
    """The policy as it is; not asked for where the settings name nobody. Raises RegistryError."""
    if not _wanted(settings):
        return {}
    # 3: conditions are shown, instead of being left out and lost at the next write
    return await api.get(f"{place.name}:getIamPolicy", **{"options.requestedPolicyVersion": "3"})


def differences(api: ArtifactApi, place: Place, settings: RepositorySettings, now: Json) -> list[Change]:
    """What to change in the policy ``now``."""
    changes = []
    for key, members in _wanted(settings).items():
        there = _members(now, ROLES[key], place)
        if _same(there) == _same(members):
            continue
        added = _same(members) - _same(there)
        apply = partial(_apply, api, place, settings, ROLES[key], members)
        changes.append(
            Change(key, ", ".join(sorted(there)), ", ".join(sorted(members)), apply, widens=bool(added))
        )
    return changes


async def _apply(
    api: ArtifactApi, place: Place, settings: RepositorySettings, role: str, members: tuple[str, ...]
) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        latest = await policy(api, place, settings)
        _members(latest, role, place)  # refuses what can't be judged
        others = [one for one in _bindings(latest) if one.get("role") != role]
        own = [{"role": role, "members": sorted(members)}] if members else []
        try:
            await api.post(f"{place.name}:setIamPolicy", {"policy": {**latest, "bindings": [*others, *own]}})
        except Conflict:
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def _wanted(settings: RepositorySettings) -> dict[str, tuple[str, ...]]:
    both = {"pull": settings.pull, "push": settings.push}
    return {key: members for key, members in both.items() if members is not None}


def _bindings(now: Json) -> list[Json]:
    found = now.get("bindings")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _members(now: Json, role: str, place: Place) -> tuple[str, ...]:
    found: list[str] = []
    for binding in _bindings(now):
        if binding.get("role") != role:
            continue
        if binding.get("condition"):
            raise RegistryError(
                f"gar: settings: {place.repository} grants {role} under a condition, which can't be judged",
                hint="take that grant away, or leave pull: and push: out of the settings",
            )
        found += [str(member) for member in binding.get("members") or ()]
    return tuple(found)


def _same(members: Iterable[str]) -> set[str]:
    """For comparing: mail addresses and domains are the same in every case."""
    return {
        member.lower() if re.match(r"(user|serviceAccount|group|domain):", member) else member
        for member in members
    }
