"""The inventory stage: what is in the image, as a CycloneDX 1.6 SBOM that is the same for the same commit.

Written as plain JSON after https://cyclonedx.org/docs/1.6/json/ : the document is small, and the library for
it takes longer to import than the whole stage when nothing changed. The tests hold it to its schema.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from pipelines.config import Model
from pipelines.errors import PipelineError
from pipelines.inventory_model import model_component
from pipelines.inventory_version import compared_weights
from pipelines.scanners.contents import Contents, OsPackage, PythonPackage
from pipelines.scanners.licences import os_expression, python_expression
from pipelines.scanners.osv_source import normalised
from pipelines.scanners.port import CouldNotLookError
from pipelines.scanners.view import EngineView
from pipelines.source import SourceRevision
from pipelines.spdx import spdx_document
from pipelines.values import JSON
from pipelines.weight_pointers import Pointers, pointers

if TYPE_CHECKING:
    import dagger

    from pipelines.published import PublishedSource

SPEC = "1.6"
Entry = dict[str, Any]
"""A part of the document. Any: JSON on its way out."""

DEBIAN = "modelport:python:debian"
"""A Debian package brought it, and patches it under an unchanged version."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The SBOM and what it counts."""

    sbom: bytes
    components: int
    problems: tuple[str, ...] = ()
    """What of the image could not be read; the SBOM says then that it is incomplete."""
    spdx: bytes | None = None
    """The same as SPDX 2.3, where the configuration asks for it."""
    compared: str = ""
    """Against which published version the weights were held, or why against none."""

    def summary(self) -> str:
        """The number of components."""
        incomplete = f", incomplete: {self.problems[0]}" if self.problems else ""
        compared = f" · {self.compared}" if self.compared else ""
        return f"{self.components} components{incomplete}{compared}"

    def write(self, directory: Path) -> tuple[Path, ...]:
        """Keep the documents in a run's directory: ``sbom.cdx.json``, also ``sbom.spdx.json``."""
        written = [directory / "sbom.cdx.json"]
        written[0].write_bytes(self.sbom)
        if self.spdx is not None:
            written.append(directory / "sbom.spdx.json")
            written[1].write_bytes(self.spdx)
        return tuple(written)

    def to_json(self) -> dict[str, JSON]:
        """For the record: the digest, by which the SBOM is known wherever it is attached."""
        return {
            "components": self.components,
            "format": f"CycloneDX {SPEC}",
            "sha256": sha256(self.sbom).hexdigest(),
            "size": len(self.sbom),
            "problems": list(self.problems),
            "spdx_sha256": sha256(self.spdx).hexdigest() if self.spdx is not None else None,
            "weights_compared": self.compared or None,
        }


async def inventory(
    image: dagger.Container, model: Model, source: SourceRevision, published: PublishedSource | None = None
) -> Inventory:
    """What is in the built image, from the same look into it as the scan of Python packages takes.

    ``published`` is asked for only where the configuration or a tag gives an explicit version.

    Raises:
        VersionUnchanged: the weights are others than those published under the same version.
        PipelineError: the image could not be looked into.
    """
    told = await pointers(model.directory, os.environ)
    try:
        contents = await EngineView(image, model).contents()
    except CouldNotLookError as err:
        raise PipelineError(
            f"no inventory of {model.name}: {err}", hint="the run's engine.log has the step's whole output"
        ) from err
    made = listed(contents, model, source, told)
    compared = await compared_weights(contents.weights, model, source, published)
    return replace(made, compared=compared)


def listed(
    contents: Contents, model: Model, source: SourceRevision, told: Pointers | None = None
) -> Inventory:
    """The SBOM of ``contents``, with what the checkout tells. Same contents, same commit: the same bytes."""
    components = [
        *_operating_system(contents),
        *(_os_package(package, contents.os_release) for package in contents.os_packages),
        *_python_packages(contents.python),
        model_component(model, _version_of(model, source), contents.weights, told),
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
    sbom = f"{text}\n".encode()
    spdx = spdx_document(sbom) if model.inventory.spdx else None
    return Inventory(sbom, len(components), problems, spdx=spdx)


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
    """As the image's label has it: a tag that is set later makes no other document of the same commit."""
    return model.version or source.commit


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
    """By purl's types "deb", "apk" and "rpm"; rpm's epoch is a qualifier there."""
    distribution = release.get("ID", "debian")
    qualifiers = [f"arch={quote(package.architecture, safe='')}"] if package.architecture else []
    if number := release.get("VERSION_ID"):
        qualifiers.append(f"distro={quote(f'{distribution}-{number}', safe='')}")
    told = package.version
    if package.kind == "rpm" and ":" in told:
        epoch, _, told = told.partition(":")
        qualifiers.append(f"epoch={epoch}")
    name, number = quote(package.name, safe=""), quote(told, safe="")
    purl = f"pkg:{package.kind}/{quote(distribution, safe='')}/{name}@{number}"
    purl += f"?{'&'.join(qualifiers)}" if qualifiers else ""
    entry: Entry = {
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
        "properties": [
            {
                "name": f"modelport:{package.kind}:source",
                "value": f"{package.source} {package.source_version}",
            },
        ],
    }
    if package.maintainer:
        entry["supplier"] = {"name": package.maintainer.partition(" <")[0]}
    if expression := os_expression(package):
        entry["licenses"] = [{"expression": expression}]
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
    if all(one.debian for one in found):
        entry["properties"] = [{"name": DEBIAN, "value": "true"}]
    return entry


def _licences(package: PythonPackage) -> list[Entry]:
    """An SPDX expression where it says one, as the scanner of licences reads it; else its own words."""
    if expression := python_expression(package):
        return [{"expression": expression}]
    names = package.licence_classifiers or ((package.licence,) if package.licence else ())
    return [{"license": {"name": name}} for name in names]
