"""``modelport.yaml`` as frozen values. Every error names the file and line, and what to do next."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, ValidationError

from pipelines.config_build import Build, DockerfileBuild, ImageBuild, PythonBuild, Weights
from pipelines.config_check import Check
from pipelines.config_errors import config_error
from pipelines.config_inventory import InventorySettings, Training
from pipelines.config_registries import Registries, RegistryTarget, registries_from
from pipelines.config_scan import ScanPolicy
from pipelines.config_values import SecretRef, Section, problem
from pipelines.config_yaml import read_yaml
from pipelines.errors import ConfigError, Place
from pipelines.tag_templates import FixedTag, MovingTag, Tag

__all__ = [
    "FILE_NAME",
    "AtLeast",
    "Build",
    "Check",
    "DockerfileBuild",
    "Environment",
    "ImageBuild",
    "Model",
    "PythonBuild",
    "RegistryTarget",
    "ReleaseRule",
    "ScanPolicy",
    "SecretRef",
    "Tools",
    "Weights",
    "find_models",
    "load",
]

FILE_NAME: Final = "modelport.yaml"
TOOLS_IMAGE_VARIABLE: Final = "MODELPORT_TOOLS_IMAGE"
"""Environment twin of ``tools.image``."""

Gate = Literal["check", "scan", "inventory"]
"""A stage whose verdict is recorded beside the image, as a referrer."""

_SKIPPED = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})


class AtLeast(Section):
    """Some of the registries are enough."""

    at_least: int = Field(ge=1)
    """How many registries have to hold a release before it is named in any of them."""


class ReleaseRule(Section):
    """Which commits may be pushed to the registries. Every other one is built, checked and scanned only."""

    branches: tuple[str, ...] = ("main", "master")
    """Branches (or globs, like "release/*") whose commits are released."""
    tags: tuple[str, ...] = ("*",)
    """Globs of version tags: a commit with such a tag is released whatever its branch. [] releases no tag."""
    push_to: Literal["all"] | AtLeast = "all"
    """How many registries must hold a release before any of them names it: all, or {at_least: N}."""


class Environment(Section):
    """Where `modelport promote REF --to NAME` brings a release, and what has to be proved of it before."""

    registries: Registries = Field(min_length=1)
    """The registries of this environment."""
    gates: tuple[Gate, ...] = ("check", "scan", "inventory")
    """What has to be recorded for the digest, as passed, in the registry that it comes from."""
    moving_tags: tuple[FixedTag, ...] = ()
    """Tags that move to what was promoted, like "production"."""


class Tools(Section):
    """What the pipeline's own steps run in."""

    image: str = Field(default="python:3.11-slim", min_length=1)
    """A Debian image with Python 3 and apt; the model's image is mounted into it, read-only."""


def _licence(text: str) -> str:
    from packaging.licenses import (  # noqa: PLC0415  a list of 700 licences, only for those who name one
        InvalidLicenseExpression,
        canonicalize_license_expression,
    )

    try:
        return canonicalize_license_expression(text)
    except InvalidLicenseExpression as err:
        hint = 'like "Apache-2.0"; one of your own is "LicenseRef-Name"'
        raise problem("licence", f'"{text}" is not an SPDX licence expression', hint) from err


NAME_PATTERN: Final = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"


class Model(Section):
    """One model: a directory with a ``modelport.yaml``."""

    name: str = Field(max_length=128, pattern=f"^{NAME_PATTERN}$")
    """The model's name, the last part of its address in each registry; the directory's name if not given."""
    title: str | None = None
    """A name for people."""
    description: str | None = None
    """One or two sentences on what the model does."""
    license: Annotated[str, AfterValidator(_licence)] | None = None
    """The SPDX licence expression of the image, like "Apache-2.0"."""
    version: str | None = None
    """The version in the image's labels; the tag {version} comes from a version tag on the commit."""
    build: Build = DockerfileBuild()
    """How the image is made: a Dockerfile, python: or image:."""
    check: Check = Check()
    """How the finished image is asked whether the model works."""
    scan: ScanPolicy = ScanPolicy()
    """What of the scanners' findings stops a release."""
    inventory: InventorySettings = InventorySettings()
    """What goes into the SBOM beyond what is found in the image."""
    training: Training | None = None
    """The training run that made the weights."""
    tags: tuple[Tag, ...] = Field(
        default=("{commit:12}", "{version}"),  # type: ignore[arg-type]  # as in YAML: defaults are validated
    )
    """Tags that name one release for ever; {tag: …, moving: true} is one that moves."""
    moving_tags: tuple[MovingTag, ...] = ("latest",)
    """Tags that move forward with each release; "latest" only where tags: has none that moves."""
    registries: Registries = ()
    """Where releases go; without one, to the OCI layout under .modelport/images."""
    release: ReleaseRule = ReleaseRule()
    """Which commits are released."""
    environments: dict[str, Environment] = Field(default_factory=dict)
    """Where releases are promoted to, by name."""
    tools: Tools = Tools()
    """What the pipeline's own steps run in."""

    directory: Annotated[Path, Field(exclude=True, json_schema_extra={"modelport": "internal"})]
    file: Annotated[Path, Field(exclude=True, json_schema_extra={"modelport": "internal"})]

    @property
    def release_tags(self) -> tuple[str, ...]:
        """The templates of the tags that name one release for ever."""
        return tuple(one.tag for one in self.tags if not one.moving)

    @property
    def moving_templates(self) -> tuple[str, ...]:
        """The templates of all tags that move, wherever they are written."""
        named = tuple(one.tag for one in self.tags if one.moving)
        own = self.moving_tags if "moving_tags" in self.model_fields_set or not named else ()
        return tuple(dict.fromkeys((*named, *own)))


def load(file: Path, environ: Mapping[str, str] | None = None) -> Model:
    """Read one ``modelport.yaml``, checked down to the files that it names.

    Raises:
        ConfigError: with the place of the first error, and the others in its detail.
    """
    environ = os.environ if environ is None else environ
    file = file.absolute()
    document = read_yaml(file)
    data = dict(document.data)
    for key in ("directory", "file"):
        if key in data:
            raise ConfigError(f'unknown key "{key}"', place=document.place((key,)), hint="remove it")
    directory = file.parent
    values: dict[str, Any] = {"name": default_name(directory), **data, "directory": directory, "file": file}
    context = {"directory": directory, "root": repository_root(directory)}
    try:
        model = Model.model_validate(values, context=context)
    except ValidationError as err:
        raise config_error(err, document, Model) from err
    return _with_environment(_with_one_port(model), environ)


def _with_one_port(model: Model) -> Model:
    """The port of ``build.python`` is the one that is checked, unless the checks name another."""
    if isinstance(model.build, PythonBuild) and "port" not in model.check.model_fields_set:
        return model.model_copy(update={"check": model.check.model_copy(update={"port": model.build.port})})
    return model


def _with_environment(model: Model, environ: Mapping[str, str]) -> Model:
    changes: dict[str, Any] = {}
    targets = registries_from(environ)
    if targets is not None:
        changes["registries"] = targets
    if image := environ.get(TOOLS_IMAGE_VARIABLE):
        changes["tools"] = Tools(image=image)
    return model.model_copy(update=changes) if changes else model


def default_name(directory: Path) -> str:
    """The name of a model that gives none: its directory's, as a repository's name may be."""
    return re.sub(r"[^a-z0-9._-]+", "-", directory.name.lower()).strip("._-")


def repository_root(directory: Path) -> Path:
    """The nearest directory at or above ``directory`` with a ``.git``, else ``directory`` itself."""
    directory = directory.resolve()
    for candidate in (directory, *directory.parents):
        if (candidate / ".git").exists():
            return candidate
    return directory


def find_models(start: Path) -> tuple[Path, ...]:
    """The ``modelport.yaml`` files of ``start``: the file itself, a model's directory, or a whole tree.

    Raises:
        ConfigError: there is none.
    """
    if start.is_file():
        return (start.absolute(),)
    if not start.is_dir():
        raise ConfigError(
            "there is no such file or directory", place=Place(start), hint="name a model's directory"
        )
    found = tuple(sorted(_files_under(start.absolute())))
    if not found:
        raise ConfigError(
            f"no {FILE_NAME} in this directory or below it",
            place=Place(start),
            hint=f"`modelport init {start}` makes one",
        )
    return found


def _files_under(start: Path) -> list[Path]:
    found = []
    for directory, names, files in os.walk(start):
        names[:] = [name for name in names if not name.startswith(".") and name not in _SKIPPED]
        if FILE_NAME in files:
            found.append(Path(directory, FILE_NAME))
    return found
