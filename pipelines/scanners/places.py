"""Where a finding comes from: the layer that brought the file, the line of the repository to change."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from pipelines.config import DockerfileBuild, Model, PythonBuild
from pipelines.scanners.paths import package_name
from pipelines.scanners.port import CouldNotLookError, Finding, ImageView, ScannerResult

if TYPE_CHECKING:
    from pipelines.scanners.layers import ImageLayers

_READ_LIMIT = 1 << 20
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[|[=<>!~;@ #]|$)")
_FROM = re.compile(r"\s*FROM\s", re.IGNORECASE)
_ENV = re.compile(r"\s*(?:ENV|ARG)\s", re.IGNORECASE)


async def placed(results: Sequence[ScannerResult], image: ImageView, model: Model) -> list[ScannerResult]:
    """``results`` with layer, file and line where they can be told. Without findings nothing is asked."""
    paths = {_path(one) for result in results for one in result.findings if not one.layer} - {""}
    layers: Mapping[str, str] = {}
    if paths:
        try:
            layers = await to_thread.run_sync(_layers_of, await image.layers(), paths)
        except CouldNotLookError:
            layers = {}  # the scanner that is for layers says why; the finding itself stands
    if not any(result.findings for result in results):
        return list(results)
    lines = await to_thread.run_sync(SourceLines.of, model)
    return [
        replace(result, findings=tuple(_placed(one, layers, lines) for one in result.findings))
        for result in results
    ]


def _placed(finding: Finding, layers: Mapping[str, str], lines: SourceLines) -> Finding:
    layer = finding.layer or layers.get(_path(finding), "")
    if finding.file:
        return replace(finding, layer=layer)
    file, line = lines.place(finding)
    return replace(finding, layer=layer, file=file, line=line if file else finding.line)


def _path(finding: Finding) -> str:
    """The finding's path in the image, or ""."""
    path = finding.subject if finding.subject.startswith("/") else finding.where
    return path if path.startswith("/") else ""


def _layers_of(layers: ImageLayers, paths: set[str]) -> dict[str, str]:
    """The layer of each of ``paths`` in the final file system; blocks."""
    wanted = {path.rstrip("/"): path for path in paths} | {
        bare: path for path in paths if (bare := re.sub(r":\d+$", "", path)) != path
    }
    return {
        wanted[entry.path]: entry.layer
        for entry in layers.entries()
        if entry.deleted_by is None and entry.path in wanted
    }


class SourceLines:
    """The lines of the repository in which an image's packages and variables are written down."""

    def __init__(self, requirements: Mapping[str, str], dockerfile: tuple[str, str] | None) -> None:
        """``requirements`` and ``dockerfile``: names relative to modelport.yaml, and their texts."""
        self._packages = {
            name: (file, number)
            for file, text in reversed([*requirements.items()])
            for name, number in _packages_of(text)
        }
        self._dockerfile, text = dockerfile or ("", "")
        numbered = list(enumerate(text.splitlines(), start=1))
        self._base = next((number for number, line in reversed(numbered) if _FROM.match(line)), 0)
        self._variables = [(number, line) for number, line in numbered if _ENV.match(line)]

    @classmethod
    def of(cls, model: Model) -> SourceLines:
        """Those of ``model``; files that can't be read tell nothing."""
        directory, build = model.directory, model.build
        named: list[str] = []
        dockerfile: tuple[str, str] | None = None
        if isinstance(build, PythonBuild):
            named = [build.dependencies] if build.dependencies else []
        elif isinstance(build, DockerfileBuild):
            named = sorted(file.name for file in directory.glob("*requirements*.txt"))
            dockerfile = (build.dockerfile, _text(directory / build.dockerfile))
        return cls({name: _text(directory / name) for name in named}, dockerfile)

    def place(self, finding: Finding) -> tuple[str, int | None]:
        """File and line; ``("", None)`` where the repository doesn't tell."""
        if finding.scanner == "python_packages":
            return self._packages.get(package_name(finding.subject), ("", None))
        if finding.scanner == "os_packages" and self._base:
            return self._dockerfile, self._base
        if finding.subject.startswith("ENV "):
            name = re.compile(rf"\b{re.escape(finding.subject[4:])}\b")
            found = next((number for number, line in self._variables if name.search(line)), None)
            return (self._dockerfile, found) if found else ("", None)
        return "", None


def _packages_of(text: str) -> Iterable[tuple[str, int]]:
    for number, line in reversed(list(enumerate(text.splitlines(), start=1))):
        if found := _REQUIREMENT.match(line):
            yield package_name(found[1]), number


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_READ_LIMIT).decode("utf-8", "replace")
    except OSError:
        return ""
