"""Which engine is chosen, and what is said when the one asked for can't run."""

from __future__ import annotations

import socket
from pathlib import Path

import anyio
import pytest

from pipelines import engines
from pipelines.engines import Engine, choose
from pipelines.errors import EngineUnavailable

pytestmark = pytest.mark.anyio


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH that holds Buildah, Podman and Skopeo by name, and nothing else."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in engines.EMBEDDED_TOOLS:
        program(directory, name)
    monkeypatch.setenv("PATH", str(directory))
    return directory


def program(directory: Path, name: str, exit_code: int = 0) -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\nexit {exit_code}\n")
    path.chmod(0o755)
    return path


async def test_without_dagger_it_is_the_embedded_engine_and_says_why(tools: Path) -> None:
    choice = await choose(Engine.AUTO, {})
    assert (choice.kind, str(choice)) == ("embedded", "embedded (no dagger CLI found)")


async def test_an_open_session_comes_first(tools: Path) -> None:
    program(tools, "dagger")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        choice = await choose(Engine.AUTO, {"DAGGER_SESSION_PORT": port})
    assert choice.kind == "session"


async def test_a_session_that_has_ended_is_found_out(tools: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    with pytest.raises(EngineUnavailable, match="does not answer") as caught:
        await choose(Engine.AUTO, {"DAGGER_SESSION_PORT": port})
    assert "DAGGER_SESSION_PORT" in caught.value.hint


async def test_embedded_inside_a_dagger_session_is_refused(tools: Path) -> None:
    with pytest.raises(EngineUnavailable, match="session is open"):
        await choose(Engine.EMBEDDED, {"DAGGER_SESSION_PORT": "1"})


async def test_a_cli_whose_docker_answers_is_chosen(tools: Path) -> None:
    program(tools, "dagger")
    program(tools, "docker")
    choice = await choose(Engine.AUTO, {})
    assert (choice.kind, choice.cli) == ("dagger", str(tools / "dagger"))


async def test_a_cli_without_a_runner_falls_back_with_the_reason(tools: Path) -> None:
    program(tools, "dagger")
    program(tools, "docker", exit_code=1)
    choice = await choose(Engine.AUTO, {})
    assert choice.kind == "embedded"
    assert "docker's daemon does not answer" in choice.why


async def test_asking_for_dagger_without_its_cli_says_what_to_install(tools: Path) -> None:
    with pytest.raises(EngineUnavailable, match="no dagger CLI found") as caught:
        await choose(Engine.DAGGER, {})
    assert caught.value.exit_code == 8
    assert "install the dagger CLI" in caught.value.hint


async def test_a_tcp_runner_that_answers_is_used(tools: Path) -> None:
    program(tools, "dagger")
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        choice = await choose(Engine.AUTO, {engines.RUNNER_HOST: host})
    assert choice.kind == "dagger"


async def test_a_unix_runner_that_is_not_there_is_named(tools: Path, tmp_path: Path) -> None:
    program(tools, "dagger")
    with pytest.raises(EngineUnavailable, match=r"unix://.*refuses: No such file"):
        await choose(Engine.DAGGER, {engines.RUNNER_HOST: f"unix://{tmp_path}/runner.sock"})


async def test_a_silent_runner_costs_seconds_not_minutes(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tools, "dagger")
    monkeypatch.setattr(engines, "PROBE_TIMEOUT_S", 0.2)

    async def never(*_: object) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(anyio, "connect_tcp", never)
    with anyio.fail_after(2), pytest.raises(EngineUnavailable, match="did not answer within"):
        await choose(Engine.DAGGER, {engines.RUNNER_HOST: "tcp://192.0.2.1:1234"})


async def test_without_any_container_tool_it_names_the_packages(tools: Path) -> None:
    (tools / "buildah").unlink()
    with pytest.raises(EngineUnavailable, match="needs buildah") as caught:
        await choose(Engine.EMBEDDED, {})
    assert "apt-get install buildah" in caught.value.hint
