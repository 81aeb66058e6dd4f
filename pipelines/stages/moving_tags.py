"""Moving tags only move forward: by version where both have one, else by the time of the commit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pipelines.registries.descriptors import CONFIG_LIMIT, Manifest, json_object, text_mapping
from pipelines.registries.errors import BrokenContent, NotFound
from pipelines.registries.port import OpenRegistry
from pipelines.versions import ParsedVersion

if TYPE_CHECKING:
    from pipelines.release_image import ReleaseImage
    from pipelines.stages.tag import Names

VERSION_LABEL: Final = "org.opencontainers.image.version"
CREATED_LABEL: Final = "org.opencontainers.image.created"


async def reason_to_stay(tag: str, release: ReleaseImage, names: Names, registry: OpenRegistry) -> str:
    """Why ``tag``, which names another image now, must not be moved to ``release``; "" when it may be."""
    try:
        held = await registry.read_manifest(tag)
        config = await _config(held, registry)
    except NotFound:
        return ""  # it went away, or what it names did
    except BrokenContent:
        return "what it names is no image of a kind that can be compared; remove the tag to let it move"
    labels = text_mapping((config.get("config") or {}).get("Labels"))
    ours = _version(release.labels, names.version_tags)
    theirs = _version(labels, await _version_tags_of(held, ours, registry))
    if ours and theirs and ours.order != theirs.order:
        return f"it is {theirs.text}, which is newer than {ours.text}" if theirs.order > ours.order else ""
    return _older(
        _time(release.labels.get(CREATED_LABEL)), _time(labels.get(CREATED_LABEL) or config.get("created"))
    )


def _older(ours: datetime | None, theirs: datetime | None) -> str:
    if ours is None or theirs is None:
        return "it can't be told which is newer; remove the tag to let it move"
    if theirs > ours:
        form = "%Y-%m-%d %H:%M:%S"
        return f"it is of {theirs:{form}}, which is newer than this commit of {ours:{form}}"
    return ""


async def _config(held: Manifest, registry: OpenRegistry) -> dict[str, Any]:
    body = await registry.read_blob(held.image().config.digest, CONFIG_LIMIT)
    return json_object(body, "the config")


async def _version_tags_of(
    held: Manifest, ours: ParsedVersion | None, registry: OpenRegistry
) -> tuple[str, ...]:
    """The version tags of the image that the moving tag names: a version is a tag and not always a label."""
    if ours is None:
        return ()
    found = ((tag, ParsedVersion.parse(tag)) for tag in await registry.tags())
    newer = [tag for tag, version in found if version and version.order > ours.order]
    return tuple([tag for tag in newer if await registry.tag_digest(tag) == held.digest])


def _version(labels: dict[str, str], tags: tuple[str, ...]) -> ParsedVersion | None:
    """The version of an image: the highest of its tags, else its label."""
    found = [version for tag in tags if (version := ParsedVersion.parse(tag))]
    if found:
        return max(found, key=lambda version: version.order)
    return ParsedVersion.parse(labels.get(VERSION_LABEL, ""))


def _time(text: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
