"""Credentials for one call of a tool: a private file that lives as long as the call, never an argument."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from embedded_engine.runtime.port import Login
from embedded_engine.runtime.process_names import owner_name

MEMORY = Path("/dev/shm")  # noqa: S108  # mkdtemp makes a private directory in it


@contextlib.contextmanager
def private_directory(fallback: Path) -> Iterator[Path]:
    """A directory for secrets, 0700 and in memory where the machine has /dev/shm; gone afterwards."""
    base = MEMORY if MEMORY.is_dir() else fallback
    directory = Path(tempfile.mkdtemp(prefix=f"{owner_name()}-", dir=base))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def auth_file(directory: Path, logins: Mapping[str, Login]) -> Path:
    """A containers-auth.json(5) with the logins of some hosts, mode 0600."""
    file = directory / "auth.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"auths": {_auth_key(host): _entry(one) for host, one in logins.items()}}))
    return file


def _entry(login: Login) -> dict[str, str]:
    if login.is_token:
        user = base64.b64encode(f"{login.username}:".encode()).decode()
        return {"auth": user, "identitytoken": login.password}
    return {"auth": base64.b64encode(f"{login.username}:{login.password}".encode()).decode()}


def host_of(address: str) -> str:
    """The registry host (with port) of an address that has one spelled out, else docker.io."""
    first, slash, _ = address.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


def is_loopback(host: str) -> bool:
    """Whether a registry host is this machine, where plain http is normal."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _auth_key(host: str) -> str:
    return "docker.io" if host in ("docker.io", "index.docker.io", "registry-1.docker.io") else host
