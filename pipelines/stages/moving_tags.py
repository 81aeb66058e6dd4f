"""Moving tags only move forward: by version where both have one, else by the history of the commits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from pipelines.parallel import together
from pipelines.registries.descriptors import CONFIG_LIMIT, Manifest, json_object, text_mapping
from pipelines.registries.errors import BrokenContent, NotFound
from pipelines.registries.platforms import image_of
from pipelines.registries.port import OpenRegistry
from pipelines.versions import ParsedVersion

if TYPE_CHECKING:
    from pipelines.git_history import History
    from pipelines.stages.tag import Names

VERSION_LABEL: Final = "org.opencontainers.image.version"
CREATED_LABEL: Final = "org.opencontainers.image.created"
REVISION_LABEL: Final = "org.opencontainers.image.revision"

SETTLE_S: Final = 0.5
"""So long after our write another run's may still arrive that was decided before: a request, an answer."""
ROUNDS: Final = 5
_DIRTY: Final = "-dirty"
_AT_ONCE: Final = 8
_OLDER_VERSIONS: Final = 64
"""So many versions below ours are looked at to find the one that a moving tag names."""
_BY_HAND: Final = "remove the tag there to let it move"


class Release(Protocol):
    """What a tag is to name."""

    @property
    def manifest(self) -> Manifest:
        """Its manifest, which is in the registry."""
        ...

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its config."""
        ...


async def move_tag(  # noqa: PLR0913  # what is moved, to what, where, and how one can tell
    tag: str,
    release: Release,
    names: Names,
    registry: OpenRegistry,
    history: History | None = None,
    *,
    alone: bool = False,
    pause: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> str:
    """Let ``tag`` name ``release`` unless what it names is newer; "" or the reason why it stays.

    Registries know no conditional write. So what was judged is looked up again just before the write, and
    what is there a moment after it; where another run wrote meanwhile, it is judged anew. Of several runs
    that move a tag at once the newest has it in the end, as long as none needs more than ``SETTLE_S`` from
    its last look to its write. Where a run is known to be ``alone`` there is nothing to wait for.

    Raises:
        RegistryError: the registry failed, or holds the tag fast (TagRefused).
    """
    for _ in range(ROUNDS):
        seen = await registry.tag_digest(tag)
        if seen == release.manifest.digest:
            return ""
        reason = await reason_to_stay(tag, release, names, registry, history) if seen else ""
        if await registry.tag_digest(tag) != seen:
            continue  # what we judged is not there any more
        if reason:
            return reason
        await registry.tag(tag, release.manifest)
        if not alone:
            await pause(SETTLE_S)
    if await registry.tag_digest(tag) == release.manifest.digest:
        return ""
    return "other runs write it at this moment; run again"


async def reason_to_stay(
    tag: str, release: Release, names: Names, registry: OpenRegistry, history: History | None = None
) -> str:
    """Why ``tag``, which names another image now, must not be moved to ``release``; "" when it may be."""
    try:
        held = await _read(tag, registry)
    except NotFound:
        return ""  # it went away, or what it names did
    except BrokenContent:
        return f"what it names is no image of a kind that can be compared; {_BY_HAND}"
    return await _Comparison(tag, release.labels, names, registry, history, held).reason()


@dataclass(frozen=True, slots=True)
class _Held:
    """What a tag names now."""

    digest: str
    labels: dict[str, str] = field(repr=False)
    created: object

    @property
    def time(self) -> datetime | None:
        return _time(self.labels.get(CREATED_LABEL) or self.created)


async def _read(tag: str, registry: OpenRegistry) -> _Held:
    named = await registry.read_manifest(tag)
    manifest, _ = await image_of(registry, named)
    config = json_object(await registry.read_blob(manifest.image().config.digest, CONFIG_LIMIT), "the config")
    inner = config.get("config")
    labels = text_mapping(inner.get("Labels")) if isinstance(inner, dict) else {}
    return _Held(named.digest, labels, config.get("created"))


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A release beside what the tag names."""

    tag: str
    labels: dict[str, str]
    names: Names
    registry: OpenRegistry
    history: History | None
    held: _Held

    async def reason(self) -> str:
        """Versions first, but for a branch's own tag: its commits tell."""
        ours = None if self.tag in self.names.branch_tags else _version(self.labels, self.names.version_tags)
        if ours is not None:
            theirs = await self._version_of_held(ours)
            if theirs is not None and theirs.order != ours.order:
                newer = theirs.order > ours.order
                return f"it is {theirs.text}, which is newer than {ours.text}" if newer else ""
        return await self._by_commits()

    async def _version_of_held(self, ours: ParsedVersion) -> ParsedVersion | None:
        """The highest version tag of what the tag names (a version is a tag, not always a label)."""
        others = set(await self.registry.tags()) - {self.tag, *self.names.moving_tags}
        found = [(version, tag) for tag in others if (version := ParsedVersion.of_tag(tag))]
        found.sort(key=lambda one: (one[0].order, one[0].text), reverse=True)  # 1.3.0 before 1.3
        newer = sum(version.order > ours.order for version, _ in found)
        for start in range(0, min(len(found), newer + _OLDER_VERSIONS), _AT_ONCE):
            some = found[start : start + _AT_ONCE]
            digests = await _digests([tag for _, tag in some], self.registry)
            if self.held.digest in digests:
                return some[digests.index(self.held.digest)][0]
        return _version(self.held.labels, ())

    async def _by_commits(self) -> str:
        ours = self.labels.get(REVISION_LABEL, "").removesuffix(_DIRTY)
        theirs = self.held.labels.get(REVISION_LABEL, "").removesuffix(_DIRTY)
        if self.history is None or not ours or not theirs or ours == theirs:
            return self._by_time("")
        if forward := await self.history.is_ancestor(theirs, ours):
            return ""
        if forward is None:
            why = f" (by their times: this clone can't compare {theirs[:7]} and {ours[:7]})"
            return self._by_time(why)
        if await self.history.is_ancestor(ours, theirs):
            count = await self.history.distance(ours, theirs)
            return f"it is {count or 'some'} commit{'' if count == 1 else 's'} ahead ({theirs[:7]})"
        return f"it is of {theirs[:7]}, on another line of history than {ours[:7]}; {_BY_HAND}"

    def _by_time(self, why: str) -> str:
        ours, theirs = _time(self.labels.get(CREATED_LABEL)), self.held.time
        if ours is None or theirs is None:
            return f"it can't be told which is newer{why}; {_BY_HAND}"
        if theirs > ours:
            form = "%Y-%m-%d %H:%M:%S"
            return f"it is of {theirs:{form}}, which is newer than this commit of {ours:{form}}" + (
                f"{why}; {_BY_HAND}" if why else ""
            )
        # A clone that lacks the other commit was most likely made before it.
        return f"it can't be told which is newer{why}; {_BY_HAND}" if why and theirs == ours else ""


async def _digests(tags: Sequence[str], registry: OpenRegistry) -> list[str | None]:
    """What each of ``tags`` names, asked all at once."""
    found: dict[str, str | None] = {}

    async def ask(tag: str) -> None:
        found[tag] = await registry.tag_digest(tag)

    await together(*(ask(tag) for tag in tags))
    return [found[tag] for tag in tags]


def _version(labels: dict[str, str], tags: tuple[str, ...]) -> ParsedVersion | None:
    """The version of an image: the highest of its tags, else its label."""
    found = [version for tag in tags if (version := ParsedVersion.of_tag(tag))]
    if found:
        return max(found, key=lambda version: version.order)
    return ParsedVersion.parse(labels.get(VERSION_LABEL, ""))


def _time(text: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
