"""``embedded-engine doctor``: what runs containers on this machine, tried and not guessed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import anyio

from embedded_engine import __version__
from embedded_engine.resolvers.root import DAGGER_VERSION
from embedded_engine.runtime.open import ContainerRuntime, open_runtime
from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.runtime.probe import told
from embedded_engine.state import state_directory
from embedded_engine.store import Store

TOOLS = {
    "buildah": "runs commands and Dockerfiles",
    "skopeo": "pulls and pushes images",
    "slirp4netns": "gives each run a network of its own",
    "ip": "gives each service an address of its own",
    "runc": "isolates",
    "crun": "isolates",
}
REQUIRED = ("buildah", "skopeo")


def report() -> int:
    """Print what was found; 1 if no container can run here."""
    state = state_directory()
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    _line("engine", f"embedded-engine {__version__}, serves Dagger's API {DAGGER_VERSION} (a subset)")
    _line("state", f"{state}, {_free(state)} free")
    for tool, purpose in TOOLS.items():
        _line(tool, f"{_version(tool)}: {purpose}")
    store = Store.open(state / "engine.sqlite")
    try:
        return anyio.run(_containers, open_runtime(state, store))
    finally:
        store.close()


async def _containers(runtime: ContainerRuntime) -> int:
    try:
        isolation = await runtime.isolation()
    except RuntimeFailure as failure:
        _line("containers", f"none can run: {failure}")
        for attempt in runtime.probe.attempts:
            _line("", f"tried {told(attempt.isolation)}: {attempt.reason}")
        return 1
    finally:
        await runtime.close()
    for attempt in runtime.probe.attempts:
        if attempt.reason:
            _line("", f"tried {told(attempt.isolation)}: {attempt.reason}")
    _line("containers", f"ok: {told(isolation)}, storage {runtime.state.driver}")
    return 0


def _version(tool: str) -> str:
    path = shutil.which(tool)
    if path is None:
        needed = (
            "install it (Debian: apt-get install buildah skopeo)" if tool in REQUIRED else "not needed by all"
        )
        return f"not found, {needed}"
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"\d+\.\d[\w.+-]*", done.stdout)
    return f"{found[0] if found else 'version not told'} ({path})"


def _free(directory: Path) -> str:
    return f"{shutil.disk_usage(directory).free / 2**30:.1f} GiB"


def _line(name: str, text: str) -> None:
    print(f"{name:<12}{text}")  # noqa: T201  # the result of the command
