"""A registry on loopback for the demo and for tests: ``docker-registry``, started and ended by us.

``start(state)`` gives a registry that stays after this process (the demo's); ``temporary(directory)`` gives
one that ends with a ``with`` block (a test's). Both listen on 127.0.0.1 alone and keep everything under the
given directory.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

PREFERRED_PORT = 5000
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0

_CONFIG = """\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {data}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""


class RegistryError(Exception):
    """The registry could not be started; the text says why."""


@dataclass(frozen=True, slots=True)
class Registry:
    """A running registry: its address, and what is needed to end it and nothing else."""

    address: str
    pid: int
    started: str
    """The start time of the process as the kernel tells it: a recycled process id is never taken for ours."""

    def alive(self) -> bool:
        """Whether the process that we started is still the one with this id."""
        return bool(self.started) and _start_time(self.pid) == self.started


def program() -> str | None:
    """The ``docker-registry`` program: installed, or unpacked under ``.cache/`` by ``demo.system``."""
    unpacked = Path(__file__).resolve().parent.parent / ".cache" / "bin" / "docker-registry"
    return shutil.which("docker-registry") or (str(unpacked) if unpacked.exists() else None)


def running(state: Path) -> Registry | None:
    """The registry that an earlier ``start(state)`` left running, if it still runs."""
    remembered = _remembered(state)
    return remembered if remembered and remembered.alive() else None


def start(state: Path) -> Registry:
    """Start the registry that keeps its data under ``state``, or return the one that runs already.

    It listens on the port it had last time, else on 5000, else on any free one, so that references printed by
    an earlier run stay good where that is possible.

    Raises:
        RegistryError: the program is missing, or it did not answer in time (with the end of its log).
    """
    if found := running(state):
        return found
    executable = program()
    if executable is None:
        raise RegistryError("docker-registry is not installed")
    state.mkdir(parents=True, exist_ok=True)
    port = _choose_port(_remembered(state))
    config = state / "registry.yml"
    config.write_text(_CONFIG.format(data=json.dumps(str(state.resolve() / "data")), port=port))
    pid = _spawn([executable, "serve", str(config)], state / "registry.log")
    registry = Registry(f"127.0.0.1:{port}", pid, _start_time(pid) or "")
    _wait_until_ready(registry, state / "registry.log")
    (state / "registry.json").write_text(json.dumps(asdict(registry)) + "\n")
    return registry


def stop(state: Path) -> bool:
    """End the registry of ``state`` if it runs and is ours; say whether there was one."""
    registry = running(state)
    if registry is None:
        return False
    os.kill(registry.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while registry.alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    if registry.alive():
        os.kill(registry.pid, signal.SIGKILL)
    _wait_until_gone(registry)
    return True


@contextmanager
def temporary(directory: Path) -> Iterator[Registry]:
    """A registry for the length of a ``with`` block, its data under ``directory``. For tests.

    Example:
        with registry.temporary(tmp_path) as local: ... local.address ...
    """
    try:
        yield start(directory)
    finally:
        stop(directory)


def _remembered(state: Path) -> Registry | None:
    try:
        return Registry(**json.loads((state / "registry.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _choose_port(last: Registry | None) -> int:
    wanted = [int(last.address.rpartition(":")[2])] if last else []
    for port in [*wanted, PREFERRED_PORT, 0]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RegistryError("no free port on 127.0.0.1")


def _spawn(command: list[str], log: Path) -> int:
    """Start a process that outlives this one, in a session of its own (Ctrl-C here is not meant for it)."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(command[0], command, dict(os.environ), file_actions=files, setsid=True)


def _wait_until_ready(registry: Registry, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if not registry.alive():
            _reap(registry.pid)
            raise RegistryError(f"docker-registry ended at once: {_tail(log)}")
        if _answers(registry.address):
            return
        time.sleep(0.05)
    os.kill(registry.pid, signal.SIGKILL)
    _reap(registry.pid)
    raise RegistryError(f"docker-registry did not answer within {START_TIMEOUT_S:.0f} s: {_tail(log)}")


def _answers(address: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: never by a proxy
    try:
        with direct.open(f"http://{address}/v2/", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _start_time(pid: int) -> str | None:
    """Field 22 of ``/proc/PID/stat``; None for no process or one that has ended and was not waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _wait_until_gone(registry: Registry) -> None:
    """A process that has ended holds its port until its last thread has: then only it is taken away."""
    deadline = time.monotonic() + 2
    while Path(f"/proc/{registry.pid}").exists() and time.monotonic() < deadline:
        _reap(registry.pid)
        time.sleep(0.01)


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):  # started by an earlier process: its new parent waits for it
        os.waitpid(pid, os.WNOHANG)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
