"""Tag: the names and labels of a release, decided from the commit and the configuration alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from pipelines.config import Model, PythonBuild
from pipelines.source import SourceRevision, releasable
from pipelines.tag_templates import render
from pipelines.values import JSON
from pipelines.versions import ParsedVersion

OCI = "org.opencontainers.image"
"""https://github.com/opencontainers/image-spec/blob/v1.1.0/annotations.md"""
HEAD_LABEL = "modelport.source.head-revision"
"""A pull request's own commit, where the commit built is a merge that the CI system made."""
FALLBACK_TAG = "{commit:12}"


@dataclass(frozen=True, slots=True)
class Names:
    """What a release is called: version tags name one image for ever, moving tags the newest release."""

    version_tags: tuple[str, ...]
    moving_tags: tuple[str, ...]
    labels: dict[str, str] = field(default_factory=dict)
    branch_tags: tuple[str, ...] = ()
    """Those of the moving tags that a branch gives its name to: its commits tell which image is newer."""

    @property
    def tags(self) -> tuple[str, ...]:
        """All of them, in the order in which they are set: moving tags last."""
        return (*self.version_tags, *self.moving_tags)

    def summary(self) -> str:
        """``8f3c2a1b9d04, 1.2.0, latest``."""
        return ", ".join(self.tags)

    def to_json(self) -> dict[str, JSON]:
        """For the run record."""
        return {
            "version_tags": list(self.version_tags),
            "moving_tags": list(self.moving_tags),
            "labels": dict(self.labels),
        }


def names(
    model: Model, source: SourceRevision, *, base_name: str | None = None, base_digest: str | None = None
) -> Names:
    """What the image of ``model`` at ``source`` is called.

    A build with uncommitted changes never gets a bare commit tag or a version: only ``<commit>-dirty``, which
    moves, for two such builds may differ. A commit that is not released gets no moving tag. When no template
    can be filled (only ``{version}``, and no version tag) the commit's first twelve digits are the tag: a
    release always has an immutable one.
    """
    labels = _labels(model, source, base_name, base_digest)
    if source.dirty:
        return Names((), (f"{source.short}-dirty",), labels)
    values = _values(model, source)
    version_tags = _rendered(model.release_tags, values) or _rendered((FALLBACK_TAG,), values)
    if releasable(model, source) is not None:
        return Names(version_tags, (), labels)
    templates = _moving(model, source)
    moving = tuple(tag for tag in _rendered(templates, values) if tag not in version_tags)
    of_branches = _rendered(tuple(one for one in templates if "{branch}" in one), values)
    return Names(version_tags, moving, labels, tuple(tag for tag in moving if tag in of_branches))


def _moving(model: Model, source: SourceRevision) -> tuple[str, ...]:
    """The moving tags of this release.

    A tag without placeholders (``latest``) follows the branches that ``release.branches`` names in full, and
    final versions; a maintenance branch that only matches a glob, and a pre-release, leave it where it is.
    """
    version = _version(model, source)
    on_branch = source.branch in model.release.branches
    final = version is not None and version.is_final and not _only_by_glob(model, source)
    return tuple(tag for tag in model.moving_templates if "{" in tag or on_branch or final)


def _only_by_glob(model: Model, source: SourceRevision) -> bool:
    """On a branch that is released, but not named in full."""
    return (
        source.branch is not None
        and source.branch not in model.release.branches
        and any(fnmatchcase(source.branch, glob) for glob in model.release.branches)
    )


def _rendered(templates: tuple[str, ...], values: dict[str, str | None]) -> tuple[str, ...]:
    """The tags that can be filled, each once, in order."""
    tags = (render(template, values) for template in templates)
    return tuple(dict.fromkeys(tag for tag in tags if tag))


def _version(model: Model, source: SourceRevision) -> ParsedVersion | None:
    return ParsedVersion.parse(source.version_of(model.name) or source.version or "")


def _values(model: Model, source: SourceRevision) -> dict[str, str | None]:
    version = _version(model, source)
    numbers = version.release if version and version.is_final else ()
    major, minor, patch = (str(number) for number in numbers[:3]) if numbers else (None, None, None)
    return {
        "commit": source.commit,
        "version": version.text if version else None,
        "major": major,
        "minor": minor,
        "patch": patch,
        "branch": source.branch,
        "date": source.committed_at.astimezone(UTC).strftime("%Y%m%d"),
        "run": source.run,
        "name": model.name,
    }


def _labels(
    model: Model, source: SourceRevision, base_name: str | None, base_digest: str | None
) -> dict[str, str]:
    """The labels: facts of the commit alone, so that one commit has one digest (see docs/adr).

    A version tag is set after the commit, often after its first build. It becomes a registry's tag and no
    label, else the tagged build would be another image than the one released from the branch.
    """
    revision = f"{source.commit}-dirty" if source.dirty else source.commit
    if base_name is None and isinstance(model.build, PythonBuild):
        base_name = model.build.base
    labels = {
        f"{OCI}.created": _rfc3339(source.committed_at),
        f"{OCI}.revision": revision,
        f"{OCI}.source": source.remote,
        f"{OCI}.version": model.version or source.short + ("-dirty" if source.dirty else ""),
        f"{OCI}.title": model.title or model.name,
        f"{OCI}.description": model.description,
        f"{OCI}.licenses": model.license,
        f"{OCI}.base.name": base_name,
        f"{OCI}.base.digest": base_digest,
        HEAD_LABEL: source.head_commit if source.head_commit != source.commit else None,
    }
    return {name: value for name, value in sorted(labels.items()) if value}


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
