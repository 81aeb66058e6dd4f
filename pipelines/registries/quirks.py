"""What registries do other than the distribution specification says: data, in one table.

Found by the kind of registry, then by the host's name. Everything unknown gets what the specification has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pipelines.config_clouds import Kind

MIB: Final = 1024 * 1024
PART: Final = 32 * MIB
"""What a cut in the middle of a part may cost; well below the 100 MB that a proxy like Cloudflare's takes."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """How to upload to a registry, and what its refusals mean."""

    in_parts: bool = True
    """Whether a blob may be sent in parts ("Pushing a blob in chunks"), so that an upload can go on."""
    part_size: int = PART
    least_part: int = MIB
    """The smallest part that is taken, but for the last."""
    tells_progress: bool = True
    """Whether GET on an upload tells, in ``Range``, how far it is."""
    missing_hint: str = "create it in the registry first (not every registry does so on push), or correct it"
    """What to do where the repository is missing. ``{project}`` is the path's first component."""
    ended_is_forbidden: bool = False
    """Whether a password that has ended gets 403 and not 401: then another one is asked for, once."""
    refused_hint: str = ""
    """What else "denied" may mean."""


_CREATE_ECR: Final = (
    "make it with `aws ecr create-repository --repository-name {path}`, or let the push do so "
    "(settings: create: true; the login needs ecr:CreateRepository)"
)
_CREATE_GAR: Final = (
    "make the Docker repository with `gcloud artifacts repositories create`; the address is "
    "LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE"
)
_CREATE_HARBOR: Final = 'make the project "{project}" in Harbor first: it is never made by a push'
_HUB_DENIED: Final = 'Docker Hub says so, too, where the organisation or user "{project}" does not exist'

_TABLE: Final[tuple[tuple[Kind, str, Quirks], ...]] = (
    # Amazon ECR answers a part with 201, and `Range` stays at the end of the first part though all are
    # stored (aws/containers-roadmap#2831). It has no call that tells the progress of an upload; a part at a
    # wrong place gets 416 with "First byte of the layer part is 0 instead of 11304960"
    # (apple/containerization#790), which is where we go on. Parts other than the last have at least 5 MB:
    # LayerPartTooSmallException (dotnet/sdk-container-builds#424, UploadLayerPart in the API reference).
    # The last part goes with PUT: an empty PUT after many parts got 500 (openai/tart#159). Mounts need the
    # account setting BLOB_MOUNTING; without it the answer is 202 and the blob is sent (user guide, "Blob
    # mounting"). A token that has ended gets 403 DENIED without a challenge, "Your authorization token has
    # expired. Reauthenticate and try again." (aws/aws-cli#2351, serverless/serverless#13116).
    (
        Kind.ECR,
        "",
        Quirks(least_part=5 * MIB, tells_progress=False, ended_is_forbidden=True, missing_hint=_CREATE_ECR),
    ),
    # "Artifact Registry does not support Docker chunked uploads … You must use monolithic uploads" (its
    # "Docker API" reference; dotnet/sdk-container-builds#287, containers/skopeo#1101).
    (
        Kind.GAR,
        "",
        Quirks(in_parts=False, tells_progress=False, missing_hint=_CREATE_GAR),
    ),
    # Azure takes parts, and may close the connection on one huge body (azure-sdk-for-net#32059). An upload
    # whose part was cut is gone: 404 BLOB_UPLOAD_INVALID (azure-sdk-for-python#29738), and begins anew. Its
    # token has the actions of the challenge: `delete` to delete, `metadata_read` to list; see auth.py.
    # Repositories are made by the push.
    (Kind.ACR, "", Quirks(part_size=20 * MIB)),
    # "the request body … exceeds the maximum permissible limit of 4.00MiB" (416) for parts, while one PUT
    # of any size is taken: that is how the usual clients push (ocx-sh/ocx#237, kitops-ml/kitops#780).
    (Kind.OCI, r"(.+\.)?ghcr\.io", Quirks(in_parts=False, tells_progress=False)),
    # Quay's uploads in parts did not work with other clients (oras-project/oras-py#137, quay/quay#325).
    (Kind.OCI, r"(.+\.)?quay\.io", Quirks(in_parts=False, tells_progress=False)),
    (Kind.OCI, r"docker\.io", Quirks(refused_hint=_HUB_DENIED)),
    # Harbor makes no project by a push; it says so with 404 NOT_FOUND "project x not found", 401 or 403
    # (goharbor/harbor#966, #20544). Its own part of an address is the first component.
    (
        Kind.OCI,
        r"(harbor\b.*|.+\.harbor\..+|goharbor\..+)",
        Quirks(missing_hint=_CREATE_HARBOR, refused_hint=_CREATE_HARBOR),
    ),
)


def quirks_of(kind: Kind, host: str) -> Quirks:
    """How the registry of ``kind`` at ``host`` differs; where it does not, the specification's ways."""
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    for listed, pattern, quirks in _TABLE:
        if listed is kind and (not pattern or re.fullmatch(pattern, name)):
            return quirks
    return Quirks()
