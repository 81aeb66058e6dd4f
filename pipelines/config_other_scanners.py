"""``scan.trivy`` and ``scan.grype`` of ``modelport.yaml``: scanners of others, in containers of their own."""

from __future__ import annotations

from pipelines.config_values import Section


class Trivy(Section):
    """Trivy as one more scanner."""


class Grype(Section):
    """Grype as one more scanner."""
