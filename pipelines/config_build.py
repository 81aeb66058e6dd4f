"""The ``build:`` section: from a Dockerfile, from Python code and weights, or an image made elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pipelines.config_values import EnvText, NamedDirectory, NamedFile, NamedPath, SecretRef, Section, problem

BUILD_KINDS = ("dockerfile", "python", "image")

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_SHA256 = re.compile(r"(sha256:)?[0-9a-f]{64}")
_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._ -]+\])?==[A-Za-z0-9][A-Za-z0-9.!+_-]*")


def _digest(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise problem(
            "digest",
            "a SHA-256 digest has 64 hexadecimal digits, in lower case",
            "`sha256sum FILE` prints it",
        )
    return text.removeprefix("sha256:")


def _pinned(text: str) -> str:
    if not _PINNED.fullmatch(text):
        raise problem(
            "pin", f'"{text}" is not a pinned requirement', 'weights are pinned to one version: "name==1.2.3"'
        )
    return text


Digest = Annotated[str, AfterValidator(_digest), Field(json_schema_extra={"pattern": f"^{_SHA256.pattern}$"})]


class DockerfileBuild(Section):
    """Build the image from a Dockerfile."""

    dockerfile: NamedFile = "Dockerfile"
    """The Dockerfile, relative to the directory of modelport.yaml."""
    context: NamedDirectory = "."
    """The directory that COPY sees, relative to the directory of modelport.yaml."""
    target: str = ""
    """The stage to build; without it the last one."""
    args: dict[str, EnvText] = Field(default_factory=dict)
    """Build arguments (ARG). They end up in the image's history: no secrets here."""
    secrets: dict[str, SecretRef] = Field(default_factory=dict)
    """Secrets for RUN --mount=type=secret,id=NAME; they never become part of the image."""

    def dockerfile_in_context(self, directory: Path) -> str:
        """The Dockerfile as an engine names it: relative to the context. ``directory`` is the model's."""
        dockerfile, context = (directory / self.dockerfile).resolve(), (directory / self.context).resolve()
        return dockerfile.relative_to(context).as_posix()

    @model_validator(mode="after")
    def _inside_context(self, info: ValidationInfo) -> DockerfileBuild:
        if isinstance(info.context, dict) and "directory" in info.context:
            try:
                self.dockerfile_in_context(info.context["directory"])
            except ValueError:
                text = f'the Dockerfile "{self.dockerfile}" is outside of the context "{self.context}"'
                raise problem("path", text, "move it, or name a context that holds it") from None
        return self


def _not_a_pointer(name: str, info: ValidationInfo) -> str:
    """Refuse a Git LFS pointer: the image would be built, and serve 130 bytes of text as its weights."""
    if isinstance(info.context, dict) and "directory" in info.context:
        path = Path(info.context["directory"], name)
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and file.stat().st_size < 1024 and file.read_bytes().startswith(_LFS_POINTER):
                shown = file.relative_to(info.context["directory"])
                raise problem("path", f'"{shown}" is a Git LFS pointer, not the file', "run `git lfs pull`")
    return name


class Weights(Section):
    """Weights of the model, in a layer of their own: a path in the repository or a pinned package."""

    path: Annotated[NamedPath, AfterValidator(_not_a_pointer)] | None = None
    """A file or directory of the repository, relative to the directory of modelport.yaml."""
    pip: Annotated[str, AfterValidator(_pinned)] | None = None
    """A pinned requirement, "name==version"; installed without its dependencies."""
    sha256: dict[str, Digest] = Field(default_factory=dict)
    """File (or glob) to SHA-256 digest; verified in the build."""

    @model_validator(mode="after")
    def _one_of(self) -> Weights:
        if (self.path is None) == (self.pip is None):
            what = "both" if self.path is not None else "neither"
            raise problem("either", f'weights need either "path" or "pip"; here are {what}')
        return self


class PythonBuild(Section):
    """Build the image from Python code and weights, without a Dockerfile: a layer each, non-root user."""

    base: str = "python:3.11-slim"
    """The image to start from; Debian with Python and pip."""
    system: tuple[str, ...] = ()
    """Debian packages to install."""
    dependencies: NamedFile | None = None
    """A requirements file for pip."""
    weights: tuple[Weights, ...] = ()
    """The model's weights."""
    code: tuple[NamedPath, ...] = ()
    """Files and directories of code."""
    command: tuple[str, ...] = ()
    """The command that serves the model."""
    port: int = Field(default=8080, ge=1, le=65535)
    """The port that it listens on."""
    env: dict[str, EnvText] = Field(default_factory=dict)
    """Environment variables of the image: no secrets here."""


class ImageBuild(Section):
    """Take an image that some other job built."""

    image: str = Field(min_length=1)
    """A reference (registry/repository:tag or @sha256:digest), or the path of an OCI archive."""


class _UnderPython:
    """In YAML the keys of PythonBuild stand under ``python:``; the JSON Schema has to say so."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "title": "Python",
            "type": "object",
            "properties": {"python": handler(schema)},
            "required": ["python"],
            "additionalProperties": False,
        }


def _unwrap(value: object) -> object:
    return value["python"] if isinstance(value, Mapping) and "python" in value else value


def _kind(value: Any) -> str:
    """The tag of the form that ``value`` is in; a tag with "~" is not a key of the file."""
    if isinstance(value, PythonBuild) or (isinstance(value, Mapping) and "python" in value):
        return "python"
    if isinstance(value, ImageBuild) or (isinstance(value, Mapping) and "image" in value):
        return "~image"
    return "~dockerfile"


def _one_kind(value: object) -> object:
    """Refuse two build kinds at once, and keys that belong to another kind."""
    if not isinstance(value, Mapping):
        return value
    kinds = [kind for kind in BUILD_KINDS if kind in value]
    if len(kinds) > 1:
        names = " and ".join(f'"{kind}"' for kind in kinds)
        raise problem("either", f"{names} exclude each other", "keep the one that the image is built from")
    if kinds and kinds[0] != "dockerfile":
        for key in value:
            if key in DockerfileBuild.model_fields:
                raise problem("either", f'"{key}" belongs to a Dockerfile build, not beside "{kinds[0]}"')
    return value


Build = Annotated[
    Annotated[DockerfileBuild, Tag("~dockerfile")]
    | Annotated[PythonBuild, BeforeValidator(_unwrap), _UnderPython(), Tag("python")]
    | Annotated[ImageBuild, Tag("~image")],
    Discriminator(_kind),
    BeforeValidator(_one_kind),
]
