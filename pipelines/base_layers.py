"""How many layers of a built image are its base image's. No field of an image says so: the recipe does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pipelines.config import DockerfileBuild, Model, PythonBuild

_CONTINUED: Final = {"\\": re.compile(r"\\[ \t]*$"), "`": re.compile(r"`[ \t]*$")}
_ESCAPE = re.compile(r"#\s*escape\s*=\s*([\\`])\s*$", re.IGNORECASE)
_DIRECTIVE = re.compile(r"#\s*\w+\s*=")
_HEREDOC = re.compile(r"<<(-?)([\"']?)(\w+)\2")
_FROM = re.compile(r"(?:--\S+\s+)*(\S+)(?:\s+as\s+(\S+))?\s*$", re.IGNORECASE)


def base_layers(model: Model, config: Mapping[str, Any], layers: int) -> int | None:
    """How many of the first layers are the base image's; None where the recipe doesn't tell.

    ``config`` is the image's configuration (Any: foreign JSON). A ``python:`` build adds a known number of
    layers, a Dockerfile a known number of entries to the history.
    """
    own: int | None
    match model.build:
        case PythonBuild() as build:
            own = _layers_of_python(build)
        case DockerfileBuild() as build:
            text = (model.directory / build.dockerfile).read_text(errors="replace")
            own = _layers_of_entries(config.get("history"), instructions_on_base(text, build.target), layers)
        case _:
            own = None
    return layers - own if own is not None and own <= layers else None


def _layers_of_python(build: PythonBuild) -> int:
    """What ``pipelines.stages.python_image`` adds: a layer for each section, one more to verify files."""
    weights = sum(2 if one.path and one.sha256 else 1 for one in build.weights)
    return bool(build.system) + bool(build.dependencies) + weights + bool(build.code)


def _layers_of_entries(history: object, own: int | None, layers: int) -> int | None:
    """The layers that the last ``own`` entries of a history made; None where it does not fit the layers."""
    if not isinstance(history, list) or own is None or own > len(history):
        return None
    made = [isinstance(entry, dict) and not entry.get("empty_layer") for entry in history]
    return sum(made[len(made) - own :]) if sum(made) == layers else None


def instructions_on_base(dockerfile: str, target: str = "") -> int | None:
    """How many instructions stand between the base image and the end of the stage ``target`` (or the last).

    A stage that begins from another one counts that one's, too. None where there is no such stage.
    """
    stages: dict[str, int] = {}
    count = None
    name = ""
    for word, rest in _instructions(dockerfile):
        if word == "FROM":
            if count is not None and name == target.lower() != "":
                return count
            found = _FROM.match(rest)
            base = found[1].lower() if found else ""
            name = (found[2] or "").lower() if found else ""
            count = stages.get(base, 0)
        elif count is not None:
            count += 1
        if count is not None and name:
            stages[name] = count
    return count if not target or name == target.lower() else None


def _instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Each instruction's word, in capitals, and its text; comments and here-documents left out."""
    lines = dockerfile.splitlines()
    continued = _CONTINUED[_escape(lines)]
    text = ""
    waiting: list[re.Pattern[str]] = []
    for line in lines:
        if waiting:
            if waiting[0].fullmatch(line):
                waiting.pop(0)
            continue
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        text += continued.sub(" ", line)
        if continued.search(line):
            continue
        word, _, rest = text.strip().partition(" ")
        if word.upper() in ("RUN", "COPY", "ADD"):
            waiting = [_end(found) for found in _HEREDOC.finditer(rest)]
        yield word.upper(), rest.strip()
        text = ""
    if text.strip():
        word, _, rest = text.strip().partition(" ")
        yield word.upper(), rest.strip()


def _end(heredoc: re.Match[str]) -> re.Pattern[str]:
    """The line that ends a here-document."""
    return re.compile(("\t*" if heredoc[1] else "") + re.escape(heredoc[3]))


def _escape(lines: Sequence[str]) -> str:
    """The continuation character: a directive at the top of the file may change it."""
    for line in lines:
        if found := _ESCAPE.match(line):
            return found[1]
        if not _DIRECTIVE.match(line):
            break
    return "\\"
