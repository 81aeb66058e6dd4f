"""The small values the API hands out of a container: variables, labels, ports, what is at a path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from embedded_engine.operations import digest_of


@dataclass(frozen=True, slots=True)
class EnvVariable:
    """One variable of an image's environment."""

    name: str
    value: str

    @property
    def digest(self) -> str:
        """Identity."""
        return digest_of("EnvVariable", self.name, self.value)


@dataclass(frozen=True, slots=True)
class Label:
    """One label of an image."""

    name: str
    value: str

    @property
    def digest(self) -> str:
        """Identity."""
        return digest_of("Label", self.name, self.value)


@dataclass(frozen=True, slots=True)
class Port:
    """An exposed port."""

    port: int
    protocol: Literal["TCP", "UDP"] = "TCP"
    description: str | None = None
    skip_healthcheck: bool = False

    @property
    def digest(self) -> str:
        """Identity."""
        return digest_of("Port", self.port, self.protocol, self.description, self.skip_healthcheck)


@dataclass(frozen=True, slots=True)
class Stat:
    """What is at a path."""

    name: str
    file_type: Literal["REGULAR", "DIRECTORY", "SYMLINK", "UNKNOWN"]
    size: int
    permissions: int

    @property
    def digest(self) -> str:
        """Identity."""
        return digest_of("Stat", self.name, self.file_type, self.size, self.permissions)


@dataclass(frozen=True, slots=True)
class HealthcheckConfig:
    """Docker's HEALTHCHECK."""

    args: tuple[str, ...]
    shell: bool = False
    interval: str = ""
    timeout: str = ""
    start_period: str = ""
    start_interval: str = ""
    retries: int = 0

    @property
    def digest(self) -> str:
        """Identity."""
        times = [self.interval, self.timeout, self.start_period, self.start_interval]
        return digest_of("HealthcheckConfig", list(self.args), self.shell, *times, self.retries)
