"""Version tags: which of a commit's tags are versions, of which model, and which is the highest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

_VERSION = re.compile(r"v?(?P<version>(?P<release>\d+\.\d+(\.\d+)*)(?P<rest>[-+._a-zA-Z0-9]*))")


@dataclass(frozen=True, slots=True)
class ParsedVersion:
    """A version as it is written, and how it compares."""

    text: str
    order: Version
    is_final: bool
    """Not a pre-release: 1.2.0, not 1.2.0-rc.1."""

    @classmethod
    def parse(cls, text: str) -> ParsedVersion | None:
        """``text`` as a version, or None. ``v1`` or ``2024`` alone is not: it needs major and minor."""
        found = _VERSION.fullmatch(text)
        if found is None:
            return None
        try:
            order = Version(found["version"])
            return cls(found["version"], order, not order.is_prerelease)
        except InvalidVersion:
            # SemVer allows any word as a pre-release; it comes before the release itself, like a .dev
            if not found["rest"].startswith("-"):
                return None
            return cls(found["version"], Version(f"{found['release']}.dev0"), is_final=False)

    @property
    def release(self) -> tuple[int, ...]:
        """(1, 2, 0); at least three numbers."""
        return (*self.order.release, 0, 0)[: max(3, len(self.order.release))]


def version_of_tag(model_name: str, tag: str) -> ParsedVersion | None:
    """The version that ``tag`` gives to a model: ``v1.2.0``, ``name-v1.2.0``, ``name/1.2.0``; else None."""
    return ParsedVersion.parse(_own(model_name, tag) or tag)


def _own(model_name: str, tag: str) -> str | None:
    """The rest of a tag that begins with the model's name."""
    for separator in ("-", "/", "@", "_"):
        if tag.startswith(model_name + separator):
            return tag.removeprefix(model_name + separator)
    return None


def highest(model_name: str, tags: Iterable[str]) -> str | None:
    """The highest version among ``tags`` for a model: its own tags count before those without a name."""
    tags = tuple(tags)
    own = [
        version for tag in tags if (rest := _own(model_name, tag)) and (version := ParsedVersion.parse(rest))
    ]
    shared = [version for tag in tags if (version := ParsedVersion.parse(tag))]
    candidates = own or shared
    return max(candidates, key=lambda version: (version.order, version.text)).text if candidates else None
