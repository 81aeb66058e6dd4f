"""Who may pull from a repository of ECR and push to it: the repository policy. Nothing here talks to AWS.

Only statements with Sids of our own are written; all others are kept as they are.
https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-policies.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

from pipelines.registries.errors import RegistryError

Statement: TypeAlias = dict[str, Any]
"""A statement of a policy; Any: AWS's own JSON, which others may have written."""

PULL: Final = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
PUSH: Final = (
    *PULL,
    "ecr:CompleteLayerUpload",
    "ecr:DescribeRepositories",
    "ecr:InitiateLayerUpload",
    "ecr:ListImages",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
)
"""A push asks first whether the repository is there, looks at its tags, and reads back what it sent."""
_ORGANISATION: Final = "aws:PrincipalOrgID"


@dataclass(frozen=True, slots=True)
class Access:
    """A kind of access: the key of ``settings:``, the actions, and the Sid of its statements."""

    key: str
    sid: str
    actions: tuple[str, ...]

    @property
    def sids(self) -> tuple[str, str]:
        """For principals, and for whole organisations."""
        return (self.sid, f"{self.sid}Organisations")

    def statements(self, principals: Iterable[str], partition: str) -> list[Statement]:
        """The statements that let ``principals`` (and no others) do it; none for nobody.

        Raises:
            RegistryError: something is no principal of AWS.
        """
        named: dict[str, set[str]] = {}
        for text in principals:
            kind, value = self._principal(text, partition)
            named.setdefault(kind, set()).add(value)
        organisations = sorted(named.pop("organisation", ()))
        found = []
        if named:
            found.append(self._allow(self.sid, {kind: sorted(named[kind]) for kind in sorted(named)}))
        if organisations:
            condition = {"Condition": {"StringEquals": {_ORGANISATION: organisations}}}
            found.append(self._allow(self.sids[1], "*") | condition)
        return found

    def _allow(self, sid: str, principal: object) -> Statement:
        return {"Sid": sid, "Effect": "Allow", "Principal": principal, "Action": sorted(self.actions)}

    def _principal(self, text: str, partition: str) -> tuple[str, str]:
        if re.fullmatch(r"\d{12}", text):
            return "AWS", f"arn:{partition}:iam::{text}:root"
        if text == "*" or re.fullmatch(
            r"arn:aws[a-z-]*:(iam|sts)::\d{12}:(root|(user|role|assumed-role|federated-user)/[\w+=,.@/-]+)",
            text,
        ):
            return "AWS", text
        if re.fullmatch(r"[a-z0-9.-]+\.amazonaws\.com(\.cn)?", text):
            return "Service", text
        if re.fullmatch(r"o-[a-z0-9]{10,32}", text):
            return "organisation", text
        raise RegistryError(
            f'ecr: settings.{self.key}: "{text}" is no principal of AWS',
            hint="an account (twelve digits), the ARN of a role or user, a service (lambda.amazonaws.com), "
            "an organisation (o-…), or *",
        )


ACCESSES: Final = (Access("pull", "ModelportPull", PULL), Access("push", "ModelportPush", PUSH))


def statements_of(policy_text: str) -> list[Statement]:
    """The statements of a policy; a single one need not stand in a list."""
    found = json.loads(policy_text).get("Statement") or [] if policy_text else []
    return [found] if isinstance(found, dict) else list(found)


def with_statements(policy_text: str, access: Access, wanted: Sequence[Statement]) -> str:
    """The policy with ``wanted`` in place of our statements for ``access``; "" where none are left."""
    document = json.loads(policy_text) if policy_text else {"Version": "2012-10-17"}
    kept = [one for one in statements_of(policy_text) if one.get("Sid") not in access.sids]
    document["Statement"] = [*kept, *wanted]
    return json.dumps(document, indent=2) if document["Statement"] else ""


def own(statements: Iterable[Statement], access: Access) -> list[Statement]:
    """Our statements for ``access``."""
    return [one for one in statements if one.get("Sid") in access.sids]


def foreign(statements: Iterable[Statement]) -> list[Statement]:
    """Statements that others wrote."""
    ours = {sid for access in ACCESSES for sid in access.sids}
    return [one for one in statements if one.get("Sid") not in ours]


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One thing that one principal may do."""

    principal: str
    action: str
    condition: str

    def covers(self, other: Grant) -> bool:
        """Whether ``other`` lets nobody do more than this does."""
        return (
            self.principal in ("*", other.principal)
            and fnmatchcase(other.action.lower(), self.action.lower())
            and self.condition in ("", other.condition)
        )


def grants(statements: Iterable[Statement]) -> frozenset[Grant]:
    """What statements allow, one by one."""
    return frozenset(
        Grant(principal, action, _condition(one))
        for one in statements
        if one.get("Effect") == "Allow"
        for principal in principals_of(one)
        for action in _listed(one.get("Action"))
    )


def same(one: Sequence[Statement], other: Iterable[Statement]) -> bool:
    """Whether ``one``, as AWS gives it back, is what ``other`` says in our own writing."""
    plain = {"Sid", "Effect", "Principal", "Action", "Condition"}
    return grants(one) == grants(other) and all(
        statement.get("Effect") == "Allow" and set(statement) <= plain for statement in one
    )


def widens(before: Iterable[Statement], after: Iterable[Statement]) -> bool:
    """Whether somebody may do something after that they may not before."""
    held = grants(before)
    return not all(any(one.covers(new) for one in held) for new in grants(after))


def principals_of(statement: Mapping[str, Any]) -> list[str]:
    """Who a statement is about."""
    if "NotPrincipal" in statement:
        return [f"all but {', '.join(_named(statement['NotPrincipal']))}"]
    return _named(statement.get("Principal"))


def _named(principal: object) -> list[str]:
    if isinstance(principal, Mapping):
        return sorted(value for values in principal.values() for value in _listed(values))
    return _listed(principal)


def _condition(statement: Mapping[str, Any]) -> str:
    """In one writing: AWS gives a list of one back as its only value."""
    condition = {
        operator: {key: sorted(_listed(value)) for key, value in keys.items()}
        for operator, keys in (statement.get("Condition") or {}).items()
    }
    return json.dumps(condition, sort_keys=True) if condition else ""


def _listed(value: object) -> list[str]:
    if isinstance(value, (list, tuple)):
        return [str(one) for one in value]
    return [] if value is None else [str(value)]


def told(statements: Iterable[Statement]) -> str:
    """The principals of our statements, for people; "" for nobody."""
    names: list[str] = []
    for one in statements:
        condition = one.get("Condition") or {}
        organisations = (condition.get("StringEquals") or {}).get(_ORGANISATION)
        if organisations is not None and set(condition) == {"StringEquals"}:
            names += [f"organisation {name}" for name in _listed(organisations)]
        else:
            names += [f"{name} (on a condition)" if condition else name for name in principals_of(one)]
    return ", ".join(sorted(set(names)))


def foreign_told(statements: Iterable[Statement]) -> str:
    """What others granted, for people; "" for nothing."""
    return "; ".join(
        f'"{one.get("Sid", "without a Sid")}" ({one.get("Effect")} {", ".join(principals_of(one))}: '
        f"{', '.join(_listed(one.get('Action', one.get('NotAction'))))})"
        for one in foreign(statements)
    )
