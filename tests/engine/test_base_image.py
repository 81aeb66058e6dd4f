"""The stand-in for python:3.11-slim behaves like the real one, and nothing of this machine is in it."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import base_image

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def layout() -> Path:
    if base_image.made() is None and shutil.which("mmdebstrap") is None:
        pytest.skip("needs mmdebstrap, or a base image made earlier")
    return base_image.ensure()


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


@pytest.fixture(scope="module")
def manifest(layout: Path) -> dict[str, object]:
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    return dict(json.loads(blob(layout, entry["digest"]).read_text()))


@pytest.fixture(scope="module")
def tar(layout: Path, manifest: dict[str, object]) -> Iterator[tarfile.TarFile]:
    (layer,) = manifest["layers"]  # type: ignore[misc]
    with tarfile.open(blob(layout, layer["digest"])) as opened:
        yield opened


@pytest.fixture(scope="module")
def names(tar: tarfile.TarFile) -> set[str]:
    return {name.removeprefix("./") for name in tar.getnames()}


def text(tar: tarfile.TarFile, name: str) -> str:
    file = tar.extractfile(f"./{name}")
    assert file is not None
    return file.read().decode()


def test_python_and_pip_are_on_the_path(names: set[str]) -> None:
    assert {"usr/bin/python", "usr/bin/python3", "usr/bin/python3.11", "usr/bin/pip"} <= names
    assert not [name for name in names if name.endswith("EXTERNALLY-MANAGED")]


def test_the_package_sources_are_debians_three_suites(tar: tarfile.TarFile, names: set[str]) -> None:
    sources = text(tar, "etc/apt/sources.list.d/debian.sources")
    assert "Suites: bookworm bookworm-updates\n" in sources
    assert "Suites: bookworm-security\n" in sources
    assert "etc/apt/sources.list" not in names


def test_nothing_of_this_machine_is_in_it(tar: tarfile.TarFile, names: set[str]) -> None:
    own = {file.name for file in Path("/usr/local/share/ca-certificates").rglob("*.crt")}
    assert not [name for name in names if Path(name).name in own | {Path(one).stem + ".pem" for one in own}]
    found = {"etc/resolv.conf", "etc/hostname", "etc/pip.conf", "etc/apt/apt.conf", "root/.cache"} & names
    assert not found
    packaged = {"01autoremove", "70debconf", "docker-clean", "docker-no-languages"}
    settings = {name for name in names if name.startswith("etc/apt/apt.conf.d/")}
    assert {Path(name).name for name in settings} - {"apt.conf.d"} <= packaged


def test_no_file_is_younger_than_the_release(tar: tarfile.TarFile) -> None:
    assert max(member.mtime for member in tar.getmembers()) <= base_image.EPOCH


def test_the_configuration_is_that_of_a_python_image(layout: Path, manifest: dict[str, object]) -> None:
    config = json.loads(blob(layout, manifest["config"]["digest"]).read_text())  # type: ignore[index]
    assert config["config"]["Cmd"] == ["python3"]
    path = dict(pair.split("=", 1) for pair in config["config"]["Env"])["PATH"]
    assert path.startswith("/usr/local/bin:")
