"""Is one registry ready for a release? Login, repository and tags, before anything is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import anyio

from pipelines.errors import PipelineError
from pipelines.preflight_report import Check, RegistryChecks
from pipelines.registries.descriptors import (
    CONFIG_LIMIT,
    IMAGE_TYPES,
    Manifest,
    json_object,
    short,
    text_mapping,
)
from pipelines.registries.errors import (
    BrokenContent,
    NotFound,
    RepositoryMissing,
    TagRefused,
    Unreachable,
)
from pipelines.registries.port import OpenRegistry, Registry

TIME_LIMIT_S: Final = 15.0
"""For all checks of one registry: they are a handful of small requests."""
REVISION: Final = "org.opencontainers.image.revision"

ACCESS, REPOSITORY, TAGS = "access", "repository", "tags"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a release needs of a registry."""

    commit: str
    """The value that the revision label of this release has."""
    version_tags: tuple[str, ...]
    may_create: bool = True
    """Whether the configuration lets a push make the repository."""
    time_limit_s: float = TIME_LIMIT_S


async def check_registry(target: Registry, wanted: Wanted) -> RegistryChecks:
    """The checks of one registry; its failures are part of the answer. Nothing stays behind there."""
    try:
        with anyio.fail_after(wanted.time_limit_s):
            checks = await _checks(target, wanted)
    except TimeoutError:
        error = Unreachable(
            f"{target.name}: no answer within {wanted.time_limit_s:.0f} s",
            hint="check the address, the network and the proxy; nothing was built or sent",
        )
        checks = _only(Check.failed(ACCESS, error))
    except PipelineError as err:
        checks = _only(Check.failed(ACCESS, err))
    return RegistryChecks(target.name, checks, is_directory=target.is_directory)


def _only(access: Check) -> tuple[Check, ...]:
    why = "not asked, for there is no access"
    return access, Check.skipped(REPOSITORY, why), Check.skipped(TAGS, why)


async def _checks(target: Registry, wanted: Wanted) -> tuple[Check, ...]:
    exists = await target.repository_exists()
    if exists is False:
        return (Check.ok(ACCESS, "this login is taken"), *_of_missing(target, wanted))
    async with target.open() as registry:
        write, tags = await _write_and_tags(target, registry, wanted)
    if isinstance(write, RepositoryMissing):
        missing = Check.failed(REPOSITORY, write)
        return Check.ok(ACCESS, "this login is taken"), missing, Check.skipped(TAGS, "there is no repository")
    if write is not None:
        return _only(Check.failed(ACCESS, write))
    there = "is there" if exists else "is there, or made by the first push"
    may = "it can be written to" if target.is_directory else "this login may push"
    return Check.ok(ACCESS, may), Check.ok(REPOSITORY, there), tags


def _of_missing(target: Registry, wanted: Wanted) -> tuple[Check, Check]:
    if wanted.may_create:
        return Check.ok(REPOSITORY, "is missing; the push makes it"), _free(wanted)
    error = RepositoryMissing(
        f"there is no repository {target.name}",
        hint="`modelport registry apply` makes it, or set settings.create: true for this registry",
    )
    return Check.failed(REPOSITORY, error), Check.skipped(TAGS, "there is no repository")


async def _write_and_tags(
    target: Registry, registry: OpenRegistry, wanted: Wanted
) -> tuple[PipelineError | None, Check]:
    """Both questions at once: why this login can't push, and the tags."""
    refused: list[PipelineError] = []
    tags: list[Check] = []

    async def write() -> None:
        try:
            await registry.check_write()
        except PipelineError as err:
            refused.append(err)

    async def look() -> None:
        tags.append(await _tags(target, registry, wanted))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        tasks.start_soon(look)
    return (refused[0] if refused else None), tags[0]


# Tags


def _free(wanted: Wanted) -> Check:
    if not wanted.version_tags:
        return Check.ok(TAGS, "none that has to be free: this commit gets moving tags only")
    names = ", ".join(wanted.version_tags)
    noun = "tag" if len(wanted.version_tags) == 1 else "tags"
    return Check.ok(TAGS, f"{names} free", short=f"{noun} {names} free")


async def _tags(target: Registry, registry: OpenRegistry, wanted: Wanted) -> Check:
    """Free, or this commit's already; anything else is the conflict that the push would end in."""
    held: dict[str, str] = {}
    errors: list[PipelineError] = []

    async def look(tag: str) -> None:
        try:
            if digest := await registry.tag_digest(tag):
                await _hold_same_commit(target, registry, tag, digest, wanted.commit)
                held[tag] = digest
        except PipelineError as err:
            errors.append(err)

    async with anyio.create_task_group() as tasks:
        for tag in wanted.version_tags:
            tasks.start_soon(look, tag)
    if errors:
        return Check.failed(TAGS, errors[0])
    if not held:
        return _free(wanted)
    told = ", ".join(f"{tag} is {short(digest)}" for tag, digest in sorted(held.items()))
    free = ", ".join(tag for tag in wanted.version_tags if tag not in held)
    return Check.ok(
        TAGS, f"already released: {told}{f'; {free} free' if free else ''}", short="already released"
    )


async def _hold_same_commit(
    target: Registry, registry: OpenRegistry, tag: str, digest: str, commit: str
) -> None:
    reference = target.reference(tag)
    try:
        labels = await _labels(registry, digest)
    except NotFound:
        return  # it went away meanwhile: free
    except BrokenContent as err:
        raise TagRefused(
            f"{reference} is taken by {short(digest)}, which is no image that a model release makes ({err})",
            hint=_hint(reference),
        ) from err
    revision = labels.get(REVISION, "")
    if revision == commit:
        return
    of = f"of commit {revision[:12]}" if revision else "without a commit in its labels"
    made = (
        f", made {labels[created][:10]}"
        if (created := REVISION.replace("revision", "created")) in labels
        else ""
    )
    raise TagRefused(
        f"{reference} is taken by {short(digest)} {of}{made}, and this commit is {commit[:12]}",
        hint=_hint(reference),
    )


def _hint(reference: str) -> str:
    return (
        "a release tag never moves: release under a new version tag, or find out with "
        f"`modelport trace {reference}` what it names"
    )


async def _labels(registry: OpenRegistry, digest: str) -> dict[str, str]:
    """The labels of an image, as its manifest repeats them in annotations, else from its config."""
    manifest: Manifest = await registry.read_manifest(digest)
    if manifest.media_type not in IMAGE_TYPES:
        raise BrokenContent("it is an index of several images")
    image = manifest.image()
    if REVISION in image.annotations:
        return dict(image.annotations)
    # Any: foreign JSON, of which only text is taken
    config: dict[str, Any] = json_object(
        await registry.read_blob(image.config.digest, CONFIG_LIMIT), "its config"
    )
    inner = config.get("config")
    return text_mapping(inner.get("Labels")) if isinstance(inner, dict) else {}
