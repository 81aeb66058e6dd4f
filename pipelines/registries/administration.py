"""The port that each cloud's administration answers: what to do, so that a repository is as it should be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from pipelines.config_clouds import RepositorySettings


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not yet as the configuration says, and the call that makes it so."""

    what: str
    """The thing, in the words of the configuration: "tag immutability", "pull"."""
    before: str
    """How it is now; "" where there is nothing."""
    after: str
    """How it will be; "" where nothing will be left."""
    apply: Callable[[], Awaitable[None]] = field(repr=False, compare=False)
    """Make it so. Raises RegistryError."""
    widens: bool = False
    """Whether somebody may do more afterwards than before. Never applied without being asked."""
    removes: str = ""
    """What may be deleted because of it, for people; "" for nothing."""


class Administration(Protocol):
    """The management of one repository."""

    async def differences(
        self, settings: RepositorySettings, moving_tags: tuple[str, ...]
    ) -> tuple[Change, ...]:
        """What to do, in the order to do it in; () when it is so already. Only reads.

        What ``settings`` does not name is left as it is. ``moving_tags`` are the tags that stay free where
        tags are held fast: names, and patterns with ``*`` in place of a template's placeholders.

        Raises:
            RegistryError: the cloud refused or failed; or the settings want what this kind of registry can't
                do, or can't change any more: then it names the kind and the key.
        """
        ...
