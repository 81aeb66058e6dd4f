"""One machine for all pipeline tests (engine state, registry, base image); a repository for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from registry_process import RegistryProcess, registry_program, running_registry
from team import Machine, Team

from demo import base_image
from pipelines import engines
from pipelines.errors import EngineUnavailable

TOOLS = ("buildah", "skopeo", "git")
NOT_INHERITED = ("MODELPORT_", "DAGGER_", "_EXPERIMENTAL_DAGGER", "EMBEDDED_ENGINE_", "GITHUB_", "CIRCLE")


@pytest.fixture(scope="session")
def registry_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or registry_program() is None:
        pytest.skip(f"needs {', '.join(missing) or 'docker-registry'}")
    with running_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="session")
def machine(registry_process: RegistryProcess, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    cache = tmp_path_factory.mktemp("cache")
    base_image.push(base_image.ensure(), registry_process.host)
    environ = {name: text for name, text in os.environ.items() if not name.startswith(NOT_INHERITED)}
    environ["CONTAINERS_REGISTRIES_CONF"] = str(base_image.mirror_configuration(registry_process.host, cache))
    environ["EMBEDDED_ENGINE_STATE"] = str(tmp_path_factory.mktemp("engine"))
    environ["NO_COLOR"] = "1"
    return Machine(registry_process.host, environ)


@pytest.fixture(params=["embedded", pytest.param("dagger", marks=pytest.mark.dagger)])
def any_team(request: pytest.FixtureRequest, machine: Machine, tmp_path: Path) -> Team:
    """A team on each engine that is here."""
    if request.param == "dagger":
        runner = {name: text for name, text in os.environ.items() if name.startswith("_EXPERIMENTAL_DAGGER")}
        try:
            anyio.run(engines.choose, engines.Engine.DAGGER, runner)
        except EngineUnavailable as err:
            pytest.skip(f"needs Dagger's engine: {err}")
        machine = Machine(machine.registry, {**machine.environ, **runner})
    return Team.made(tmp_path / "mood", machine, request.param)


@pytest.fixture
def team(machine: Machine, tmp_path: Path) -> Team:
    return Team.made(tmp_path / "mood", machine)
