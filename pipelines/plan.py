"""What a run will do, decided before anything is built: names, registries, and what is held back, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipelines.config import AtLeast, Model, find_models, load
from pipelines.config_build import DockerfileBuild, ImageBuild
from pipelines.config_registries import is_loopback
from pipelines.errors import SourceError
from pipelines.managed_repositories import moving_tags_of
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.layout import ImageLayout
from pipelines.registries.port import Registry
from pipelines.registries.targets import registries_of
from pipelines.source import SourceRevision, read_source, releasable, unpublished
from pipelines.stages.check_plan import plan_check
from pipelines.stages.tag import Names, names
from pipelines.state import state_directory
from pipelines.values import JSON


class Push(StrEnum):
    """Whether what passes is pushed: by the release rule, always (or an error), never."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run of one model will do."""

    model: Model
    source: SourceRevision
    names: Names
    layout: ImageLayout
    """Where the built image is taken to, whatever happens next."""
    targets: tuple[Registry, ...]
    held_back: str = ""
    """Why the image is built, checked and scanned but not pushed; "" when it is pushed."""

    @property
    def enough(self) -> int:
        """How many of the targets have to hold the release before one names it."""
        rule = self.model.release.push_to
        return min(rule.at_least, len(self.targets)) if isinstance(rule, AtLeast) else len(self.targets)

    def to_json(self) -> dict[str, JSON]:
        """For the record and ``modelport plan --json``."""
        return {
            "model": self.model.name,
            "file": str(self.model.file),
            "build": how(self.model),
            "targets": [target.name for target in self.targets],
            "registries_asked": self.enough,
            "held_back": self.held_back or None,
            **self.names.to_json(),
        }


def make_plan(
    model: Model, source: SourceRevision, state: Path, environ: Mapping[str, str], push: Push
) -> Plan:
    """The plan for one model.

    Raises:
        ConfigError: a file that the check names is wrong.
        SourceError: the push was asked for and this commit may not be released.
    """
    plan_check(model)  # its files are read again by the check; a wrong line is told before the build
    directory = state / "images" / model.name
    layout = ImageLayout.create(directory)
    shown = str(directory.relative_to(Path.cwd())) if directory.is_relative_to(Path.cwd()) else str(directory)
    moving = moving_tags_of(model)
    targets = registries_of(model.registries, model.name, LayoutRegistry(layout, shown), environ, moving)
    reason = "--no-push" if push is Push.NEVER else _held_back(model, source)
    if reason and push is Push.ALWAYS:
        raise SourceError(
            f"{model.name} can't be pushed: {reason}",
            hint="commit, or check out a branch of release.branches; `--no-push` builds, checks and scans",
        )
    return Plan(model, source, names(model, source), layout, () if reason else targets, reason)


def _held_back(model: Model, source: SourceRevision) -> str:
    """Why a production registry does not get this commit. Registries on loopback and layouts always do."""
    if all(is_loopback(target.host) for target in model.registries):
        return ""
    if reason := releasable(model, source) or unpublished(source):
        return f"not pushed: {reason}"
    if source.shallow:
        return "not pushed: a shallow checkout has no history or version tags (git fetch --unshallow --tags)"
    return ""


async def plans(where: Path, environ: Mapping[str, str]) -> list[Plan]:
    """The plans of every model at ``where``. Nothing is built, and no registry is asked.

    Raises:
        PipelineError: configuration or source.
    """
    models = [load(file, environ) for file in find_models(where)]
    source = await read_source(models[0].directory, environ)
    state = state_directory(source.root)
    return [make_plan(model, source, state, environ, Push.AUTO) for model in models]


def told(plan: Plan) -> str:
    """The plan as a person reads it."""
    model = plan.model
    gates = ["unit tests"] * (model.check.unit is not None) + ["golden cases"] * (
        model.check.golden is not None
    )
    gates += [model.check.quality.metric] if model.check.quality else []
    lines = [
        f"{model.name} {plan.source.short} ({plan.source.summary()})",
        f"  build      {how(model)}",
        f"  check      starts, healthy{''.join(', ' + gate for gate in gates)}",
        "  scan       OS packages, Python packages, secrets, model files, licences, hygiene, Dockerfile",
        "  inventory  CycloneDX SBOM",
    ]
    if plan.held_back:
        return "\n".join([*lines, f"  push       {plan.held_back}"])
    lines.append(f"  tag        {plan.names.summary()}")
    lines += [f"  push       {target.name}" for target in plan.targets]
    if plan.enough < len(plan.targets):
        lines.append(f"             named as soon as {plan.enough} of {len(plan.targets)} hold it")
    return "\n".join(lines)


def how(model: Model) -> str:
    """How the image is built, in a few words."""
    match model.build:
        case DockerfileBuild() as build:
            return f"from {build.dockerfile}"
        case ImageBuild() as build:
            return f"the image {build.image}"
        case build:
            return f"python: on {build.base}"
