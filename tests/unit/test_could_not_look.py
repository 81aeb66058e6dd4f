"""Every scanner with its source cut says "could not look", and none of them "no findings"."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from pipelines.config import DockerfileBuild, Model
from pipelines.config_scan import ScannerName, ScanPolicy
from pipelines.scanners import dockerfile
from pipelines.scanners.contents import Contents, OsPackage, PythonPackage
from pipelines.scanners.osv_source import OsvService
from pipelines.scanners.port import CouldNotLookError, Scanner, ScannerResult, Tool
from pipelines.scanners.python_packages import PythonPackages
from pipelines.scanners.selection import scanners_of
from pipelines.stages.scan import decided, look

pytestmark = pytest.mark.anyio
PINNED = f"registry.example/tool@sha256:{'a' * 64}"
BLOCK = dict.fromkeys(get_args(ScannerName), "block")
ALPINE = {"ID": "alpine", "VERSION_ID": "3.20.1", "PRETTY_NAME": "Alpine Linux v3.20"}
MUSL = OsPackage("musl", "1.2.5-r0", "x86_64", "musl", "1.2.5-r0", "", "apk")
JINJA = PythonPackage("jinja2", "2.10", "/x/jinja2-2.10.dist-info", "", "", (), debian=False)


class CutView:
    """An image of which nothing can be seen; a test puts back what it doesn't cut."""

    def __init__(self, told: Mapping[str, Any] | None = None, contents: Contents | None = None) -> None:
        self.told = told or {}
        self.inside = contents

    async def run(
        self, program: str, *arguments: str, env: Mapping[str, str] | None = None, network: str = ""
    ) -> dict[str, Any]:
        if program in self.told:
            return dict(self.told[program])
        raise CouldNotLookError(f"{program} failed: cut")

    async def run_tool(self, tool: Tool) -> str:
        raise CouldNotLookError("the tool failed: cut")

    async def contents(self) -> Contents:
        if self.inside is None:
            raise CouldNotLookError("collect failed: cut")
        return self.inside

    async def layers(self) -> Any:
        raise CouldNotLookError("the image's export failed: cut")

    exported = layers

    async def environment(self) -> dict[str, str]:
        return {}


def model(directory: Path, **policy: Any) -> Model:
    """With every scanner on, and nobody's silence taken."""
    (directory / "Dockerfile").write_text("FROM scratch\n")
    others = {"image": PINNED, "database": "nowhere"}
    section = {"could_not_look": BLOCK, "trivy": others, "grype": others, **policy}
    return Model(
        name="m",
        directory=directory,
        file=directory / "modelport.yaml",
        build=DockerfileBuild(),
        scan=ScanPolicy.model_validate(section),
    )


def scanner(own: Model, name: ScannerName) -> Scanner:
    return next(one for one in scanners_of(own) if one.name == name)


async def cut(own: Model, name: ScannerName, view: CutView) -> ScannerResult:
    """The scanner's result; that it blocks is held for all of them."""
    (result,) = await look(view, [scanner(own, name)], own.scan)
    assert not result.audited
    assert result.reason
    report = decided([result], own.scan, datetime.now(UTC).date())
    assert report.verdict.blocks
    assert f"not audited ({result.reason}" in report.summary()
    return result


def test_every_scanner_is_among_those_that_are_cut(tmp_path: Path) -> None:
    assert {one.name for one in scanners_of(model(tmp_path))} == set(get_args(ScannerName))


@pytest.mark.parametrize("name", get_args(ScannerName))
async def test_an_image_that_can_not_be_seen_is_never_clean(
    name: ScannerName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dockerfile, "installed", lambda: None)  # it reads no image: its linter is cut
    result = await cut(model(tmp_path), name, CutView())
    assert {"dockerfile": "hadolint is not installed", "grype": "no grype database"}.get(name, "cut") in (
        result.reason
    )


async def test_debians_archive_out_of_reach(tmp_path: Path) -> None:
    told = {"apt_updates": {"could_not_look": "apt-get update: Failed to fetch http://deb.debian.org"}}
    result = await cut(model(tmp_path), "os_packages", CutView(told))
    assert "Failed to fetch" in result.reason


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (Contents(ALPINE, (MUSL,), "", (), (), ()), "there is no OSV zip"),
        (Contents({"ID": "void", "PRETTY_NAME": "Void"}, (MUSL,), "", (), (), ()), "no advisories on Void"),
        (Contents({}, (), "", (), (), ()), "no advisories on an image without os-release"),
    ],
)
async def test_another_distribution_without_advisories(tmp_path: Path, contents: Contents, said: str) -> None:
    own = model(tmp_path, os_packages={"source": "nowhere.zip"})
    result = await cut(own, "os_packages", CutView({"apt_updates": {"other": "x"}}, contents))
    assert said in result.reason


@pytest.mark.parametrize("source", ["nowhere.zip", "broken.zip", "empty.zip", "other.zip"])
async def test_a_python_package_without_advisories(tmp_path: Path, source: str) -> None:
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("GO-1.json", json.dumps({"id": "GO-1", "affected": [{"package": {"name": "x"}}]}))
    contents = Contents({}, (), "", (JINJA,), (), ())
    own = model(tmp_path, python_packages={"source": source})
    assert "OSV zip" in (await cut(own, "python_packages", CutView(contents=contents))).reason


async def test_an_osv_service_out_of_reach(tmp_path: Path) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[Errno 111] Connection refused", request=request)

    own = model(tmp_path)
    service = OsvService("https://osv.example", httpx.MockTransport(refuse))
    view = CutView(contents=Contents({}, (), "", (JINJA,), (), ()))
    (result,) = await look(
        view,
        [PythonPackages(tmp_path, lambda setting: service)],
        own.scan,
    )
    assert (result.audited, result.reason) == (False, "OSV unreachable: Connection refused")


async def test_part_of_an_image_that_is_not_read_is_not_clean_either(tmp_path: Path) -> None:
    problems = Contents({}, (), "", (), (), ("/x: Input/output error",))
    for name in ("python_packages", "licences"):
        (result,) = await look(
            CutView(contents=problems),
            [scanner(model(tmp_path, python_packages={"source": "a.zip"}), name)]
            if name == "licences"
            else [PythonPackages(tmp_path, lambda setting: OsvService("https://osv.example"))],
            ScanPolicy(),
        )
        assert (result.audited, result.reason) == (False, "not read: /x: Input/output error")
