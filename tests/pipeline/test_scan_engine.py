"""Scan and inventory on the embedded engine, over a Debian image: clean, bad, and another distribution's."""

from __future__ import annotations

import json
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import dagger
import pytest
from dagger import dag
from engine_process import engine_session
from registry_process import registry_program, running_registry

from demo.base_image import BaseImageError, ensure, push
from pipelines.config import Model, Tools
from pipelines.config_scan import ScanPolicy
from pipelines.errors import ScanBlocked
from pipelines.registries.layout import ImageLayout
from pipelines.release_image import BuiltImage
from pipelines.source import SourceRevision
from pipelines.stages.export import export
from pipelines.stages.inventory import inventory
from pipelines.stages.scan import ScanReport, scan

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.registry]
FIXTURES = Path(__file__).parent.parent / "fixtures" / "model_files"
AGED = """Package: openssl
Status: install ok installed
Architecture: amd64
Version: 3.0.9-1

Package: not-in-the-security-archive
Status: install ok installed
Architecture: all
Version: 1.0
"""
JINJA = {
    "id": "PYSEC-2019-217",
    "aliases": ["CVE-2019-10906"],
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "jinja2"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.10.1"}]}],
        }
    ],
}


@dataclass(frozen=True)
class Home:
    base: str
    state: Path
    events: Path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    if registry_program() is None:
        pytest.skip("needs docker-registry")
    try:
        layout = ensure()
    except BaseImageError as err:
        pytest.skip(f"needs a Debian base image: {err}")
    root = tmp_path_factory.mktemp("scan")
    with running_registry(root / "registry") as registry:
        push(layout, registry.host)
        yield Home(f"{registry.host}/library/python:3.11-slim", root / "state", root / "events")


@pytest.fixture
async def base(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dagger.Container]:
    home.events.write_text("")
    with engine_session(home.state, workdir=tmp_path, EMBEDDED_ENGINE_EVENTS=str(home.events)) as session:
        monkeypatch.setenv("DAGGER_SESSION_PORT", str(session.port))
        monkeypatch.setenv("DAGGER_SESSION_TOKEN", session.params["session_token"])
        async with dagger.connection(dagger.Config(retry=None)):
            yield await dag.container().from_(home.base).sync()


def model(home: Home, directory: Path, **policy: Any) -> Model:
    with zipfile.ZipFile(directory / "osv.zip", "w") as archive:
        archive.writestr("PYSEC-2019-217.json", json.dumps(JINJA))
    section = ScanPolicy.model_validate({"python_packages": {"source": "osv.zip"}, **policy})
    file = directory / "modelport.yaml"
    return Model(name="m", directory=directory, file=file, scan=section, tools=Tools(image=home.base))


def source(directory: Path) -> SourceRevision:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return SourceRevision("a" * 40, "a" * 40, at, "main", None, None, (), False, directory)


async def report_of(image: dagger.Container, model: Model) -> ScanReport:
    layout = ImageLayout.create(model.directory / "images")

    async def exported() -> BuiltImage:
        return await export(image, layout)

    try:
        return await scan(image, model, exported=exported)
    except ScanBlocked as err:
        assert isinstance(err.report, ScanReport)
        return err.report


def needs_debian(report: ScanReport) -> None:
    reason = report.results[0].reason
    if "Failed to fetch" in reason or "Could not" in reason:
        pytest.skip(f"needs Debian's security archive: {reason}")


def executed(home: Home) -> int:
    events = [json.loads(line) for line in home.events.read_text().splitlines()]
    return sum(event["kind"] == "exec" and not event["cached"] for event in events)


async def test_a_clean_image_passes_and_is_not_looked_at_twice(
    home: Home, base: dagger.Container, tmp_path: Path
) -> None:
    one = model(home, tmp_path)
    reports: list[Any] = []

    async def keep(work: Any) -> None:
        reports.append(await work)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep, report_of(base, one))
        tasks.start_soon(keep, inventory(base, one, source(tmp_path)))
    report = next(made for made in reports if isinstance(made, ScanReport))
    needs_debian(report)
    assert not report.verdict.blocks, report.to_json()
    assert report.summary().startswith("os 0 · python 0 · secrets 0 · model files 0")
    assert executed(home) == 4  # scan and inventory share one of them
    before = executed(home)
    await report_of(base, one)
    assert executed(home) == before


async def test_a_bad_image_is_blocked_by_every_scanner(
    home: Home, base: dagger.Container, tmp_path: Path
) -> None:
    image = (
        base.with_directory("/app", dag.host().directory(str(FIXTURES), include=["*.zlib.joblib"]))
        .with_new_file("/opt/lib/Jinja2-2.10.dist-info/METADATA", "Name: Jinja2\nVersion: 2.10\n")
        .with_new_file("/root/.netrc", "machine x login me password s3cr3tvalue\n")
        .with_new_file("/var/lib/dpkg/status", AGED)
        .with_env_variable("API_TOKEN", "q8w7e6r5t4")
    )
    report = await report_of(image, model(home, tmp_path))
    needs_debian(report)
    assert {(one.scanner, one.id, one.where) for one in report.verdict.blocking} == {
        ("os_packages", "bookworm-security:openssl", ""),
        ("python_packages", "CVE-2019-10906", "/opt/lib/Jinja2-2.10.dist-info"),
        ("secrets", "netrc", "/root/.netrc:1"),
        ("secrets", "environment", "ENV API_TOKEN"),
        ("model_files", "posix.system", "/app/evil.zlib.joblib"),
    }
    assert "s3cr3tvalue" not in json.dumps(report.to_json())
    made = await inventory(image, model(home, tmp_path), source(tmp_path))
    entries = {one["bom-ref"]: one for one in json.loads(made.sbom)["components"]}
    assert "pkg:pypi/jinja2@2.10" in entries
    weights = [one["name"] for one in entries["model:m"]["components"]]
    assert weights == ["/app/evil.zlib.joblib", "/app/honest_pipeline.zlib.joblib"]


async def test_an_image_that_is_not_debians_is_not_audited(
    home: Home, base: dagger.Container, tmp_path: Path
) -> None:
    image = dag.container().with_new_file("/etc/os-release", "ID=alpine\nPRETTY_NAME=Alpine\n")
    report = await report_of(image, model(home, tmp_path))
    assert report.verdict.blocks
    assert report.summary().startswith("os not audited (")
    assert "Alpine" in report.results[0].reason
    accepted = await report_of(image, model(home, tmp_path, could_not_look={"os_packages": "warn"}))
    assert not accepted.verdict.blocks


async def test_a_security_archive_that_is_not_reached_is_not_audited_and_not_remembered(
    home: Home, base: dagger.Container, tmp_path: Path
) -> None:
    nowhere = model(home, tmp_path, os_packages={"security_mirror": "http://127.0.0.1:9/debian-security"})
    report = await report_of(base, nowhere)
    assert "apt-get update: Failed to fetch" in report.results[0].reason
    before = executed(home)
    await report_of(base, nowhere)
    assert executed(home) > before
