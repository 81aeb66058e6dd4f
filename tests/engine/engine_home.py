"""Where engine tests keep things."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine_process import based
from registry_process import RegistryProcess


@dataclass(frozen=True)
class EngineHome:
    """Where engine tests keep things: the state that sessions share, a registry that has the base image."""

    state: Path
    registry: RegistryProcess
    base: str  # the base image's address

    def chain(self, *steps: str) -> str:
        """A chain on the base image."""
        return based(self.base, *steps)
