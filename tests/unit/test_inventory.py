"""The SBOM: valid CycloneDX 1.6, complete, and the same bytes for the same commit."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from pipelines.config import Model
from pipelines.scanners.contents import Contents, OsPackage, PythonPackage, WeightFile
from pipelines.source import SourceRevision
from pipelines.stages.inventory import listed

RELEASE = {"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"}
CONTENTS = Contents(
    os_release=RELEASE,
    os_packages=(
        OsPackage(
            "libstdc++6", "12.2.0-14+b1", "amd64", "gcc-12", "12.2.0-14", "Debian GCC <gcc@example.org>"
        ),
        OsPackage("adduser", "1:3.134", "all", "adduser", "1:3.134", ""),
    ),
    other_package_database="",
    python=(
        PythonPackage("Jinja2", "3.1", "/a/Jinja2.dist-info", "", "BSD", ("BSD License",), False),
        PythonPackage("numpy", "2.4", "/a/numpy.dist-info", "BSD-3-Clause AND MIT", "", (), False),
        PythonPackage("numpy", "2.4", "/b/numpy.dist-info", "BSD-3-Clause AND MIT", "", (), False),
        PythonPackage("typing.Extensions", "4", "/a/te", "", "", ("MIT License",), False),
    ),
    weights=(WeightFile("/opt/model.onnx", 3, "ba" * 32, "onnx"),),
    problems=(),
)
SOURCE = SourceRevision(
    commit="a" * 40,
    head_commit="a" * 40,
    committed_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    branch="main",
    version="1.2.0",
    remote="https://example.org/team/models",
    dirty=(),
    shallow=False,
    root=Path("/src"),
)


def model(**more: Any) -> Model:
    path = Path("/src/langid")
    return Model(
        **{"name": "langid", "version": "1.2.0", "directory": path, "file": path / "modelport.yaml"} | more
    )


def document(contents: Contents = CONTENTS) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(listed(contents, model(), SOURCE).sbom)
    return parsed


def component(ref: str) -> dict[str, Any]:
    return next(one for one in document()["components"] if one["bom-ref"] == ref)


def test_the_sbom_is_valid_by_the_schema_of_cyclonedx() -> None:
    full = model(description="Which language is it?", license="BSD-3-Clause OR MIT")
    for made in (listed(CONTENTS, full, SOURCE), listed(replace(CONTENTS, os_release={}), model(), SOURCE)):
        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(made.sbom.decode())
        assert error is None, str(error)[:400]


def test_the_same_commit_gives_the_same_bytes_and_another_one_does_not() -> None:
    made = listed(CONTENTS, model(), SOURCE)
    assert made.sbom == listed(CONTENTS, model(), SOURCE).sbom
    other = listed(replace(CONTENTS, weights=()), model(), SOURCE)
    assert json.loads(other.sbom)["serialNumber"] != json.loads(made.sbom)["serialNumber"]
    assert json.loads(made.sbom)["metadata"]["timestamp"] == "2026-01-02T03:04:05Z"


def test_every_package_is_there_once_with_its_purl() -> None:
    made = listed(CONTENTS, model(), SOURCE)
    assert made.components == len(document()["components"]) == 7
    assert made.summary() == "7 components"
    purls = {one["purl"] for one in document()["components"] if "purl" in one}
    assert purls == {
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bb1?arch=amd64&distro=debian-12",
        "pkg:deb/debian/adduser@1%3A3.134?arch=all&distro=debian-12",
        "pkg:pypi/jinja2@3.1",
        "pkg:pypi/numpy@2.4",
        "pkg:pypi/typing-extensions@4",
    }
    places = component("pkg:pypi/numpy@2.4")["evidence"]["occurrences"]
    assert [one["location"] for one in places] == ["/a/numpy.dist-info", "/b/numpy.dist-info"]


def test_licences_are_spdx_only_where_the_package_says_so() -> None:
    assert component("pkg:pypi/numpy@2.4")["licenses"] == [{"expression": "BSD-3-Clause AND MIT"}]
    assert component("pkg:pypi/jinja2@3.1")["licenses"] == [{"license": {"name": "BSD License"}}]
    assert component("pkg:pypi/typing-extensions@4")["licenses"] == [{"expression": "MIT"}]


def test_the_model_is_a_component_with_its_weights_and_their_digests() -> None:
    entry = component("model:langid")
    assert (entry["type"], entry["version"]) == ("machine-learning-model", "1.2.0")
    (weights,) = entry["components"]
    assert weights["name"] == "/opt/model.onnx"
    assert weights["hashes"] == [{"alg": "SHA-256", "content": "ba" * 32}]


def test_the_image_leads_back_to_its_commit() -> None:
    image = document()["metadata"]["component"]
    assert image["purl"] == (
        f"pkg:generic/langid@1.2.0?vcs_url=git%2Bhttps://example.org/team/models%40{SOURCE.commit}"
    )
    assert {"name": "modelport:source:revision", "value": SOURCE.commit} in image["properties"]


def test_what_could_not_be_read_makes_it_incomplete_aloud() -> None:
    made = listed(replace(CONTENTS, other_package_database="apk"), model(), SOURCE)
    assert made.summary() == "7 components, incomplete: the apk package database is not read"
    assert json.loads(made.sbom)["compositions"][0]["aggregate"] == "incomplete"
    assert document()["compositions"][0]["aggregate"] == "complete"
