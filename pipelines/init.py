"""``modelport init``: the files that a model needs to be released, written once and then the team's own."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Final

from pipelines.config import FILE_NAME, load, repository_root
from pipelines.detection import Found, examine
from pipelines.errors import Place, UsageError

TEMPLATES: Final = {
    "ci/main.py": "main.py",
    ".github/workflows/modelport.yml": "github.yml",
    ".circleci/config.yml": "circleci.yml",
    "Jenkinsfile": "Jenkinsfile",
}
"""Where each template goes, from the top of the repository."""


@dataclass(frozen=True, slots=True)
class Written:
    """What ``init`` did; ``str()`` is for people."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        here = Path.cwd()
        lines = [f"wrote  {_seen_from(here, path)}" for path in self.written]
        lines += [f"kept   {_seen_from(here, path)} (it was there; not changed)" for path in self.kept]
        lines += [f"note   {note}" for note in self.notes]
        return "\n".join([*lines, "next   python ci/main.py plan, then python ci/main.py run"])


def init(directory: Path) -> Written:
    """Write ``modelport.yaml`` for the model in ``directory``, and at the top of its repository the CI files.

    A file that is there is never overwritten, whatever is in it.

    Raises:
        UsageError: ``directory`` is none, or can't be written to.
        ConfigError: the modelport.yaml that was there, and was kept, is wrong.
    """
    directory = directory.absolute()
    if not directory.is_dir():
        raise UsageError(
            "there is no such directory", place=Place(directory), hint="make it, or name another one"
        )
    root = repository_root(directory)
    found = examine(directory)
    wanted = {directory / FILE_NAME: model_file(found)}
    wanted |= {root / name: template(source) for name, source in TEMPLATES.items()}
    wanted[root / "ci/requirements.txt"] = requirements()
    written: list[Path] = []
    kept: list[Path] = []
    for path, text in wanted.items():
        (written if _write_new(path, text) else kept).append(path)
    load(directory / FILE_NAME)
    return Written(tuple(written), tuple(kept), tuple(_notes(found)))


def template(name: str) -> str:
    """One of the packaged templates."""
    return files("pipelines").joinpath("templates", name).read_text("utf-8")


def requirements() -> str:
    """What CI installs: this very version, so that a commit is always released by the same pipeline."""
    extras = "# modelport[acr] for Azure Container Registry, modelport[gar] for Google Artifact Registry\n"
    try:
        return f"{extras}modelport=={version('modelport')}\n"
    except PackageNotFoundError:  # run from its source tree
        return f"{extras}modelport\n"


def _write_new(path: Path, text: str) -> bool:
    """Write a file that is not there; False when something is, if only a broken link."""
    if os.path.lexists(path):
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as err:
        raise UsageError(
            f"can't be written: {err.strerror}", place=Place(path), hint="is the directory yours?"
        ) from err
    return True


def _notes(found: Found) -> list[str]:
    notes = [
        f"{name} is a Git LFS pointer: `git lfs pull`, then add its sha256"
        for name, digest in found.weights
        if not digest
    ]
    if not found.dockerfile and not found.server:
        notes.append(f"no Dockerfile and no server was found: complete build: in {FILE_NAME}")
    if not found.golden:
        notes.append("golden cases (requests and the answers that must come) make the check worth having")
    return notes


def _seen_from(here: Path, path: Path) -> str:
    return str(path.relative_to(here)) if path.is_relative_to(here) else os.fspath(path)


def model_file(found: Found) -> str:
    """The text of a new modelport.yaml: what was found, and commented out what is often added."""
    parts = [_HEAD.format(name=found.name), _docker(found) if found.dockerfile else _python(found)]
    parts += [_check(found), _TAIL]
    return "\n".join(parts)


_HEAD: Final = """\
# The model, and how it gets from its commit to the registries. For editors:
#   modelport schema > .modelport/schema.json
# yaml-language-server: $schema=.modelport/schema.json
name: {name}
# description: What the model does, in a sentence or two.
# license: Apache-2.0
"""


def _docker(found: Found) -> str:
    return f"""\
build:
  dockerfile: {_quoted(found.dockerfile or "")}
  # context: .
  # secrets: {{token: env://TOKEN}}   # for RUN --mount=type=secret,id=token
"""


def _python(found: Found) -> str:
    lines = ["build:", "  python:", "    base: python:3.11-slim", "    # system: [libgomp1]"]
    if found.requirements:
        lines.append(f"    dependencies: {_quoted(found.requirements)}")
    else:
        lines.append("    # dependencies: requirements.txt")
    lines += _weights(found)
    code = ", ".join(_quoted(name) for name in found.code)
    lines.append(f"    code: [{code}]" if code else "    # code: [server.py]")
    if found.server:
        lines.append(f"    command: [python, {_quoted(found.server)}]")
    else:
        lines.append("    # command: [python, server.py]")
    return "\n".join([*lines, f"    port: {found.port}", ""])


def _weights(found: Found) -> list[str]:
    if not found.weights:
        return ["    # weights: [{path: model.safetensors, sha256: {model.safetensors: <64 digits>}}]"]
    lines = ["    weights:"]
    for name, digest in found.weights:
        comment = "" if digest else "# "  # the file is not here yet: a line that is complete would be refused
        lines.append(f"      {comment}- path: {_quoted(name)}")
        if digest:
            lines.append(f"        sha256: {{{_quoted(Path(name).name)}: {digest}}}")
    return lines if any(digest for _, digest in found.weights) else ["    # weights:", *lines[1:]]


def _check(found: Found) -> str:
    golden = f"golden: {_quoted(found.golden)}" if found.golden else "# golden: evaluation/golden.jsonl"
    return f"""\
check:
  port: {found.port}
  health: /healthz
  path: /predict
  {golden}   # a line each: {{"request": …, "expected": …}}
  # unit: {{command: [python, -m, unittest, discover, -s, tests], files: [tests]}}
  # quality: {{data: evaluation/data.jsonl, metric: accuracy, answer: label, at_least: 0.9}}
  # abuse: {{skip: [slow]}}   # hostile requests are sent by default; false: none
"""


_TAIL: Final = """\
# Without registries the image goes to .modelport/images. MODELPORT_REGISTRY takes the place of this list.
# registries:
#   - repository: registry.example.com/models
#     username: env://MODELPORT_REGISTRY_USERNAME
#     password: env://MODELPORT_REGISTRY_PASSWORD

release:
  branches: [main, master]
"""


def _quoted(text: str) -> str:
    """``text`` as YAML: plain where that is safe, else as a JSON string, which YAML reads too."""
    safe = text.replace("/", "").replace("_", "").replace("-", "").replace(".", "")
    plain = safe.isalnum() and safe.isascii() and not text[0].isdigit() and not text.startswith(("-", "."))
    return text if plain else json.dumps(text, ensure_ascii=False)
