"""What only one kind of registry knows (``ecr:``, ``acr:``, ``gar:``), and how a repository should be."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from pipelines.config_values import Section, problem


class Kind(StrEnum):
    """The kind of a registry: how one logs in, and how its repositories are managed."""

    OCI = "oci"
    ECR = "ecr"
    ACR = "acr"
    GAR = "gar"


_HOSTS: Final = (
    (Kind.ECR, re.compile(r"\d{12}\.dkr[.-]ecr(-fips)?\.[a-z0-9-]+\.(amazonaws\.com(\.cn)?|on\.aws)")),
    (Kind.ACR, re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+\.data)?\.azurecr\.(io|cn|us)")),
    (Kind.GAR, re.compile(r"([a-z0-9-]+-docker\.pkg\.dev|([a-z]+\.)?gcr\.io)")),
)


def kind_of(host: str) -> Kind:
    """The kind that a host name tells; every other host is a plain OCI registry."""
    name = host.partition(":")[0].lower()
    return next((kind for kind, pattern in _HOSTS if pattern.fullmatch(name)), Kind.OCI)


_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")


def _role(text: str) -> str:
    if not _ROLE.fullmatch(text):
        raise problem("role", f'"{text}" is no role', "like arn:aws:iam::123456789012:role/modelport-push")
    return text


class EcrLogin(Section):
    """Amazon ECR. The credentials are those of the AWS SDK: environment, profile, OIDC, instance role."""

    account: Annotated[str, Field(pattern=r"^\d{12}$")] | None = None
    """The account of the registry, where the host does not tell it."""
    region: str | None = None
    """Its region, where the host does not tell it."""
    role: Annotated[str, AfterValidator(_role)] | None = None
    """A role to assume before anything is asked: the way into another account."""
    external_id: str | None = None
    """The external id that the role asks for."""
    profile: str | None = None
    """A profile of the AWS configuration files."""


class AcrLogin(Section):
    """Azure Container Registry. Without username: and password: an Entra identity is asked for a token."""

    tenant: str | None = None
    """The directory (tenant) of the identity; else AZURE_TENANT_ID."""
    client: str | None = None
    """The client id of a user-assigned managed identity or a federated application; else AZURE_CLIENT_ID."""
    subscription: str | None = None
    """The subscription of the registry; `modelport registry apply` needs it."""
    resource_group: str | None = None
    """The resource group of the registry; `modelport registry apply` needs it."""


class GarLogin(Section):
    """Artifact Registry and gcr.io: application-default credentials (workload identity, key file …)."""

    impersonate: str | None = None
    """The e-mail address of a service account to act as."""


class Retention(Section):
    """What a registry may remove by itself. Nothing else is ever removed."""

    untagged_days: Annotated[int, Field(ge=1)] | None = None
    """Images without a tag, after so many days."""
    keep_last: Annotated[int, Field(ge=1)] | None = None
    """More than so many images: the oldest beyond them."""


class RepositorySettings(Section):
    """How a repository should be. `modelport registry apply` makes it so; what is not given, stays."""

    create: bool = True
    """Make the repository at the first push, where the registry does not do so by itself (ECR)."""
    immutable_tags: bool | None = None
    """Release tags can't be overwritten; moving tags are left out where the registry can do that."""
    scan_on_push: bool | None = None
    """The registry's own scan of every image that is pushed."""
    encryption_key: str | None = None
    """The key (KMS, Key Vault, Cloud KMS) that new repositories are encrypted with."""
    retention: Retention | None = None
    """What the registry may remove by itself."""
    pull: tuple[str, ...] | None = None
    """Who may pull: principals in the cloud's own writing. They and nobody else."""
    push: tuple[str, ...] | None = None
    """Who may push: principals in the cloud's own writing. They and nobody else."""
