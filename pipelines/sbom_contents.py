"""A stored SBOM of ours, read back: the packages of an image without the image (CycloneDX 1.6)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from pipelines.scanners.contents import Contents, OsPackage, PythonPackage
from pipelines.scanners.licences import Licensed
from pipelines.scanners.port import CouldNotLookError

Entry = Mapping[str, Any]
"""A part of the document. Any: JSON from a registry; what isn't as it should be raises CouldNotLookError."""

DEBIAN = "modelport:python:debian"
DEBIAN_PLACE = "/usr/lib/python3/dist-packages/"
OS_KINDS = ("deb", "apk", "rpm")


@dataclass(frozen=True, slots=True)
class StoredInventory:
    """What an SBOM says that can be judged again."""

    contents: Contents
    licensed: tuple[Licensed, ...]
    timestamp: str
    """The commit's time (RFC 3339): the order of releases."""


def stored_inventory(documents: Sequence[bytes]) -> StoredInventory:
    """What ``documents`` on one image say together: who may push could add one, and none hides a package.

    Raises:
        CouldNotLookError: one of them is no CycloneDX document.
    """
    if not documents:
        raise CouldNotLookError("no SBOM is recorded of it")
    try:
        read = [_read(document) for document in documents]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as err:
        raise CouldNotLookError(f"its SBOM can't be read: {type(err).__name__}: {err}"[:200]) from err
    first, *others = read
    for other in others:
        contents = Contents(
            os_release=first.contents.os_release or other.contents.os_release,
            os_packages=tuple(dict.fromkeys((*first.contents.os_packages, *other.contents.os_packages))),
            other_package_database="",
            python=tuple(dict.fromkeys((*first.contents.python, *other.contents.python))),
            weights=(),
            problems=tuple(dict.fromkeys((*first.contents.problems, *other.contents.problems))),
        )
        licensed = tuple(dict.fromkeys((*first.licensed, *other.licensed)))
        first = StoredInventory(contents, licensed, max(first.timestamp, other.timestamp))
    return first


def _read(document: bytes) -> StoredInventory:
    told = json.loads(document)
    if told["bomFormat"] != "CycloneDX":
        raise ValueError("it is not CycloneDX")
    components: list[Entry] = told["components"]
    aggregates = {one["aggregate"] for one in told.get("compositions", ())}
    contents = Contents(
        os_release=_os_release(components),
        os_packages=tuple(_os_packages(components)),
        other_package_database="",
        python=tuple(_python_packages(components)),
        weights=(),
        problems=() if aggregates == {"complete"} else ("its SBOM does not say that it is complete",),
    )
    return StoredInventory(
        contents,
        tuple(_licensed([told["metadata"]["component"], *components])),
        str(told["metadata"].get("timestamp", "")),
    )


def _os_release(components: Sequence[Entry]) -> dict[str, str]:
    for one in components:
        if one["type"] == "operating-system":
            return {
                "ID": str(one["name"]),
                "VERSION_ID": str(one.get("version", "")),
                "PRETTY_NAME": str(one.get("description", one["name"])),
            }
    return {}


def _os_packages(components: Sequence[Entry]) -> Iterator[OsPackage]:
    for one in components:
        kind = _kind(one)
        if kind not in OS_KINDS:
            continue
        name, version = str(one["name"]), str(one["version"])
        source, _, source_version = _property(one, f"modelport:{kind}:source").rpartition(" ")
        yield OsPackage(
            name=name,
            version=version,
            architecture="",
            source=source or name,
            source_version=source_version or version,
            maintainer="",
            kind=kind,
        )


def _python_packages(components: Sequence[Entry]) -> Iterator[PythonPackage]:
    for one in components:
        if _kind(one) != "pypi":
            continue
        places = [str(place["location"]) for place in one.get("evidence", {}).get("occurrences", ())]
        by_debian = _property(one, DEBIAN) == "true" or (
            bool(places) and all(place.startswith(DEBIAN_PLACE) for place in places)
        )
        yield PythonPackage(
            name=str(one["name"]),
            version=str(one["version"]),
            path=places[0] if places else "",
            licence_expression="",
            licence="",
            licence_classifiers=(),
            debian=by_debian,
        )


def _licensed(components: Sequence[Entry]) -> Iterator[Licensed]:
    """What the SBOM declares, for the policy on licences."""
    from pipelines.scanners.licence_names import from_expression, from_names, joined  # noqa: PLC0415  700 names

    for one in components:
        kind = _kind(one)
        if kind == "pypi":
            told = "python"
        elif kind in OS_KINDS:
            told = "os"
        elif one["type"] == "container":  # the image: what the release says of itself
            told = "model"
        else:
            continue
        if told == "python" and _property(one, DEBIAN) == "true":
            continue
        said = [_said(licence) for licence in one.get("licenses", ())]
        expression = joined([text if from_expression(text) else from_names(text) for text in said])
        yield Licensed(
            told, str(one["name"]), str(one.get("version", "")), expression, ", ".join(said), "its SBOM"
        )


def _said(licence: Entry) -> str:
    inner = licence.get("license", {})
    return str(licence.get("expression") or inner.get("id") or inner.get("name") or "")


def _kind(component: Entry) -> str:
    """The type of its package URL; "" where it has none."""
    purl = unquote(str(component.get("purl", "")))
    return purl.removeprefix("pkg:").partition("/")[0] if purl.startswith("pkg:") else ""


def _property(component: Entry, name: str) -> str:
    found = [one for one in component.get("properties", ()) if one.get("name") == name]
    return str(found[0].get("value", "")) if found else ""
