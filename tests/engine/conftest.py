"""For all engine tests: one state directory, one loopback registry with a base image, sessions on them."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import dagger
import pytest
import tiny_base
from engine_home import EngineHome
from engine_process import SessionProcess, engine_session
from registry_process import registry_program, running_registry

TOOLS = ("buildah", "skopeo", "ldd", "perl")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHome]:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or registry_program() is None:
        pytest.skip(f"needs {', '.join(missing) or 'docker-registry'}")
    root = tmp_path_factory.mktemp("engine")
    tiny_base.write_layout(root / "layout")
    with running_registry(root / "registry") as registry:
        address = f"{registry.host}/tiny:1"
        tiny_base.push(root / "layout", address)
        yield EngineHome(root / "state", registry, address)


@pytest.fixture(scope="module")
def engine(home: EngineHome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionProcess]:
    """A session for raw queries, shared by a module's tests."""
    with engine_session(home.state, workdir=tmp_path_factory.mktemp("work")) as session:
        yield session


@pytest.fixture
async def base(
    home: EngineHome, engine: SessionProcess, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dagger.Container]:
    """dagger-io connected to the module's session, and a container of the base image."""
    monkeypatch.setenv("DAGGER_SESSION_PORT", str(engine.port))
    monkeypatch.setenv("DAGGER_SESSION_TOKEN", engine.params["session_token"])
    async with dagger.connection(dagger.Config(retry=None)):
        yield dagger.dag.container().from_(home.base)
