"""What is in an image, as ``in_engine/collect.py`` tells it: for the package scanner and the inventory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class OsPackage:
    """An installed package of the distribution."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    maintainer: str
    kind: str = "deb"
    """The package manager: "deb", "apk" or "rpm"; also purl's type."""
    licences: tuple[str, ...] = ()
    """As the package names them, each once; all of them hold. Empty: it doesn't say."""
    licence_file: str = ""
    """The file of the image that says so."""


@dataclass(frozen=True, slots=True)
class PythonPackage:
    """An installed Python distribution, from its own metadata."""

    name: str
    version: str
    path: str
    licence_expression: str
    licence: str
    licence_classifiers: tuple[str, ...]
    debian: bool
    """A Debian package brought it: patched by Debian, under an unchanged version."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file of model weights."""

    path: str
    size: int
    sha256: str
    format: str
    md5: str = ""
    """Only where the checkout has DVC files, which know their files by it."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What its header says: tensors, parameters, types (any: JSON of ``in_engine/weight_facts.py``)."""
    hub: Mapping[str, str] = field(default_factory=dict)
    """Repository and revision of the Hugging Face hub, as its client left them in the image."""
    card: Mapping[str, str] = field(default_factory=dict)
    """What the model card beside it says."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in an image. ``problems`` says what could not be read: then the rest is not all there is."""

    os_release: Mapping[str, str]
    os_packages: tuple[OsPackage, ...]
    other_package_database: str
    python: tuple[PythonPackage, ...]
    weights: tuple[WeightFile, ...]
    problems: tuple[str, ...]

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Contents:  # Any: JSON of our own program, whose shape is known
        """From the program's JSON."""
        python = [
            PythonPackage(**{**one, "licence_classifiers": tuple(one["licence_classifiers"])})
            for one in told["python"]
        ]
        return cls(
            os_release=dict(told["os_release"]),
            os_packages=tuple(
                OsPackage(**{**one, "licences": tuple(one["licences"])}) for one in told["os_packages"]
            ),
            other_package_database=told["other_package_database"],
            python=tuple(python),
            weights=tuple(WeightFile(**one) for one in told["weights"]),
            problems=tuple(told["problems"]),
        )
