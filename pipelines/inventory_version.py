"""The weights against those that are published: under one version there is one model.

Only a version that somebody gave counts: `version:` of modelport.yaml, or a version tag. One that the commit
gives is another one with each commit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pipelines.errors import PipelineError, Place
from pipelines.inventory_model import own_weights
from pipelines.versions import ParsedVersion

if TYPE_CHECKING:
    from pipelines.config import Model
    from pipelines.published import Published, PublishedSource
    from pipelines.scanners.contents import WeightFile
    from pipelines.source import SourceRevision

CREATED: Final = "org.opencontainers.image.created"
MOST_TOLD: Final = 10


class VersionUnchanged(PipelineError):
    """The weights are others than the published ones, and the version does not say so."""

    exit_code: ClassVar[int] = 5


@dataclass(frozen=True, slots=True)
class WeightChange:
    """One weight file that is not as it was. "" where there is none: it is new, or gone."""

    path: str
    old: str
    new: str

    def __str__(self) -> str:
        old = f"was sha256:{self.old[:12]}" if self.old else "was not there"
        new = f"is sha256:{self.new[:12]}" if self.new else "is gone"
        return f"{self.path} {old}, {new}"

    @property
    def whole(self) -> str:
        """With both digests in full."""
        old, new = (f"sha256:{one}" if one else "none" for one in (self.old, self.new))
        return f"{self.path}\n  published: {old}\n  built:     {new}"


async def compared_weights(
    weights: Sequence[WeightFile],
    model: Model,
    source: SourceRevision,
    published: PublishedSource | None,
) -> str:
    """Hold ``weights`` against the published version; which one that was, or why there is none.

    Raises:
        VersionUnchanged: they differ, and the version is the same, or lower than that of an earlier commit.
    """
    version = explicit_version(model, source)
    if not version or published is None:
        return ""
    from pipelines.published import CouldNotTell  # noqa: PLC0415  the registries: only with such a version

    try:
        found = await published()
    except CouldNotTell as err:
        return f"weights not compared: {err}"
    if found is None:  # the first release
        return ""
    before = published_version(found)
    if not before or not await _has_to_be_the_same(version, before, source, found):
        return "" if before else f"weights not compared: {found.name}:{found.tag} has no version"
    then = weights_of(found.sbom, model) if found.sbom is not None else None
    if then is None:
        return f"weights not compared: the published {before} has no SBOM that can be read"
    now = {one.path: one.sha256 for one in own_weights(weights, model)}
    if differences := changes(then, now):
        raise _error(differences, version, before, found, model)
    return f"weights as in the published {before}"


def explicit_version(model: Model, source: SourceRevision) -> str:
    """The version that somebody gave this commit; "" where only the commit names it."""
    return model.version or source.version_of(model.name) or source.version or ""


def published_version(published: Published) -> str:
    """The version of the published image by its label or its tag; "" where these only name a commit."""
    label = published.version
    revision = published.commit
    if label and not (revision and revision.startswith(label.removesuffix("-dirty"))):
        return label if label != published.tag or ParsedVersion.of_tag(label) else ""
    return published.tag if ParsedVersion.of_tag(published.tag) else ""


def changes(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[WeightChange, ...]:
    """What differs; a file that only moved does not."""
    moved = set(then.values()) & set(now.values())
    return tuple(
        WeightChange(path, then.get(path, ""), now.get(path, ""))
        for path in sorted(then.keys() | now.keys())
        if then.get(path) != now.get(path)
        and not ((path not in now or now[path] in moved) and (path not in then or then[path] in moved))
    )


def weights_of(sbom: bytes, model: Model) -> dict[str, str] | None:
    """The digests of the model's weight files by path, from a CycloneDX document; None: not readable."""
    from pipelines.scanners.contents import WeightFile  # noqa: PLC0415

    try:
        document = json.loads(sbom)
        models = [one for one in document["components"] if one["type"] == "machine-learning-model"]
        files = [_file(part) for one in models for part in one.get("components", ())]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    kept = own_weights([WeightFile(path, 0, digest, "") for path, digest in files], model)
    return {one.path: one.sha256 for one in kept}


def _file(part: Mapping[str, Any]) -> tuple[str, str]:  # Any: JSON from a registry
    return str(part["name"]), next(str(one["content"]) for one in part["hashes"] if one["alg"] == "SHA-256")


def _wrong(version: str, before: str) -> str:
    if version == before:
        return "same"
    now, then = ParsedVersion.parse(version), ParsedVersion.of_tag(before)
    return "lower" if now and then and now.order < then.order else ""


async def _has_to_be_the_same(version: str, before: str, source: SourceRevision, found: Published) -> bool:
    """Under the same version; and under a lower one, unless an older release is made anew."""
    wrong = _wrong(version, before)
    return wrong == "same" or (wrong == "lower" and await _follows(source, found))


async def _follows(source: SourceRevision, published: Published) -> bool:
    """Whether our commit came after the published one: an older one may be released anew as it was."""
    from pipelines.git_history import GitHistory  # noqa: PLC0415  only on the way to an error

    if published.commit == source.commit:
        return False
    history = GitHistory(source.root, os.environ)
    return await history.is_ancestor(published.commit, source.commit) is True


def _error(
    differences: Sequence[WeightChange], version: str, before: str, published: Published, model: Model
) -> VersionUnchanged:
    more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
    if version == before:
        what = f"the weights changed and the version {version} did not: {differences[0]}{more}"
    else:
        what = f"the weights changed and the version fell from {before} to {version}: "
        what += f"{differences[0]}{more}"
    where = "`version:`" if model.version else "the version tag"
    return VersionUnchanged(
        what,
        hint=f"raise {where} above {before}; or build with the published weights ({published.name}"
        f"@{published.digest[:19]}…)",
        place=Place(model.file),
        detail="\n".join(one.whole for one in differences[:MOST_TOLD]),
    )
