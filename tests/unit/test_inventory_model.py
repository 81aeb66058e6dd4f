"""The model in the SBOM: weight files with shape, origin and licence; training run; SPDX of the same."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from official_schemas import hold_spdx
from sboms import contents, python, revision

from pipelines.config import Model, load
from pipelines.errors import ConfigError
from pipelines.inventory_model import model_component
from pipelines.scanners.contents import OsPackage, WeightFile
from pipelines.spdx import spdx_document
from pipelines.stages.inventory import listed
from pipelines.weight_pointers import Pointers, has_dvc, pointers

REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
SHA256 = "ba" * 32
FACTS = {"tensors": 2, "parameters": 605, "dtypes": ["float32", "int64"], "opset": 17}
WEIGHTS = WeightFile("/app/onnx/model.onnx", 3, SHA256, "onnx", facts=FACTS)


def model(**more: Any) -> Model:
    path = Path("/src/langid")
    return Model(name="langid", version="1.2.0", directory=path, file=path / "modelport.yaml", **more)


def weights_part(
    file: WeightFile = WEIGHTS, told: Pointers | None = None, one: Model | None = None
) -> dict[str, Any]:
    (part,) = model_component(one or model(), "1.2.0", [file], told)["components"]
    parsed: dict[str, Any] = part
    return parsed


def properties(part: dict[str, Any]) -> dict[str, str]:
    return {one["name"].removeprefix("modelport:"): one["value"] for one in part["properties"]}


def test_a_weight_file_tells_its_shape() -> None:
    assert properties(weights_part()) == {
        "weights:format": "onnx",
        "weights:size": "3",
        "weights:tensors": "2",
        "weights:parameters": "605",
        "weights:dtypes": "float32, int64",
        "weights:opset": "17",
    }


def test_what_the_hub_left_in_the_image_is_its_source() -> None:
    part = weights_part(replace(WEIGHTS, hub={"repository": "org/name", "revision": REVISION}))
    assert part["purl"] == f"pkg:huggingface/org/name@{REVISION}"
    assert part["externalReferences"][0]["url"] == f"https://huggingface.co/org/name/tree/{REVISION}"
    assert properties(part)["weights:source:hub"] == f"org/name@{REVISION}"


def test_what_the_configuration_says_counts_for_the_first_glob_that_fits() -> None:
    origins = (
        {"files": "**/model.onnx", "source": "hf://org/name@v1.0", "license": "apache-2.0"},
        {"files": "*.onnx", "license": "MIT"},
    )
    one = model(license="BSD-3-Clause", inventory={"weights": origins})
    part = weights_part(one=one)
    assert part["purl"] == "pkg:huggingface/org/name@v1.0"
    assert part["licenses"] == [{"expression": "Apache-2.0"}]
    assert model_component(one, "1", [WEIGHTS])["licenses"] == [{"expression": "Apache-2.0"}]
    assert model_component(model(license="MIT"), "1", [WEIGHTS])["licenses"] == [{"expression": "MIT"}]


def test_a_pinned_package_is_the_source_of_the_files_that_it_is_verified_by() -> None:
    build = {"python": {"weights": [{"pip": "name==0.1.0", "sha256": {"**/model.onnx": SHA256}}]}}
    assert properties(weights_part(one=model(build=build)))["weights:source:build"] == "name==0.1.0"


def test_the_checkouts_pointers_count_by_content_alone() -> None:
    told = Pointers({"ab" * 16: "model.onnx.dvc (model.onnx)"}, {SHA256: "model.onnx"}, {SHA256: REVISION})
    found = properties(weights_part(replace(WEIGHTS, md5="ab" * 16), told))
    assert found["weights:source:dvc"] == f"model.onnx.dvc (model.onnx) md5:{'ab' * 16}"
    assert found["weights:source:git-lfs"] == f"model.onnx sha256:{SHA256}"
    assert found["weights:source:hub"] == REVISION
    other = properties(weights_part(replace(WEIGHTS, md5="cd" * 16, sha256="cd" * 32), told))
    assert not [name for name in other if "source" in name]


def test_model_card_and_training_run() -> None:
    card = {"task": "fill-mask", "family": "bert", "architecture": "BertModel", "licence": "apache-2.0"}
    training = {"run": "https://mlflow.example/runs/4f2c", "id": "4f2c", "data": ["wikipedia-2025"]}
    entry = model_component(model(training=training), "1", [replace(WEIGHTS, card=card)])
    assert entry["modelCard"]["modelParameters"] == {
        "task": "fill-mask",
        "architectureFamily": "bert",
        "modelArchitecture": "BertModel",
        "datasets": [{"type": "dataset", "name": "wikipedia-2025"}],
    }
    assert entry["licenses"] == [{"expression": "Apache-2.0"}]
    assert properties(entry) == {"training:run": training["run"], "training:id": "4f2c"}
    assert entry["externalReferences"][0]["url"] == training["run"]
    own = model(inventory={"task": "text-classification"})
    entry = model_component(own, "1", [replace(WEIGHTS, card=card)])
    assert entry["modelCard"]["modelParameters"]["task"] == "text-classification"
    assert "modelCard" not in model_component(model(), "1", [WEIGHTS])


def full() -> bytes:
    """An SBOM with everything in it."""
    card = {"task": "fill-mask", "architecture": "BertModel", "licence": "openrail"}
    file = replace(WEIGHTS, card=card, hub={"repository": "org/name", "revision": REVISION})
    packages = (
        OsPackage("libc6", "2.36-9", "amd64", "glibc", "2.36-9", "Debian <d@example>", "deb", ("GPL-2+",)),
        OsPackage("musl", "1.2.4-r2", "x86_64", "musl", "1.2.4-r2", "", "apk", ("MIT",)),
        OsPackage("bash", "1:5.2-1", "x86_64", "bash", "1:5.2-1", "Fedora", "rpm", ("GPLv3+",)),
    )
    found = replace(contents(python({"jinja2": "3.1"}), (file,)), os_packages=packages)
    training = {"run": "mlflow://experiments/1", "data": ["a", "b"]}
    one = model(license="MIT", description="d", training=training, inventory={"spdx": True})
    made = listed(found, one, revision(), Pointers({}, {SHA256: "model.onnx"}))
    assert made.spdx == spdx_document(made.sbom)
    return made.sbom


def test_the_whole_is_valid_by_the_schema_of_cyclonedx() -> None:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(full().decode())
    assert error is None, str(error)[:600]
    assert full() == full()


def test_packages_have_the_purl_of_their_manager() -> None:
    purls = {one["purl"] for one in json.loads(full())["components"] if "purl" in one}
    assert purls >= {
        "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12",
        "pkg:apk/debian/musl@1.2.4-r2?arch=x86_64&distro=debian-12",
        "pkg:rpm/debian/bash@5.2-1?arch=x86_64&distro=debian-12&epoch=1",
    }


def test_a_version_tag_makes_no_other_document_of_the_same_commit() -> None:
    tagged = replace(revision(), tags=("v1.3.0",), version="1.3.0")
    assert listed(contents(), model(), tagged).sbom == listed(contents(), model(), revision()).sbom


def test_spdx_has_each_component_once_and_is_related() -> None:
    document = hold_spdx(spdx_document(full()))
    assert (document["spdxVersion"], document["dataLicense"]) == ("SPDX-2.3", "CC0-1.0")
    ids = [one["SPDXID"] for one in document["packages"]]
    told = json.loads(full())["components"]
    assert len(ids) == len(set(ids)) == 1 + len(told) + 1, "the image, the components, the weight file"
    assert all(
        set(one) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") for one in ids
    )
    assert {one["relatedSpdxElement"] for one in document["relationships"]} == set(ids)
    weights = next(one for one in document["packages"] if one["name"] == WEIGHTS.path)
    assert weights["checksums"] == [{"algorithm": "SHA256", "checksumValue": SHA256}]
    assert weights["downloadLocation"] == f"https://huggingface.co/org/name/tree/{REVISION}"
    assert "licence=openrail" in weights["comment"]
    assert weights["licenseDeclared"] == "NOASSERTION"
    assert spdx_document(full()) == spdx_document(full())


def test_a_name_that_no_list_has_is_an_extracted_licence() -> None:
    package = OsPackage("x", "1", "", "x", "1", "", "deb", ("LicenseRef-own",))
    made = listed(replace(contents(), os_packages=(package,)), model(), revision())
    document = hold_spdx(spdx_document(made.sbom))
    declared = {one["licenseDeclared"] for one in document["packages"]} - {"NOASSERTION"}
    assert {one["licenseId"] for one in document["hasExtractedLicensingInfos"]} == declared


def test_documents_are_kept_in_the_runs_directory(tmp_path: Path) -> None:
    made = listed(contents(), model(inventory={"spdx": True}), revision())
    assert [file.name for file in made.write(tmp_path)] == ["sbom.cdx.json", "sbom.spdx.json"]
    assert (tmp_path / "sbom.cdx.json").read_bytes() == made.sbom
    plain = listed(contents(), model(), revision())
    assert [file.name for file in plain.write(tmp_path)] == ["sbom.cdx.json"]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("training: {}\n", 'training needs a "run" or an "id"'),
        ("inventory: {weights: [{files: x, license: nonsense}]}\n", '"nonsense" is not an SPDX licence'),
    ],
)
def test_what_is_wrong_in_the_configuration_is_told_with_its_line(
    tmp_path: Path, section: str, said: str
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "modelport.yaml").write_text(f"name: m\n{section}")
    with pytest.raises(ConfigError, match=r"modelport\.yaml:2") as caught:
        load(tmp_path / "modelport.yaml", {})
    assert said in str(caught.value)


@pytest.mark.anyio
async def test_dvc_files_locks_and_directories_are_read(tmp_path: Path) -> None:
    assert not has_dvc(tmp_path)
    (tmp_path / "a.onnx.dvc").write_text(f"outs:\n- md5: {'aa' * 16}\n  size: 3\n  path: a.onnx\n")
    outputs = [{"path": "b.onnx", "md5": "bb" * 16}, {"path": "d", "md5": f"{'dd' * 16}.dir"}]
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": {"train": {"outs": outputs}}}))  # JSON is YAML
    cache = tmp_path / ".dvc" / "cache" / "files" / "md5" / "dd"
    cache.mkdir(parents=True)
    (cache / f"{'dd' * 15}.dir").write_text(json.dumps([{"md5": "cc" * 16, "relpath": "c.onnx"}]))
    (tmp_path / "broken.dvc").write_text("outs: [")
    assert has_dvc(tmp_path)
    assert (await pointers(tmp_path, {})).dvc == {
        "aa" * 16: "a.onnx.dvc (a.onnx)",
        "bb" * 16: "dvc.lock (b.onnx)",
        "cc" * 16: "dvc.lock (d/c.onnx)",
    }


@pytest.fixture
def with_lfs(tmp_path: Path) -> Path:
    """A repository with a pointer in the index and the real file in the tree."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize 3\n"
    (tmp_path / "weights.onnx").write_text(pointer)
    (tmp_path / "plain.txt").write_text(pointer)
    git = ["git", "-C", str(tmp_path), "-c", "filter.lfs.clean=cat", "-c", "filter.lfs.smudge=cat"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / ".gitattributes").write_text("*.onnx filter=lfs -text\n")
    subprocess.run([*git, "add", "."], check=True)
    (tmp_path / "weights.onnx").write_bytes(b"abc")
    return tmp_path


@pytest.mark.anyio
async def test_pointers_of_git_lfs_are_read_from_the_commit_not_from_the_files(with_lfs: Path) -> None:
    assert (await pointers(with_lfs, dict(os.environ))).lfs == {SHA256: "weights.onnx"}
    (with_lfs / ".gitattributes").write_text("")
    assert (await pointers(with_lfs, dict(os.environ))).lfs == {}


@pytest.mark.anyio
async def test_a_download_of_the_hub_is_noted_with_its_digest(tmp_path: Path) -> None:
    notes = tmp_path / "weights" / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "model.onnx.metadata").write_text(f"{REVISION}\n{SHA256}\n1700000000.0\n")
    (notes / "config.json.metadata").write_text(f"{REVISION}\n{'0' * 40}\n1700000000.0\n")
    assert (await pointers(tmp_path, {})).hub == {SHA256: REVISION}
