"""A release whose push has not ended well, as the journal keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pipelines.registries.descriptors import is_digest


class Phase(StrEnum):
    """How far a release came."""

    BRINGING = "bringing"
    """Nothing names it."""
    NAMING = "naming"
    """Enough registries held it whole, and some may name it."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A release whose push has not ended well."""

    digest: str
    version_tags: tuple[str, ...]
    moving_tags: tuple[str, ...]
    branch_tags: tuple[str, ...]
    """As ``Names`` has them."""
    began: datetime
    phase: Phase = Phase.BRINGING
    holders: tuple[str, ...] = ()
    """The registries that held it whole when its naming began."""
    named: tuple[str, ...] = ()
    """Those of them where its naming has ended."""

    @property
    def unnamed(self) -> tuple[str, ...]:
        """Where its names may be missing."""
        return tuple(name for name in self.holders if name not in self.named)

    @property
    def when(self) -> str:
        """``12:01``, or with its date where that was another day."""
        local = self.began.astimezone()
        return f"{local:%H:%M}" if local.date() == datetime.now().astimezone().date() else f"{local:%F %H:%M}"

    def to_json(self) -> dict[str, Any]:
        """For the file. (Any: it goes straight into ``json.dumps``.)"""
        return {
            "digest": self.digest,
            "version_tags": list(self.version_tags),
            "moving_tags": list(self.moving_tags),
            "branch_tags": list(self.branch_tags),
            "began": self.began.isoformat(),
            "phase": self.phase.value,
            "holders": list(self.holders),
            "named": list(self.named),
        }

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> UnderWay:
        """Out of the file. Raises ValueError, KeyError or TypeError for any other shape."""
        if not is_digest(value["digest"]):
            raise ValueError("a release without a digest")
        keys = ("version_tags", "moving_tags", "branch_tags", "holders", "named")
        texts = {key: texts_of(value[key]) for key in keys}
        began = datetime.fromisoformat(value["began"])
        return cls(value["digest"], began=began.astimezone(UTC), phase=Phase(value["phase"]), **texts)


def texts_of(value: Any) -> tuple[str, ...]:
    """A list of texts out of JSON (Any: it is checked here). Raises TypeError for anything else."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError("not a list of texts")
    return tuple(value)
