"""Contents of images and revisions, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pipelines.scanners.contents import Contents, PythonPackage, WeightFile
from pipelines.source import SourceRevision


def python(packages: Mapping[str, str]) -> tuple[PythonPackage, ...]:
    return tuple(
        PythonPackage(name, version, f"/site-packages/{name}.dist-info", "MIT", "", (), False)
        for name, version in packages.items()
    )


def weights(**digests: str) -> tuple[WeightFile, ...]:
    return tuple(WeightFile(f"/app/{name}.onnx", 3, digest * 32, "onnx") for name, digest in digests.items())


def contents(python: tuple[PythonPackage, ...] = (), weights: tuple[WeightFile, ...] = ()) -> Contents:
    return Contents({"ID": "debian", "VERSION_ID": "12"}, (), "", python, weights, ())


def revision(day: int = 1, *tags: str) -> SourceRevision:
    return SourceRevision(
        commit=f"{day:040x}",
        head_commit=f"{day:040x}",
        committed_at=datetime(2026, 1, day, tzinfo=UTC),
        branch="main",
        version=None,
        remote="https://git.example/models",
        dirty=(),
        shallow=False,
        root=Path("/src"),
        tags=tags,
    )
