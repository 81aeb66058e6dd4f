"""The inventory stage: what is in the image, as a CycloneDX 1.6 SBOM that is the same for the same commit.

Written as plain JSON after https://cyclonedx.org/docs/1.6/json/ : the document is small, and the library for
it takes longer to import than the whole stage when nothing changed. The tests hold it to its schema.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from pipelines.config import Model
from pipelines.errors import PipelineError
from pipelines.scanners.contents import Contents, OsPackage, PythonPackage, WeightFile
from pipelines.scanners.osv_source import normalised
from pipelines.scanners.port import CouldNotLookError
from pipelines.scanners.view import EngineView
from pipelines.source import SourceRevision
from pipelines.values import JSON

if TYPE_CHECKING:
    import dagger

SPEC = "1.6"
Entry = dict[str, Any]
"""A part of the document. Any: JSON on its way out."""

LICENCE_IDS = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
"""Trove classifiers that say one SPDX licence. "BSD License" says none: it stays a name."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The SBOM and what it counts."""

    sbom: bytes
    components: int
    problems: tuple[str, ...] = ()
    """What of the image could not be read; the SBOM says then that it is incomplete."""

    def summary(self) -> str:
        """The number of components."""
        incomplete = f", incomplete: {self.problems[0]}" if self.problems else ""
        return f"{self.components} components{incomplete}"

    def to_json(self) -> dict[str, JSON]:
        """For the record: the digest, by which the SBOM is known wherever it is attached."""
        return {
            "components": self.components,
            "format": f"CycloneDX {SPEC}",
            "sha256": sha256(self.sbom).hexdigest(),
            "size": len(self.sbom),
            "problems": list(self.problems),
        }


async def inventory(image: dagger.Container, model: Model, source: SourceRevision) -> Inventory:
    """What is in the built image, from the same look into it as the scan of Python packages takes.

    Raises:
        PipelineError: the image could not be looked into.
    """
    try:
        contents = await EngineView(image, model).contents()
    except CouldNotLookError as err:
        raise PipelineError(
            f"no inventory of {model.name}: {err}", hint="the run's engine.log has the step's whole output"
        ) from err
    return listed(contents, model, source)


def listed(contents: Contents, model: Model, source: SourceRevision) -> Inventory:
    """The SBOM of ``contents``. Same contents, same commit: the same bytes."""
    components = [
        *_operating_system(contents),
        *(_os_package(package, contents.os_release) for package in contents.os_packages),
        *_python_packages(contents.python),
        *_models(contents.weights, model, source),
    ]
    components.sort(key=lambda one: one["bom-ref"])
    problems = _problems(contents)
    document = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "version": 1,
        "metadata": _metadata(model, source),
        "components": components,
        "dependencies": [
            {"ref": "image", "dependsOn": [one["bom-ref"] for one in components]},
        ],
        "compositions": [{"aggregate": "incomplete" if problems else "complete", "assemblies": ["image"]}],
    }
    name = sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    document["serialNumber"] = f"urn:uuid:{uuid5(NAMESPACE_URL, name)}"
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    return Inventory(f"{text}\n".encode(), len(components), problems)


def _problems(contents: Contents) -> tuple[str, ...]:
    other = contents.other_package_database
    unread = (f"the {other} package database is not read",) if other else ()
    return (*contents.problems, *unread)


def _metadata(model: Model, source: SourceRevision) -> Entry:
    number = _version_of(model, source)
    image: Entry = {
        "type": "container",
        "bom-ref": "image",
        "name": model.name,
        "version": number,
        "purl": f"pkg:generic/{quote(model.name, safe='')}@{quote(number, safe='')}{_vcs(source)}",
        "properties": [{"name": "modelport:source:revision", "value": source.commit}],
    }
    if model.description:
        image["description"] = model.description
    if source.remote:
        image["externalReferences"] = [{"type": "vcs", "url": source.remote}]
    if model.license:
        image["licenses"] = [{"expression": model.license}]
    tool = {"type": "application", "name": "modelport", "version": _own_version()}
    return {
        "timestamp": source.committed_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycles": [{"phase": "post-build"}],
        "tools": {"components": [tool]},
        "component": image,
    }


def _version_of(model: Model, source: SourceRevision) -> str:
    return source.version or model.version or source.commit


def _vcs(source: SourceRevision) -> str:
    """The qualifier that leads back to the commit (purl's "vcs_url"); the digest isn't known yet."""
    return f"?vcs_url={quote(f'git+{source.remote}@{source.commit}', safe=':/')}" if source.remote else ""


def _own_version() -> str:
    try:
        return version("modelport")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"


def _operating_system(contents: Contents) -> list[Entry]:
    release = contents.os_release
    if not release.get("ID"):
        return []
    entry: Entry = {
        "type": "operating-system",
        "bom-ref": f"os:{release['ID']}",
        "name": release["ID"],
        "description": release.get("PRETTY_NAME", release["ID"]),
    }
    if release.get("VERSION_ID"):
        entry["version"] = release["VERSION_ID"]
    return [entry]


def _os_package(package: OsPackage, release: Any) -> Entry:
    distribution = release.get("ID", "debian")
    qualifiers = [f"arch={quote(package.architecture, safe='')}"] if package.architecture else []
    if number := release.get("VERSION_ID"):
        qualifiers.append(f"distro={quote(f'{distribution}-{number}', safe='')}")
    name, number = quote(package.name, safe=""), quote(package.version, safe="")
    purl = f"pkg:deb/{quote(distribution, safe='')}/{name}@{number}"
    purl += f"?{'&'.join(qualifiers)}" if qualifiers else ""
    entry: Entry = {
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
        "properties": [
            {"name": "modelport:deb:source", "value": f"{package.source} {package.source_version}"},
        ],
    }
    if package.maintainer:
        entry["supplier"] = {"name": package.maintainer.partition(" <")[0]}
    return entry


def _python_packages(packages: tuple[PythonPackage, ...]) -> list[Entry]:
    """One component for each name and version; every place in which it is installed is its evidence."""
    places: dict[str, list[PythonPackage]] = {}
    for package in packages:
        purl = f"pkg:pypi/{quote(normalised(package.name), safe='')}@{quote(package.version, safe='')}"
        places.setdefault(purl, []).append(package)
    return [_python_package(purl, found) for purl, found in places.items()]


def _python_package(purl: str, found: list[PythonPackage]) -> Entry:
    package = found[0]
    entry: Entry = {
        "type": "library",
        "bom-ref": purl,
        "name": normalised(package.name),
        "version": package.version,
        "purl": purl,
        "evidence": {"occurrences": [{"location": path} for path in sorted({one.path for one in found})]},
    }
    if licences := _licences(package):
        entry["licenses"] = licences
    return entry


def _licences(package: PythonPackage) -> list[Entry]:
    """As the package says: an SPDX expression (PEP 639), else its classifiers, else its free text."""
    if package.licence_expression:
        return [{"expression": package.licence_expression}]
    names = package.licence_classifiers or ((package.licence,) if package.licence else ())
    return [
        {"license": {"id": LICENCE_IDS[name]} if name in LICENCE_IDS else {"name": name}} for name in names
    ]


def _models(weights: tuple[WeightFile, ...], model: Model, source: SourceRevision) -> list[Entry]:
    """The model as one component, its weight files below it with their digests."""
    entry: Entry = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{model.name}",
        "name": model.name,
        "version": _version_of(model, source),
        "components": [_weight_file(file) for file in sorted(weights, key=lambda one: one.path)],
    }
    if model.description:
        entry["description"] = model.description
    return [entry]


def _weight_file(file: WeightFile) -> Entry:
    return {
        "type": "file",
        "bom-ref": f"weights:{file.path}",
        "name": file.path,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        "properties": [
            {"name": "modelport:weights:format", "value": file.format},
            {"name": "modelport:weights:size", "value": str(file.size)},
        ],
    }
