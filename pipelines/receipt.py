"""What a push did in each registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pipelines.errors import PartialPush, PipelineError, PushFailed
from pipelines.registries.errors import TagRefused
from pipelines.values import JSON


class State(StrEnum):
    """How it ended in one registry."""

    PUSHED = "pushed"
    """The release is whole and named."""
    UNCHANGED = "unchanged"
    """It was there already, under all its names."""
    HELD = "held"
    """Its content is whole there, and nothing names it: the push stopped before names were set."""
    WITHHELD = "withheld"
    """Nothing was sent there: the push stopped before."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One registry: what is there now, under which tags, and what it took."""

    repository: str
    digest: str
    tags: tuple[str, ...]
    """The tags that name the digest now. On a failure: those that were set before it."""
    uploaded: int
    """Bytes of blobs and manifests that were sent."""
    total: int
    seconds: float
    error: PipelineError | None = None
    kept: Mapping[str, str] = field(default_factory=dict)
    """Moving tags that stay on what they name, each with the reason."""
    is_directory: bool = False
    already: tuple[str, ...] = ()
    """Those of ``tags`` that named the digest before."""
    doubtful: tuple[str, ...] = ()
    """Tags that the registry failed over, and that may name the digest all the same."""
    mounted: int = 0
    """Bytes that the registry took over from another of its repositories."""
    resumed: int = 0
    """Bytes that an earlier run had sent of an upload that went on now."""
    is_held: bool = False
    """Everything is there and was read back."""
    is_named: bool = False
    """Every tag was dealt with."""

    @property
    def state(self) -> State:
        """How it ended."""
        if self.error is not None:
            return State.FAILED
        if not self.is_named:
            return State.HELD if self.is_held else State.WITHHELD
        changed = self.uploaded or self.mounted or set(self.tags) - set(self.already)
        return State.PUSHED if changed else State.UNCHANGED

    def to_json(self) -> dict[str, JSON]:
        """For the run record."""
        return {
            "repository": self.repository,
            "state": self.state.value,
            "digest": self.digest,
            "tags": list(self.tags),
            "already_released": list(self.already),
            "tags_in_doubt": list(self.doubtful),
            "kept_tags": dict(self.kept),
            "holds_image": self.is_held,
            "uploaded_bytes": self.uploaded,
            "mounted_bytes": self.mounted,
            "resumed_bytes": self.resumed,
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
    enough: int | None = None
    """How many registries had to hold the release before one named it; None: all of them."""
    notes: tuple[str, ...] = ()
    """What became of an earlier push that was interrupted."""

    @property
    def asked(self) -> int:
        """How many registries have to hold the release."""
        count = len(self.deliveries)
        return count if self.enough is None else min(self.enough, count)

    @property
    def delivered(self) -> tuple[Delivery, ...]:
        """Where the release is whole and named."""
        return tuple(one for one in self.deliveries if one.state in (State.PUSHED, State.UNCHANGED))

    @property
    def failed(self) -> tuple[Delivery, ...]:
        """Where something went wrong."""
        return tuple(one for one in self.deliveries if one.error is not None)

    @property
    def held(self) -> tuple[Delivery, ...]:
        """Where the content is whole, named or not."""
        return tuple(one for one in self.deliveries if one.is_held)

    @property
    def conflicts(self) -> tuple[Delivery, ...]:
        """Where a release tag names another image."""
        return tuple(one for one in self.deliveries if isinstance(one.error, TagRefused))

    @property
    def is_named(self) -> bool:
        """Whether the release has a name anywhere, or may have got one by this push before it failed."""
        named = [one for one in self.failed if set(one.tags) - set(one.already) or one.doubtful]
        return bool(self.delivered or named)

    def summary(self) -> str:
        """``1.2 of 118 MB uploaded to 2 of 2 registries``: the most that was sent to one of them."""
        return " · ".join([self._amount(), *self._extras(), *self._failures(), *self._kept(), *self.notes])

    def _amount(self) -> str:
        total = max((one.total for one in self.deliveries), default=0)
        if all(one.is_directory for one in self.deliveries):
            return f"{megabytes(total)} MB in {', '.join(one.repository for one in self.deliveries)}"
        sent = max((one.uploaded for one in self.deliveries), default=0)
        asked = f", at least {self.asked} asked" if self.enough is not None and self.failed else ""
        where = f"{len(self.delivered)} of {registries(self)}{asked}"
        return f"{megabytes(sent)} of {megabytes(total)} MB uploaded to {where}"

    def _extras(self) -> list[str]:
        resumed = max((one.resumed for one in self.deliveries), default=0)
        mounted = max((one.mounted for one in self.deliveries), default=0)
        done = self.deliveries and all(one.state is State.UNCHANGED for one in self.deliveries)
        return [
            *(["already released"] if done else []),
            *([f"{megabytes(resumed)} MB were sent by an earlier run"] if resumed else []),
            *([f"{megabytes(mounted)} MB taken over from other repositories"] if mounted else []),
        ]

    def _failures(self) -> list[str]:
        return [f"{one.repository} failed: {one.error}" for one in self.failed]

    def _kept(self) -> list[str]:
        kept = {tag: reason for one in self.delivered for tag, reason in one.kept.items()}
        return [f"{tag} not moved: {reason}" for tag, reason in kept.items()]

    def to_json(self) -> dict[str, JSON]:
        """For the run record."""
        return {
            "digest": self.digest,
            "registries_asked": self.asked,
            "notes": list(self.notes),
            "deliveries": [one.to_json() for one in self.deliveries],
        }


class NothingPushed(PushFailed):
    """Nothing was named anywhere; ``receipt`` tells why, and where the content is held already."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(
            f"{_failures(receipt)}{_held(receipt)}", hint=_hint(receipt), detail=_others(receipt)
        )
        self.receipt = receipt


class PushedInPart(PartialPush):
    """Too few registries name the release, but some do; ``receipt`` tells which."""

    def __init__(self, receipt: Receipt) -> None:
        where = ", ".join(one.repository for one in receipt.delivered)
        text = f"pushed to {len(receipt.delivered)} of {registries(receipt)}{f' ({where})' if where else ''}"
        super().__init__(
            f"{text}{_asked(receipt)}: {_failures(receipt)}", hint=_hint(receipt), detail=_others(receipt)
        )
        self.receipt = receipt


def registries(receipt: Receipt) -> str:
    """``1 registry``, ``3 registries``."""
    count = len(receipt.deliveries)
    return f"{count} {'registry' if count == 1 else 'registries'}"


def _asked(receipt: Receipt) -> str:
    return f", at least {receipt.asked} asked" if receipt.enough is not None else ""


def _held(receipt: Receipt) -> str:
    """Where the bytes are, when nothing names them: a rerun does not send them again."""
    if not receipt.held:
        return ""
    held = f"{len(receipt.held)} of {registries(receipt)} hold{'s' * (len(receipt.held) == 1)} the image"
    return f"; {held}{_asked(receipt)}, so nothing was named"


def _failures(receipt: Receipt) -> str:
    if not receipt.failed:
        return "it stopped before names were set"
    count = len(receipt.failed)
    return f"{receipt.failed[0].error}{f' (and {count - 1} more, above)' if count > 1 else ''}"


def _others(receipt: Receipt) -> str:
    """The other failures, a line each."""
    return "\n".join(str(one.error) for one in receipt.failed[1:])


def _hint(receipt: Receipt) -> str:
    return next((one.error.hint for one in receipt.failed if one.error and one.error.hint), "run again")


def megabytes(count: int) -> str:
    """``0``, ``0.1``, ``1.2``, ``118``: never 0 for something."""
    number = count / 1e6
    return f"{number:.0f}" if number >= 10 or not count else f"{max(number, 0.1):.1f}"
