"""A real registry (Debian's ``docker-registry``) on a free loopback port, for tests and for trying things.

``with running_registry(directory) as registry: ...`` or the fixtures ``registry`` and ``password_registry``
(import them into the test module or its conftest). Mark the tests that use them ``registry``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("docker-registry", "registry")
USERNAME = "pusher"
PASSWORD = "not-a-secret-1234"
# The bcrypt of PASSWORD, which is all that docker-registry takes.
PASSWORD_HASH = "$2b$05$cq9JGNSn5l266bbm7CDSJedFTwM3JCt9USZ8vJepxOgZVdCrr5ssu"
START_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class RegistryProcess:
    """A running registry: its address and where it keeps things."""

    host: str
    directory: Path
    username: str
    password: str
    process_id: int

    def tags(self, repository: str) -> list[str]:
        """The tags that are really stored (read from disk, not through our client)."""
        folder = self.repository(repository) / "_manifests" / "tags"
        return sorted(tag.name for tag in folder.iterdir()) if folder.is_dir() else []

    def tag_digest(self, repository: str, tag: str) -> str:
        """The digest that the stored ``tag`` points to."""
        return (self.repository(repository) / "_manifests/tags" / tag / "current/link").read_text()

    def blob(self, digest: str) -> Path:
        """The file that holds a blob, so that a test can look at it or damage it."""
        algorithm, _, code = digest.partition(":")
        return self._storage / "blobs" / algorithm / code[:2] / code / "data"

    def repository(self, path: str) -> Path:
        """The directory of a repository: its tags, and links to its manifests and blobs."""
        return self._repositories / path

    @property
    def _storage(self) -> Path:
        return self.directory / "storage/docker/registry/v2"

    @property
    def _repositories(self) -> Path:
        return self._storage / "repositories"


def registry_program() -> str | None:
    """The registry program of this machine, if it has one."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def free_port() -> int:
    """A loopback port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_registry(
    directory: Path,
    *,
    password: bool = False,
    port: int = 0,
    settings: Mapping[str, Mapping[str, object]] | None = None,
) -> Iterator[RegistryProcess]:
    """Run a registry that keeps its blobs in ``directory`` until the block ends.

    ``settings`` adds to the sections of its configuration: ``{"auth": {"token": {...}}}``.
    """
    program = registry_program()
    if program is None:
        raise RuntimeError(f"none of {', '.join(PROGRAMS)} is installed")
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    config = _write_config(directory, port, password=password, settings=settings or {})
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [program, "serve", str(config)],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
        )
    user, secret = (USERNAME, PASSWORD) if password else ("", "")
    try:
        _wait_until_ready(process, port, directory / "log")
        yield RegistryProcess(f"127.0.0.1:{port}", directory, user, secret, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _write_config(
    directory: Path, port: int, *, password: bool, settings: Mapping[str, Mapping[str, object]]
) -> Path:
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "storage")},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "only-for-tests"},
    }
    if password:
        users = directory / "htpasswd"
        users.write_text(f"{USERNAME}:{PASSWORD_HASH}\n")
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(users)}}
    for section, added in settings.items():
        config[section] = {**config.get(section, {}), **added}
    file = directory / "config.yml"
    file.write_text(json.dumps(config))  # JSON is YAML
    return file


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the registry ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        try:
            opener.open(f"http://127.0.0.1:{port}/v2/", timeout=1).close()
        except urllib.error.HTTPError as answer:  # 401 with a password: it is up
            answer.close()
            return
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"the registry did not answer in {START_TIMEOUT_S:.0f} s:\n{log.read_text()[-2000:]}")


def need_registry() -> None:
    """Skip aloud where there is no registry program; in CI that is a failure."""
    if registry_program() is not None:
        return
    message = f"needs one of {', '.join(PROGRAMS)} (Debian: apt install docker-registry)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryProcess]:
    """An open registry of the test's own."""
    need_registry()
    with running_registry(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def password_registry(tmp_path: Path) -> Iterator[RegistryProcess]:
    """A registry that asks for ``USERNAME`` and ``PASSWORD``."""
    need_registry()
    with running_registry(tmp_path / "password-registry", password=True) as running:
        yield running
