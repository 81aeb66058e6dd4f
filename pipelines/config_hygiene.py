"""``scan.hygiene`` and ``scan.dockerfile`` of ``modelport.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from pipelines.config_values import Section

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Hygiene(Section):
    """What makes an attacker's life easy: setuid files, world-writable paths, the root user."""

    ignore: tuple[_Text, ...] = ()
    """Globs of paths in the image that are not judged. Prefer a waiver, which expires."""


class Dockerfile(Section):
    """How the Dockerfile is written."""

    timeout_s: int = Field(default=30, ge=1, le=600)
    """How long hadolint may take; after that, it could not look."""
