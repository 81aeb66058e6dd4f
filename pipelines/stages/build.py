"""The build stage: a model's source becomes an image, without release labels (those come last).

Three ways in (design, "Build"): a Dockerfile, ``python:`` in modelport.yaml, or an image of another job.
"""

from __future__ import annotations

from pathlib import Path

import dagger
from dagger import dag

from pipelines.config import DockerfileBuild, ImageBuild, Model, PythonBuild
from pipelines.errors import BuildFailed, Place
from pipelines.stages.engine_errors import engine_errors, first_line, tail, told, whole
from pipelines.stages.python_image import python_image

NOT_CONTEXT = [".git", ".modelport", ".venv", "**/__pycache__"]
"""Never part of a build: git's and our own state, and what the host's Python left."""


async def build(model: Model) -> dagger.Container:
    """Build ``model``'s image; awaited here, so that a failure is the build's.

    Raises:
        BuildFailed: with the failing step, its place and the end of its log.
    """
    match model.build:
        case DockerfileBuild() as dockerfile:
            image = _from_dockerfile(model, dockerfile)
            return await _built(image, model, Path(dockerfile.dockerfile))
        case PythonBuild() as python:
            return await _built(python_image(model, python), model, model.file)
        case ImageBuild() as other:
            return await _built(_from_image(model, other), model, model.file)


def _from_dockerfile(model: Model, build: DockerfileBuild) -> dagger.Container:
    context = dag.host().directory(str((model.directory / build.context).resolve()), exclude=NOT_CONTEXT)
    return context.docker_build(
        dockerfile=build.dockerfile_in_context(model.directory),
        target=build.target,
        build_args=[dagger.BuildArg(name, value) for name, value in build.args.items()],
        secrets=[dag.set_secret(name, reference.resolve()) for name, reference in build.secrets.items()],
    )


def _from_image(model: Model, build: ImageBuild) -> dagger.Container:
    path = model.directory / build.image
    if path.is_file():
        return dag.container().import_(dag.host().file(str(path.resolve())))
    return dag.container().from_(build.image)


async def _built(image: dagger.Container, model: Model, file: Path) -> dagger.Container:
    with engine_errors(BuildFailed, f"building {model.name}"):
        try:
            return await image.sync()
        except dagger.ExecError as err:
            raise _failed_step(err, model.directory / file) from err
        except dagger.QueryError as err:
            whole = tail(str(err))
            detail = whole if "\n" in whole else ""
            raise BuildFailed(
                first_line(err), place=Place(model.directory / file), hint=_hint(str(err)), detail=detail
            ) from err


def _failed_step(err: dagger.ExecError, file: Path) -> BuildFailed:
    command = (
        err.command[-1] if err.command[:2] in (["/bin/sh", "-c"], ["sh", "-ec"]) else " ".join(err.command)
    )
    failure = BuildFailed(
        f"`{_shortened(command)}` ended with exit code {err.exit_code}",
        place=Place(file, line_of(file, command)),
        hint=_hint(err.stderr),
        detail=told(err),
    )
    failure.log = whole(err)
    return failure


def line_of(file: Path, command: str) -> int | None:
    """The line of ``file`` (from 1) that holds the start of ``command``, whatever its white space."""
    words = command.split()
    if not words:
        return None
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), start=1):
        text = " ".join(line.rstrip("\\").split())
        if text and words[0] in text and " ".join(words).startswith(_after_instruction(text)[:60]):
            return number
    return None


def _after_instruction(line: str) -> str:
    """A Dockerfile line without ``RUN`` and its flags."""
    words = line.split()
    if words and words[0].upper() == "RUN":
        words = words[1:]
        while words and words[0].startswith("--"):
            words = words[1:]
    return " ".join(words) or "\0"


def _shortened(command: str) -> str:
    flat = " ".join(command.split())
    return flat if len(flat) <= 120 else flat[:117] + "..."


def _hint(text: str) -> str:
    """What to do next, from what the failing step said."""
    if "CERTIFICATE_VERIFY_FAILED" in text or "SSLError" in text:
        return "the package index's certificate is not trusted in the build (docs/engine.md: CA)"
    if "Temporary failure in name resolution" in text or "Network is unreachable" in text:
        return "the build has no network: check the proxy and DNS of this machine"
    if "No matching distribution found" in text:
        return "no such version for this Python, or the package index was not reached"
    if "manifest unknown" in text or ("not found" in text and "pull" in text):
        return "check the name and tag of the base image, and the login for its registry"
    return "the end of the step's log stands above; all of it is in the log"
