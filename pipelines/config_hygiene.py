"""``scan.hygiene`` and ``scan.dockerfile`` of ``modelport.yaml``."""

from __future__ import annotations

from pipelines.config_values import Section


class Hygiene(Section):
    """What makes an attacker's life easy: setuid files, world-writable paths, the root user."""


class Dockerfile(Section):
    """How the Dockerfile is written."""
