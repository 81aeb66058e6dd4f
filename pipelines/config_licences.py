"""``scan.licences`` of ``modelport.yaml``: which licences may be installed."""

from __future__ import annotations

from pipelines.config_values import Section


class Licences(Section):
    """Which licences may be installed."""
