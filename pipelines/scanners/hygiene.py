"""Malware hygiene: what makes an attacker's life easy, by the files' modes and the image's configuration.

Told from the layers' own records (mode, owner, extended attributes), which no engine's mount changes. No
content is read but dpkg's lists, and those only when a file asks for its owner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from anyio import to_thread

from pipelines.config import DockerfileBuild, Model, PythonBuild
from pipelines.config_scan import ScanPolicy, Severity
from pipelines.scanners.paths import matches
from pipelines.scanners.port import Finding, ImageView, ScannerName, ScannerResult


@dataclass(frozen=True, slots=True)
class Hygiene:
    """Judges files by the layers' listings, and the configuration."""

    model: Model
    name: ScannerName = field(default="hygiene", init=False)
    network: str = field(default="", init=False)

    async def scan(self, image: ImageView, policy: ScanPolicy) -> ScannerResult:
        """Setuid files that no package brought, world-writable paths, root, what the history tells."""
        from pipelines.scanners.hygiene_config import in_config, moving_base  # noqa: PLC0415  as below
        from pipelines.scanners.hygiene_files import VERSION, files_of  # noqa: PLC0415  only when it is asked for

        layers = await image.layers()
        told = await to_thread.run_sync(files_of, layers, abandon_on_cancel=True)
        judged = [one for one in told["found"] if not matches(one["path"], policy.hygiene.ignore)]
        return ScannerResult(
            "hygiene",
            audited=True,
            findings=(
                *in_config(layers.config, tuple(layer.digest for layer in layers.layers)),
                *moving_base(await to_thread.run_sync(_recipe, self.model)),
                *(_finding(one) for one in judged),
            ),
            looked_at=told["looked_at"],
            version=str(VERSION),
            note=f"{told['usual']} usual setuid files" if told["usual"] else "",
        )


def _finding(one: dict[str, Any]) -> Finding:  # Any: JSON of our own, as it is kept
    severity: Severity = one["severity"]
    return Finding(
        scanner="hygiene",
        id=one["rule"],
        severity=severity,
        subject=one["path"],
        title=one["title"],
        where=one["path"],
        layer=one["layer"],
        hint=one["hint"],
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the image is made from, as far as the repository tells."""

    file: str
    text: str
    """The Dockerfile; "" for a ``python:`` build."""
    base: str
    """The base image of a ``python:`` build."""


def _recipe(model: Model) -> Recipe:
    match model.build:
        case DockerfileBuild() as build:
            try:
                text = (model.directory / build.dockerfile).read_text("utf-8", "replace")
            except OSError:  # the build says so
                text = ""
            return Recipe(build.dockerfile, text, "")
        case PythonBuild() as build:
            return Recipe(model.file.name, "", build.base)
        case _:
            return Recipe("", "", "")
