"""``scan.trivy`` and ``scan.grype`` of ``modelport.yaml``: scanners of others, in containers of their own.

Neither is part of this project: a team names the image that it trusts, by digest, and where its database is.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints, model_validator

from pipelines.config_values import Section, problem

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

Severity = Literal["critical", "high", "medium", "low"]


def _by_digest(reference: str) -> str:
    """A tag may be moved, and the scanner would be another one without anybody's knowledge."""
    if re.fullmatch(r"[^@\s]+@sha256:[0-9a-f]{64}", reference):
        return reference
    raise problem(
        "digest",
        f'the scanner\'s image "{reference}" has no digest',
        'write it as "repository@sha256:…"; `skopeo inspect --format {{.Digest}} docker://IMAGE` tells it',
    )


PinnedImage = Annotated[_Text, AfterValidator(_by_digest)]
"""The reference of an image, with its digest."""


class Trivy(Section):
    """Trivy as one more scanner (https://trivy.dev), with a database of yours."""

    image: PinnedImage
    """Its container, by digest, like "docker.io/aquasec/trivy@sha256:…"."""
    command: tuple[_Text, ...] = ("trivy",)
    """How it is started in its image."""
    database: _Text | None = None
    """A directory with trivy.db and metadata.json (or db/ with them), relative to that of modelport.yaml."""
    database_repository: _Text | None = None
    """Instead: a registry's repository that has the database, like "registry.example/trivy-db:2"."""

    unrated: Severity = "high"
    """What a vulnerability without a rating counts as."""

    @model_validator(mode="after")
    def _has_a_database(self) -> Trivy:
        if (self.database is None) == (self.database_repository is None):
            what = "both" if self.database else "neither"
            raise problem(
                "either",
                f'trivy needs either "database" or "database_repository"; here are {what}',
                "a directory needs no network while it scans, a repository does",
            )
        return self


class Grype(Section):
    """Grype as one more scanner (https://github.com/anchore/grype), with a database of yours."""

    image: PinnedImage
    """Its container, by digest, like "docker.io/anchore/grype@sha256:…"."""
    command: tuple[_Text, ...] = ("/grype",)
    """How it is started in its image: there, in the one of its makers, which has no PATH."""
    database: _Text | None = None
    """Its cache directory with the database in it, relative to that of modelport.yaml."""
    database_url: _Text | None = None
    """Instead: where it fetches the database from ("db.update-url"), as of each day."""

    unrated: Severity = "high"
    """What a vulnerability without a rating counts as."""

    @model_validator(mode="after")
    def _has_a_database(self) -> Grype:
        if (self.database is None) == (self.database_url is None):
            what = "both" if self.database else "neither"
            raise problem(
                "either",
                f'grype needs either "database" or "database_url"; here are {what}',
                "a directory needs no network while it scans, an address does",
            )
        return self
