"""A secret that a Dockerfile copies in and removes again, on the embedded engine: blocked, with its layer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagger
import pytest
from dagger import dag
from engine_process import engine_session
from registry_process import registry_program, running_registry

from demo.base_image import BaseImageError, ensure, push
from pipelines.config import DockerfileBuild, Model, Tools
from pipelines.config_scan import ScanPolicy
from pipelines.registries.layout import ImageLayout
from pipelines.release_image import BuiltImage
from pipelines.scanners.dockerfile import Dockerfile
from pipelines.scanners.hygiene import Hygiene
from pipelines.scanners.secrets import Secrets
from pipelines.scanners.view import EngineView
from pipelines.stages.export import export
from pipelines.stages.scan import decided, look

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.registry]
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


@dataclass(frozen=True)
class Home:
    base: str
    state: Path


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
        yield Home(f"{registry.host}/library/python:3.11-slim", root / "state")


@pytest.fixture
async def session(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    with engine_session(home.state, workdir=tmp_path) as started:
        monkeypatch.setenv("DAGGER_SESSION_PORT", str(started.port))
        monkeypatch.setenv("DAGGER_SESSION_TOKEN", started.params["session_token"])
        async with dagger.connection(dagger.Config(retry=None)):
            yield


@pytest.mark.usefixtures("session")
async def test_a_secret_that_is_copied_in_and_removed_blocks_with_its_layer(
    home: Home, tmp_path: Path
) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/token.txt").write_text(f"one\n{TOKEN}\n")
    text = f"FROM {home.base}\nCOPY token.txt /app/token.txt\nRUN cat /app/token.txt && rm /app/token.txt\n"
    text += "RUN install -m 4755 /bin/true /usr/local/bin/up\n"
    (tmp_path / "context/Dockerfile").write_text(text)
    image = await dag.host().directory(str(tmp_path / "context")).docker_build().sync()
    layout = ImageLayout.create(tmp_path / "images")

    async def exported() -> BuiltImage:
        return await export(image, layout)

    model = Model(
        name="m",
        directory=tmp_path / "context",
        file=tmp_path / "context/modelport.yaml",
        build=DockerfileBuild(),
        tools=Tools(image=home.base),
    )
    scanners = (Secrets(), Hygiene(model), Dockerfile(model))
    view = EngineView(image, model, exported)
    results = await look(view, scanners, ScanPolicy())
    report = decided(results, ScanPolicy(), date(2026, 1, 1))
    built = await exported()
    (found,) = [one for one in report.verdict.blocking if one.scanner == "secrets"]
    layers = [layer.digest for layer in built.image.layers]
    assert (found.id, found.where) == ("github-token", "/app/token.txt:2")
    assert found.layer == layers[-3]
    number = len(layers) - 2
    assert f"in layer {number}; deleted in layer {number + 1}, still in the image" in found.title
    assert [one.where for one in report.verdict.blocking if one.scanner == "hygiene"] == ["/usr/local/bin/up"]
    assert TOKEN not in json.dumps(report.to_json())
