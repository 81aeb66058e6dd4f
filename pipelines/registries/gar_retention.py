"""What Artifact Registry may remove by itself: cleanup policies, of which only our own are ever touched.

A policy names images by the beginning of their name, and a KEEP policy wins over every DELETE policy
("Cleanup policies overview"). Removal happens in the background, within about a day.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from pipelines.registries.administration import Change

if TYPE_CHECKING:
    from pipelines.config_clouds import Retention
    from pipelines.registries.gar_api import ArtifactApi, Json, Place

_DAY_S = 24 * 60 * 60
_REFERRERS = "referrers (SBOM, statements) count as untagged images there"


def differences(
    api: ArtifactApi, place: Place, retention: Retention | None, moving_tags: tuple[str, ...], now: Json
) -> list[Change]:
    """What to change in the repository ``now``; nothing where no retention is asked for."""
    if retention is None:
        return []
    wanted = policies(place.package, retention, moving_tags)
    there = _own(place.package, now)
    if {name: _essence(policy) for name, policy in there.items()} == {
        name: _essence(policy) for name, policy in wanted.items()
    }:
        return []

    async def apply() -> None:
        latest = await api.get(place.name)
        merged = {name: policy for name, policy in _all(latest).items() if not _is_own(place.package, name)}
        body: Json = {"name": place.name, "cleanupPolicies": merged | wanted}
        await api.patch(place.name, body, updateMask="cleanupPolicies")

    after = _told(retention)
    if now.get("cleanupPolicyDryRun"):
        after += " (the repository's dry run is on: nothing is removed until it is ended there)"
    return [Change("retention", _shown(there), after, apply, removes=_removed(place.package, retention))]


def policies(package: str, retention: Retention, moving_tags: tuple[str, ...]) -> dict[str, Json]:
    """The cleanup policies of one image name, by their ids. What a moving tag names is always kept.

    A moving tag that is a pattern (``1.*``) names releases as well: those are not kept for that.
    """
    prefix = _prefix(package)
    found: list[tuple[str, str, str, Json]] = []
    if retention.untagged_days is not None:
        condition: Json = {"tagState": "UNTAGGED", "olderThan": f"{retention.untagged_days * _DAY_S}s"}
        found.append(("untagged", "DELETE", "condition", condition))
    if retention.keep_last is not None:
        found.append(("older", "DELETE", "condition", {"tagState": "ANY"}))
        found.append(("newest", "KEEP", "mostRecentVersions", {"keepCount": retention.keep_last}))
        if names := sorted({tag for tag in moving_tags if "*" not in tag}):
            tagged: Json = {"tagState": "TAGGED", "tagPrefixes": names}
            found.append(("moving", "KEEP", "condition", tagged))
    return {
        f"{prefix}{end}": {
            "id": f"{prefix}{end}",
            "action": action,
            kind: {**what, "packageNamePrefixes": [package]},
        }
        for end, action, kind, what in found
    }


def _prefix(package: str) -> str:
    """How our policies' ids begin: letters, digits and hyphens, different for every image name."""
    plain = re.sub(r"[^a-z0-9-]", "-", package)
    if plain != package or len(plain) > 60:
        plain = f"{plain[:60]}-{hashlib.sha256(package.encode()).hexdigest()[:8]}"
    return f"modelport-{plain}-"


def _is_own(package: str, name: str) -> bool:
    return name in {f"{_prefix(package)}{end}" for end in ("untagged", "older", "newest", "moving")}


def _all(resource: Json) -> dict[str, Json]:
    found = resource.get("cleanupPolicies")
    return {name: one for name, one in (found or {}).items() if isinstance(one, dict)}


def _own(package: str, resource: Json) -> dict[str, Json]:
    return {name: policy for name, policy in _all(resource).items() if _is_own(package, name)}


def _essence(policy: Json) -> Json:
    """Without the id, which is the key as well, and with durations as numbers: ``60s`` is ``60.000s``."""
    found = {key: value for key, value in policy.items() if key != "id"}
    condition = found.get("condition")
    if isinstance(condition, dict) and (match := re.fullmatch(r"([\d.]+)s", str(condition.get("olderThan")))):
        found["condition"] = {**condition, "olderThan": float(match[1])}
    return found


def _shown(policies_there: dict[str, Json]) -> str:
    parts = []
    for policy in policies_there.values():
        if isinstance(keep := policy.get("mostRecentVersions"), dict):
            parts.append(f"the newest {keep.get('keepCount')} are kept")
        elif isinstance(condition := policy.get("condition"), dict) and condition.get("olderThan"):
            parts.append(f"untagged ones go after {condition['olderThan']}")
    return "; ".join(parts)


def _told(retention: Retention) -> str:
    parts = []
    if retention.untagged_days is not None:
        parts.append(f"untagged ones go after {retention.untagged_days} days")
    if retention.keep_last is not None:
        parts.append(f"the newest {retention.keep_last} are kept")
    return "; ".join(parts)


def _removed(package: str, retention: Retention) -> str:
    """What goes, with all that is easily overlooked."""
    parts = []
    if retention.untagged_days is not None:
        parts.append(f"untagged images older than {retention.untagged_days} days")
    if retention.keep_last is not None:
        parts.append(f"images beyond the newest {retention.keep_last} of each name, tagged or not")
    return f"of every name that begins with {package}: {', '.join(parts)}; {_REFERRERS}" if parts else ""
