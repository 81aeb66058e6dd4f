"""The SBOM as SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3/), made from the CycloneDX document. Pure.

Each component is a package with the same name, version, purl and licence; a weight file is a package with its
digest and format, for SPDX's files are those of a package's own archive.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

Entry = dict[str, Any]
"""A part of a document. Any: JSON."""

VERSION: Final = "SPDX-2.3"
NONE: Final = "NOASSERTION"
PURPOSES: Final = {
    "container": "CONTAINER",
    "operating-system": "OPERATING_SYSTEM",
    "library": "LIBRARY",
    "file": "FILE",
    "machine-learning-model": "OTHER",
}


def spdx_document(cyclonedx: bytes) -> bytes:
    """The same inventory as SPDX JSON; the same bytes for the same document."""
    told = json.loads(cyclonedx)
    image = told["metadata"]["component"]
    references = _References()
    root = references.of("image")
    packages = [_package(image, references)]
    relations = [_relation("SPDXRef-DOCUMENT", "DESCRIBES", root)]
    for parent, component in _components(told):
        packages.append(_package(component, references))
        relations.append(_relation(references.of(parent), "CONTAINS", references.of(component["bom-ref"])))
    document: Entry = {
        "spdxVersion": VERSION,
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{image['name']}-{image['version']}",
        # Section 6.5: unique for each document; it is no address, and one document has one name.
        "documentNamespace": f"urn:modelport:spdx:{hashlib.sha256(cyclonedx).hexdigest()}",
        "creationInfo": _creation(told["metadata"]),
        "packages": packages,
        "relationships": relations,
    }
    if extracted := _extracted(packages):
        document["hasExtractedLicensingInfos"] = extracted
    if any(one.get("aggregate") != "complete" for one in told.get("compositions", ())):
        document["comment"] = "incomplete: part of the image could not be read"
    return f"{json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)}\n".encode()


def _components(document: Mapping[str, Any]) -> Iterator[tuple[str, Entry]]:
    for one in document["components"]:
        yield "image", one
        for part in one.get("components", ()):
            yield one["bom-ref"], part


class _References:
    """SPDX ids of CycloneDX references: letters, digits, "." and "-" only (section 3.2), each once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, reference: str) -> str:
        if reference not in self._known:
            name = "SPDXRef-" + re.sub(r"[^A-Za-z0-9.]+", "-", reference).strip("-")
            if name in self._taken:
                name += f"-{hashlib.sha256(reference.encode()).hexdigest()[:8]}"
            self._taken.add(name)
            self._known[reference] = name
        return self._known[reference]


def _package(component: Entry, references: _References) -> Entry:
    hashes = component.get("hashes", ())
    entry: Entry = {
        "SPDXID": references.of(component["bom-ref"]),
        "name": component["name"],
        "downloadLocation": _location(component),
        "filesAnalyzed": False,
        "licenseConcluded": NONE,
        "licenseDeclared": _declared(component),
        "copyrightText": NONE,
        "primaryPackagePurpose": PURPOSES.get(component["type"], "OTHER"),
        "supplier": f"Organization: {component['supplier']['name']}" if "supplier" in component else NONE,
    }
    if version := component.get("version"):
        entry["versionInfo"] = version
    if hashes:
        entry["checksums"] = [
            {"algorithm": one["alg"].replace("-", ""), "checksumValue": one["content"]} for one in hashes
        ]
    if purl := component.get("purl"):
        entry["externalRefs"] = [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl,
            }
        ]
    if description := component.get("description"):
        entry["description"] = description
    said = [f"{one['name']}={one['value']}" for one in component.get("properties", ())]
    said += [f"licence={one}" for one in _names(component)]
    if said:
        entry["comment"] = "\n".join(said)
    return entry


def _location(component: Entry) -> str:
    found = [one["url"] for one in component.get("externalReferences", ()) if one["type"] == "distribution"]
    return str(found[0]) if found and re.match(r"https?://", found[0]) else NONE


def _declared(component: Entry) -> str:
    """An SPDX expression, where all that is declared is one; names of licences are told in the comment."""
    told = component.get("licenses", ())
    ids = [one.get("expression") or one.get("license", {}).get("id") for one in told]
    if not ids or not all(ids):
        return NONE
    return str(ids[0]) if len(ids) == 1 else " AND ".join(_one(one) for one in ids)


def _one(expression: str) -> str:
    return f"({expression})" if " " in expression else expression


def _names(component: Entry) -> list[str]:
    told = [one.get("license", {}).get("name") for one in component.get("licenses", ())]
    return [name for name in told if name]


def _extracted(packages: list[Entry]) -> list[Entry]:
    """Section 10: every LicenseRef that is used has to be told; its text is in the package's own files."""
    declared = " ".join(package["licenseDeclared"] for package in packages)
    used = set(re.findall(r"LicenseRef-[A-Za-z0-9.-]+", declared))
    return [
        {"licenseId": one, "extractedText": f"See the copyright file of the packages that declare {one}."}
        for one in sorted(used)
    ]


def _creation(metadata: Mapping[str, Any]) -> Entry:
    tools = metadata["tools"]["components"]
    return {
        "created": metadata["timestamp"],
        "creators": [f"Tool: {one['name']}-{one['version']}" for one in tools],
    }


def _relation(one: str, kind: str, other: str) -> Entry:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
