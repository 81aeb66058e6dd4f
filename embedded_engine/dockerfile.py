"""The little of a Dockerfile the engine must know before it builds: the images it stands on, what it ignores.

https://docs.docker.com/reference/dockerfile/: Buildah does the building, and reports all else that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_ESCAPE = re.compile(r"^#\s*escape\s*=\s*(\S)\s*$", re.IGNORECASE)
_DIRECTIVE = re.compile(r"^#\s*\w+\s*=")
_HEREDOC = re.compile(r"<<-?\s*([\"']?)(\w+)\1")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([-+])([^}]*))?\})")
_FROM_FLAG = re.compile(r"(?:^|\s)--from=(\S+)")
_MOUNT_FROM = re.compile(r"--mount=\S*?\bfrom=([^\s,]+)")


def base_images(text: str, args: Mapping[str, str], target: str = "") -> tuple[str, ...]:
    """The images that FROM, COPY --from and RUN --mount=from name, as written but with ARGs filled in.

    Stages, stage numbers and ``scratch`` are no images. With ``target`` only the stages up to it count.
    """
    known: dict[str, str] = {}
    stages: list[str] = []
    images: dict[str, None] = {}
    for word, rest in instructions(text):
        if word == "ARG" and not stages:
            known.update(_global_arg(rest, args, known))
        elif word == "FROM":
            if target and stages and target.lower() in (stages[-1], str(len(stages) - 1)):
                break
            parts = [part for part in rest.split() if not part.startswith("--")]
            image = _filled(parts[0], known) if parts else ""
            _note(images, image, stages)
            named = len(parts) >= 3 and parts[1].lower() == "as"
            stages.append(parts[2].lower() if named else "")
        elif word in ("COPY", "ADD", "RUN"):
            pattern = _MOUNT_FROM if word == "RUN" else _FROM_FLAG
            for found in pattern.findall(rest):
                if "$" not in found:
                    _note(images, found, stages)
    return tuple(images)


def from_words(text: str, args: Mapping[str, str]) -> dict[str, str]:
    """The image words of FROM lines as written (maybe ``$BASE``), each with ARGs filled in."""
    known: dict[str, str] = {}
    found: dict[str, str] = {}
    for word, rest in instructions(text):
        if word == "ARG" and not found:
            known.update(_global_arg(rest, args, known))
        elif word == "FROM":
            parts = [part for part in rest.split() if not part.startswith("--")]
            found.update({part: _filled(part, known) for part in parts[:1]})
    return found


def _note(images: dict[str, None], image: str, stages: list[str]) -> None:
    if image and image != "scratch" and image.lower() not in stages and not image.isdigit():
        images.setdefault(image)


def _global_arg(rest: str, args: Mapping[str, str], known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for part in rest.split():
        name, _, default = part.partition("=")
        if name in args:
            yield name, args[name]
        else:
            yield name, _filled(default.strip("\"'"), known)


def _filled(text: str, known: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        found = known.get(match[1] or match[2], "")
        if match[3] == "-":
            return found or match[4]
        if match[3] == "+":
            return match[4] if found else ""
        return found

    return _VARIABLE.sub(value, text.strip("\"'"))


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """(INSTRUCTION, the rest) in order; continued lines joined, comments and heredoc bodies left out."""
    return ((word, rest) for _, word, rest in numbered(text))


def numbered(text: str) -> Iterator[tuple[int, str, str]]:
    """As ``instructions``, each with the number (from 1) of its last line, before heredoc bodies."""
    counted = enumerate(text.splitlines(), 1)
    escape = "\\"
    whole = ""
    header = True
    for number, line in counted:
        stripped = line.strip()
        if header and _DIRECTIVE.match(stripped):
            chosen = _ESCAPE.match(stripped)
            escape = chosen[1] if chosen else escape
            continue
        header = False
        if stripped.startswith("#") or (not stripped and not whole):
            continue
        if stripped.endswith(escape):
            whole += stripped[:-1] + " "
            continue
        whole += stripped
        word, _, rest = whole.strip().partition(" ")
        whole = ""
        if not word:
            continue
        yield number, word.upper(), rest.strip()
        for _, end in _HEREDOC.findall(rest):
            for _, body in counted:
                if body.strip() == end:
                    break


def ignore_patterns(text: str) -> list[str]:
    """The patterns of a .dockerignore file."""
    lines = (line.strip() for line in text.lstrip("\ufeff").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
