"""What a directory tells of its model: Dockerfile, requirements, weights, code. For ``modelport init``."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipelines.config import default_name

WEIGHT_SUFFIXES: Final = frozenset(
    {
        ".safetensors",
        ".onnx",
        ".gguf",
        ".tflite",
        ".npz",
        ".npy",
        ".pt",
        ".pth",
        ".ckpt",
        ".h5",
        ".keras",
        ".pb",
        ".pkl",
        ".pickle",
        ".joblib",
        ".ftz",
        ".xgb",
        ".ubj",
        ".cbm",
    }
)
_SERVERS: Final = ("serve.py", "server.py", "app.py", "main.py", "api.py")
_NOT_CODE: Final = frozenset({"tests", "test", "ci", "docs", "notebooks", "scripts", "data", "evaluation"})
_SKIPPED: Final = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class Found:
    """What was found; paths are relative to the directory, with forward slashes."""

    name: str
    dockerfile: str | None
    port: int
    requirements: str | None
    weights: tuple[tuple[str, str], ...]
    """Path and SHA-256; empty for a Git LFS pointer, whose file is not here."""
    code: tuple[str, ...]
    server: str | None
    golden: str | None


def examine(directory: Path) -> Found:
    """Look at ``directory``. Weights are read to be hashed, never loaded."""
    dockerfile = _first(directory, "Dockerfile", "Containerfile", "docker/Dockerfile")
    code = tuple(_code(directory))
    return Found(
        name=default_name(directory),
        dockerfile=dockerfile,
        port=_exposed(directory / dockerfile) if dockerfile else 8080,
        requirements=_first(directory, "requirements.txt", "requirements.lock", "requirements/base.txt"),
        weights=tuple((name, _sha256(directory / name)) for name in _weights(directory)),
        code=code,
        server=_server(directory, code),
        golden=_first(directory, "golden.jsonl", "evaluation/golden.jsonl", "tests/golden.jsonl"),
    )


def _first(directory: Path, *names: str) -> str | None:
    return next((name for name in names if (directory / name).is_file()), None)


def _exposed(dockerfile: Path) -> int:
    """The last port of an EXPOSE; 8080 where there is none that is a plain number."""
    ports = re.findall(r"(?im)^\s*EXPOSE\s+(\d+)(?:/tcp)?\b", dockerfile.read_text("utf-8", "replace"))
    return next((int(port) for port in reversed(ports) if 0 < int(port) < 65536), 8080)


def _weights(directory: Path) -> Iterator[str]:
    for place, names, files in os.walk(directory):
        names[:] = sorted(name for name in names if not name.startswith(".") and name not in _SKIPPED)
        for file in sorted(files):
            if Path(file).suffix.lower() in WEIGHT_SUFFIXES:
                yield Path(place, file).relative_to(directory).as_posix()


def _code(directory: Path) -> Iterator[str]:
    """Modules and packages at the top of the directory, tests and helpers left out."""
    for entry in sorted(directory.iterdir()):
        if entry.name in _NOT_CODE or entry.name.startswith((".", "test_")) or entry.name == "setup.py":
            continue
        if entry.suffix == ".py" or (entry / "__init__.py").is_file():
            yield entry.name


def _server(directory: Path, code: tuple[str, ...]) -> str | None:
    """The module to run: of those with a usual name, first the ones that are written to be run."""
    named = [name for name in _SERVERS if name in code]
    runnable = [name for name in named if "__main__" in (directory / name).read_text("utf-8", "replace")]
    return next(iter(runnable + named), None)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        if content.read(len(_LFS_POINTER)) == _LFS_POINTER:
            return ""
        content.seek(0)
        return hashlib.file_digest(content, "sha256").hexdigest()
