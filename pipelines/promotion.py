"""What a promotion did, or would do, in each registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.errors import TraceFailed
from pipelines.receipt import Delivery, megabytes
from pipelines.statements import GateVerdict
from pipelines.values import JSON


class NotProved(TraceFailed):
    """What an environment asks for is not recorded of the image, or it says that the image failed."""


@dataclass(frozen=True, slots=True)
class Share:
    """One registry's part of it."""

    repository: str
    copied: int
    """Bytes that travelled."""
    mounted: int
    """Bytes that the registry took over from its own repository beside."""
    already: int
    """Bytes that were there before."""
    tags: tuple[str, ...]
    kept: Mapping[str, str] = field(default_factory=dict)
    """Moving tags that stay on what they name, each with the reason."""

    @classmethod
    def of(cls, delivery: Delivery) -> Share:
        """What a delivery came to."""
        return cls(
            repository=delivery.repository,
            copied=delivery.uploaded,
            mounted=delivery.mounted,
            already=max(0, delivery.total - delivery.uploaded - delivery.mounted),
            tags=delivery.tags,
            kept=delivery.kept,
        )

    def text(self) -> str:
        """For people: a line, and one more for each tag that stays."""
        amounts = ((self.copied, "copied"), (self.mounted, "mounted"), (self.already, "there already"))
        told = ", ".join(f"{_size(count)} {how}" for count, how in amounts if count)
        lines = [f"  to        {self.repository}   {told}   tags {', '.join(self.tags) or 'none'}"]
        return "\n".join([*lines, *(f"            {tag} not moved: {why}" for tag, why in self.kept.items())])

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        return {
            "repository": self.repository,
            "copied_bytes": self.copied,
            "mounted_bytes": self.mounted,
            "already_there_bytes": self.already,
            "tags": list(self.tags),
            "kept_tags": dict(self.kept),
        }


def _size(count: int) -> str:
    return f"{megabytes(count)} MB" if count >= 1e6 else f"{-(-count // 1000)} kB"


@dataclass(frozen=True, slots=True)
class Promotion:
    """A release in another environment; with ``dry_run`` what would be done to get it there."""

    reference: str
    digest: str
    environment: str
    gates: Mapping[str, GateVerdict]
    """What was asked for, as it is recorded."""
    shares: tuple[Share, ...]
    dry_run: bool = False

    def text(self) -> str:
        """For people."""
        done = "would promote" if self.dry_run else "promoted"
        gates = " · ".join(f"{name} {one.result.value.lower()}" for name, one in self.gates.items())
        lines = [f"{done} {self.reference} to {self.environment}", f"  digest    {self.digest}"]
        lines += [f"  gates     {gates}"] if gates else []
        return "\n".join([*lines, *(share.text() for share in self.shares)])

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        return {
            "reference": self.reference,
            "digest": self.digest,
            "environment": self.environment,
            "dry_run": self.dry_run,
            "gates": {
                name: {"result": one.result.value, "recorded_as": one.recorded_as or None}
                for name, one in self.gates.items()
            },
            "registries": [share.to_json() for share in self.shares],
        }
