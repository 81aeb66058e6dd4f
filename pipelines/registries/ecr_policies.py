"""What a repository of ECR should be like, as the API's own values. Nothing here talks to AWS.

https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html
https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pipelines.config_clouds import RepositorySettings, Retention
from pipelines.registries.errors import RegistryError

Rule: TypeAlias = dict[str, Any]
"""A lifecycle rule; Any: AWS's own JSON, which others may have written."""

MOST_FILTERS: Final = 5
"""So many exclusions from immutability ECR takes."""


@dataclass(frozen=True, slots=True)
class Mutability:
    """Which tags can be overwritten."""

    mode: str
    filters: tuple[str, ...] = ()
    """Patterns that are left out of ``mode``."""

    @classmethod
    def wanted(cls, *, immutable: bool, moving_tags: tuple[str, ...]) -> Mutability:
        """Release tags held fast, and moving tags left out.

        Raises:
            RegistryError: there are more moving tags than ECR can leave out.
        """
        if not immutable:
            return cls("MUTABLE")
        filters = tuple(sorted(set(moving_tags)))
        if len(filters) > MOST_FILTERS:
            raise RegistryError(
                f"ecr: settings.immutable_tags: ECR leaves out at most {MOST_FILTERS} moving tags, and there "
                f"are {len(filters)}: {', '.join(filters)}",
                hint="give fewer moving tags, or one beginning in common (stable-{branch})",
            )
        return cls("IMMUTABLE_WITH_EXCLUSION" if filters else "IMMUTABLE", filters)

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Mutability:
        """That of a repository as DescribeRepositories tells it."""
        filters = described.get("imageTagMutabilityExclusionFilters") or ()
        return cls(
            described.get("imageTagMutability", "MUTABLE"), tuple(sorted(one["filter"] for one in filters))
        )

    @property
    def parameters(self) -> dict[str, object]:
        """For CreateRepository and PutImageTagMutability."""
        filters = [{"filterType": "WILDCARD", "filter": one} for one in self.filters]
        return {"imageTagMutability": self.mode} | (
            {"imageTagMutabilityExclusionFilters": filters} if filters else {}
        )

    def is_looser_than(self, other: Mutability) -> bool:
        """Whether some tag can be overwritten here and not there."""
        if other.mode == "MUTABLE":
            return False
        if other.mode.startswith("MUTABLE"):  # all but some: only "all" is more, or a filter that it holds
            return self.mode == "MUTABLE" or bool(set(self.filters) & set(other.filters))
        return self.mode.startswith("MUTABLE") or not set(self.filters) <= set(other.filters)

    def __str__(self) -> str:
        filters = f" (except {', '.join(self.filters)})" if self.filters else ""
        return f"{self.mode.removesuffix('_WITH_EXCLUSION')}{filters}"


def creation(settings: RepositorySettings, moving_tags: tuple[str, ...]) -> dict[str, object]:
    """The parameters of CreateRepository; what ``settings`` does not name is as AWS has it."""
    parameters: dict[str, object] = {}
    if settings.immutable_tags is not None:
        wanted = Mutability.wanted(immutable=settings.immutable_tags, moving_tags=moving_tags)
        parameters |= wanted.parameters
    if settings.scan_on_push is not None:
        parameters["imageScanningConfiguration"] = {"scanOnPush": settings.scan_on_push}
    if settings.encryption_key is not None:
        parameters["encryptionConfiguration"] = {"encryptionType": "KMS", "kmsKey": settings.encryption_key}
    return parameters


def creation_told(parameters: Mapping[str, Any]) -> str:
    """``creation`` for people."""
    parts = ["made"]
    if "imageTagMutability" in parameters:
        parts.append(f"tags {Mutability.of(parameters)}")
    if scanning := parameters.get("imageScanningConfiguration"):
        parts.append(f"scan on push {on_or_off(scanning['scanOnPush'])}")
    if encryption := parameters.get("encryptionConfiguration"):
        parts.append(f"encrypted with {encryption['kmsKey']}")
    return ", ".join(parts)


def on_or_off(value: object) -> str:
    """For people."""
    return "on" if value else "off"


def lifecycle(retention: Retention, moving_tags: Iterable[str]) -> list[Rule]:
    """The rules of the lifecycle policy; none where nothing may be removed.

    Only images with a tag are counted: SBOMs and statements that refer to an image are manifests too, and go
    with their image. An image that a moving tag names is chosen by a rule of its own, before the others, that
    never removes it. (A moving tag that is a pattern names many images: these are not protected.)
    """
    rules: list[Rule] = []
    if retention.keep_last is not None:
        for tag in sorted({one for one in moving_tags if "*" not in one}):
            rules.append(_rule({"tagStatus": "tagged", "tagPatternList": [tag], **_newest(1)}, f"keep {tag}"))
    if retention.untagged_days is not None:
        days = {"countType": "sinceImagePushed", "countUnit": "days", "countNumber": retention.untagged_days}
        rules.append(_rule({"tagStatus": "untagged", **days}, "remove images without a tag"))
    if retention.keep_last is not None:
        selection = {"tagStatus": "tagged", "tagPatternList": ["*"], **_newest(retention.keep_last)}
        rules.append(_rule(selection, "keep the newest releases"))
    return [{"rulePriority": number, **rule} for number, rule in enumerate(rules, 1)]


def _newest(count: int) -> dict[str, object]:
    return {"countType": "imageCountMoreThan", "countNumber": count}


def _rule(selection: Mapping[str, object], why: str) -> Rule:
    return {"description": f"modelport: {why}", "selection": dict(selection), "action": {"type": "expire"}}


def same_lifecycle(one: Sequence[Rule], other: Sequence[Rule]) -> bool:
    """Whether two policies do the same: priorities count only as an order, descriptions not at all."""
    return [_meaning(rule) for rule in _in_order(one)] == [_meaning(rule) for rule in _in_order(other)]


def _in_order(rules: Iterable[Rule]) -> list[Rule]:
    return sorted(rules, key=lambda rule: int(rule.get("rulePriority", 0)))


def _meaning(rule: Rule) -> str:
    selection = dict(rule.get("selection") or {})
    for key in ("tagPatternList", "tagPrefixList"):
        if key in selection:
            selection[key] = sorted(selection[key] or ())
    selection = {key: value for key, value in selection.items() if value not in (None, [])}
    return json.dumps([selection, rule.get("action")], sort_keys=True)


def lifecycle_told(rules: Iterable[Rule]) -> str:
    """What a policy removes, for people; "" for nothing."""
    return "; ".join(_rule_told(rule) for rule in _in_order(rules))


def protects(rule: Rule) -> bool:
    """Whether a rule can never remove anything: a tag without a wildcard names one image at most."""
    selection = rule.get("selection") or {}
    names = selection.get("tagPatternList") or []
    return (
        selection.get("countType") == "imageCountMoreThan"
        and selection.get("countNumber", 0) >= 1
        and any("*" not in name for name in names)
    )


def _rule_told(rule: Rule) -> str:
    selection = rule.get("selection") or {}
    if protects(rule):
        return f"never what {' and '.join(selection['tagPatternList'])} names"
    names = selection.get("tagPatternList") or [f"{one}*" for one in selection.get("tagPrefixList") or ()]
    tagged = "images with a tag" if names == ["*"] else f"images tagged {' and '.join(names)}"
    which = {"untagged": "images without a tag", "any": "any image"}.get(
        selection.get("tagStatus", ""), tagged
    )
    number = selection.get("countNumber")
    when = (
        f"beyond the newest {number}"
        if selection.get("countType") == "imageCountMoreThan"
        else f"{number} days since {str(selection.get('countType', '')).removeprefix('sinceImage').lower()}"
    )
    kind = (rule.get("action") or {}).get("type", "expire")
    return f"{which}, {when}{'' if kind == 'expire' else f' ({kind})'}"
