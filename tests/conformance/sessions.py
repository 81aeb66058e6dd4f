"""A session of either engine as a process, and the surroundings that all of them share."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tiny_base
from registry_process import registry_program, running_registry

from .site import Home

Engine = Literal["embedded", "dagger"]
RUNNER_HOST = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
CLI_BIN = "_EXPERIMENTAL_DAGGER_CLI_BIN"
TOOLS = ("buildah", "skopeo", "ldd", "perl", "git")
NOT_INHERITED = ("DAGGER_", "_EXPERIMENTAL_DAGGER", "EMBEDDED_ENGINE_", "SOURCE_DATE_EPOCH", "DOCKER_CONFIG")
GIVEN = {"CONFORMANCE_TOKEN": "token-of-the-environment", "CONFORMANCE_LINES": " padded value \n"}
END_LIMIT_S = 30


@dataclass(frozen=True, slots=True)
class Running:
    """A session that answers on a loopback port."""

    port: int
    token: str
    workdir: Path
    nonce: str


def missing(engine: Engine) -> str | None:
    """What this machine lacks for sessions of this engine."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if registry_program() is None:
        absent.append("docker-registry")
    if engine == "dagger":
        if not os.environ.get(RUNNER_HOST):
            absent.append(f"Dagger's engine ({RUNNER_HOST})")
        if _dagger_cli() is None:
            absent.append("the dagger CLI")
    return ", ".join(absent) or None


def _dagger_cli() -> str | None:
    return os.environ.get(CLI_BIN) or shutil.which("dagger")


@contextlib.contextmanager
def home(root: Path) -> Iterator[Home]:
    """Two loopback registries, one of which has the base image."""
    tiny_base.write_layout(root / "layout")
    with (
        running_registry(root / "registry") as registry,
        running_registry(root / "guarded", password=True) as guarded,
    ):
        address = f"{registry.host}/tiny:1"
        tiny_base.push(root / "layout", address)
        yield Home(registry.host, guarded.host, address, root)


@contextlib.contextmanager
def session(engine: Engine, home: Home, name: str) -> Iterator[Running]:
    """A session with a working directory of its own; ended as an SDK would, by closing its stdin."""
    workdir = home.scratch / f"{name}-{engine}"
    workdir.mkdir()
    errors = home.scratch / f"{name}-{engine}.txt"
    with errors.open("w") as stream:
        process = subprocess.Popen(
            [*_command(engine), "--workdir", str(workdir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            env=_environment(engine, home),
            cwd=workdir,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, errors.read_text()
        params = json.loads(line)
        yield Running(params["port"], params["session_token"], workdir, secrets.token_hex(6))
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(END_LIMIT_S) == 0, errors.read_text()[-2000:]
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()


def _command(engine: Engine) -> list[str]:
    if engine == "embedded":
        return [sys.executable, "-m", "embedded_engine", "session"]
    labels = ("dagger.io/sdk.name:python", "dagger.io/sdk.version:0.21.11")
    return [_dagger_cli() or "dagger", "session", "--label", labels[0], "--label", labels[1]]


def _environment(engine: Engine, home: Home) -> Mapping[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith(NOT_INHERITED)}
    logins = home.scratch / "no-logins"
    logins.mkdir(exist_ok=True)
    kept |= {**GIVEN, "DOCKER_CONFIG": str(logins)}
    if engine == "embedded":
        return {**kept, "EMBEDDED_ENGINE_STATE": str(home.scratch / "state")}
    runner = {name: text for name, text in os.environ.items() if name.startswith("_EXPERIMENTAL_DAGGER")}
    return {**kept, **runner, "DO_NOT_TRACK": "1", "DAGGER_NO_NAG": "1"}
