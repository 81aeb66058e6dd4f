"""What a push did in each registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pipelines.errors import PartialPush, PipelineError, PushFailed
from pipelines.values import JSON


class State(StrEnum):
    """How it ended in one registry."""

    PUSHED = "pushed"
    UNCHANGED = "unchanged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One registry: what is there now, under which tags, and what it took."""

    repository: str
    digest: str
    tags: tuple[str, ...]
    """The tags that name the digest now. On a failure: those that were set before it."""
    uploaded: int
    """Bytes of blobs and manifest that were sent."""
    total: int
    seconds: float
    error: PipelineError | None = None
    kept: Mapping[str, str] = field(default_factory=dict)
    """Moving tags that stay on what they name, each with the reason."""
    is_directory: bool = False

    @property
    def state(self) -> State:
        """Failed, pushed, or there already."""
        if self.error is not None:
            return State.FAILED
        return State.PUSHED if self.uploaded else State.UNCHANGED

    def to_json(self) -> dict[str, JSON]:
        """For the run record."""
        return {
            "repository": self.repository,
            "state": self.state.value,
            "digest": self.digest,
            "tags": list(self.tags),
            "kept_tags": dict(self.kept),
            "uploaded_bytes": self.uploaded,
            "total_bytes": self.total,
            "seconds": round(self.seconds, 3),
            "error": str(self.error) if self.error else None,
            "hint": self.error.hint if self.error else None,
        }


@dataclass(frozen=True, slots=True)
class Receipt:
    """Every registry of a push, in the order of the configuration."""

    digest: str
    deliveries: tuple[Delivery, ...]

    @property
    def delivered(self) -> tuple[Delivery, ...]:
        """Where the release is whole and named."""
        return tuple(one for one in self.deliveries if one.error is None)

    @property
    def failed(self) -> tuple[Delivery, ...]:
        """Where it is not."""
        return tuple(one for one in self.deliveries if one.error is not None)

    def summary(self) -> str:
        """``1.2 of 118 MB uploaded to 2 of 2 registries``: the most that was sent to one of them."""
        total = max((one.total for one in self.deliveries), default=0)
        if all(one.is_directory for one in self.deliveries):
            text = f"{_megabytes(total)} MB in {', '.join(one.repository for one in self.deliveries)}"
        else:
            sent = max((one.uploaded for one in self.deliveries), default=0)
            where = f"{len(self.delivered)} of {_registries(self)}"
            text = f"{_megabytes(sent)} of {_megabytes(total)} MB uploaded to {where}"
        kept = {tag: reason for one in self.delivered for tag, reason in one.kept.items()}
        return " · ".join([text, *(f"{tag} not moved: {reason}" for tag, reason in kept.items())])

    def to_json(self) -> dict[str, JSON]:
        """For the run record."""
        return {"digest": self.digest, "deliveries": [one.to_json() for one in self.deliveries]}


class NothingPushed(PushFailed):
    """No registry holds the release; ``receipt`` tells why for each."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(_failures(receipt), hint=_hint(receipt), detail=_others(receipt))
        self.receipt = receipt


class PushedInPart(PartialPush):
    """Some registries hold the release; ``receipt`` tells which."""

    def __init__(self, receipt: Receipt) -> None:
        where = ", ".join(one.repository for one in receipt.delivered)
        text = f"pushed to {len(receipt.delivered)} of {_registries(receipt)} ({where}): {_failures(receipt)}"
        super().__init__(text, hint=_hint(receipt), detail=_others(receipt))
        self.receipt = receipt


def _registries(receipt: Receipt) -> str:
    count = len(receipt.deliveries)
    return f"{count} {'registry' if count == 1 else 'registries'}"


def _failures(receipt: Receipt) -> str:
    count = len(receipt.failed)
    return f"{receipt.failed[0].error}{f' (and {count - 1} more, above)' if count > 1 else ''}"


def _others(receipt: Receipt) -> str:
    """The other failures, a line each."""
    return "\n".join(str(one.error) for one in receipt.failed[1:])


def _hint(receipt: Receipt) -> str:
    return next((one.error.hint for one in receipt.failed if one.error and one.error.hint), "run again")


def _megabytes(count: int) -> str:
    """``0``, ``0.1``, ``1.2``, ``118``: never 0 for something."""
    number = count / 1e6
    return f"{number:.0f}" if number >= 10 or not count else f"{max(number, 0.1):.1f}"
