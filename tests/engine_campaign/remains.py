"""What is there of one state directory: processes, mounts in all namespaces, links, files, containers.

Nothing here asks the engine: it reads /proc, /sys and the directories themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TOOLS = ("buildah", "skopeo", "runc", "slirp4netns")
MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Home:
    """A state directory, and the run root that the engine has for it."""

    state: Path
    owners: set[str] = field(default_factory=set)
    """What the engines on it call their things (other engines of the machine use /dev/shm as well)."""

    def note(self, pid: int) -> None:
        """An engine's process works on it."""
        if start := _start(pid):
            self.owners.add(f"ee-{pid}-{start}")

    @property
    def runroot(self) -> Path:
        """As embedded_engine.runtime.state has it for root."""
        return Path("/run/embedded-engine") / hashlib.sha256(str(self.state).encode()).hexdigest()[:10]

    @property
    def marks(self) -> tuple[bytes, bytes]:
        """What the path of anything that belongs to it holds."""
        return f"{self.state}/".encode(), f"{self.runroot}/".encode()


def processes(home: Home) -> dict[int, str]:
    """Every process that works on the state, by its environment, its arguments or its root file system."""
    found = {}
    for pid in _pids():
        if pid != os.getpid() and _belongs(pid, home):
            found[pid] = _words(pid)
    return found


def _belongs(pid: int, home: Home) -> bool:
    environment, arguments = _read(pid, "environ"), _read(pid, "cmdline")
    if b"EMBEDDED_ENGINE_STATE=" + str(home.state).encode() in environ_lines(environment):
        return True
    if any(mark in arguments for mark in home.marks):
        return True
    roots = (line for line in _read(pid, "mountinfo").splitlines() if line.split()[4] == b"/")
    return any(mark in line for line in roots for mark in home.marks)


def environ_lines(environment: bytes) -> list[bytes]:
    """The variables of /proc/PID/environ."""
    return environment.split(b"\0")


def mounts(home: Home) -> list[str]:
    """Every mount of the state's, in whatever mount namespace a process is."""
    found = set()
    seen = set()
    for pid in _pids():
        try:
            namespace = str(Path(f"/proc/{pid}/ns/mnt").readlink())
        except OSError:
            continue
        if namespace in seen:
            continue
        seen.add(namespace)
        for line in _read(pid, "mountinfo").splitlines():
            if any(mark in line for mark in home.marks):
                found.add(f"{namespace} of {pid}: {line.split()[4].decode()}")
    return sorted(found)


def links(known: set[int]) -> list[str]:
    """Ends of veth pairs whose service's process is gone; ``known`` are processes that were ours."""
    ends = [path.name for path in Path("/sys/class/net").glob("ee[0-9]*")]
    return [name for name in ends if int(name[2:]) in known and not Path(f"/proc/{name[2:]}").exists()]


def files(home: Home, *, dead_only: bool = False) -> list[str]:
    """Temporary files and directories; ``dead_only``: those that say by their name whose they were."""
    state = home.state
    found = [
        *_inside(state / "tools"),
        *_inside(state / "tmp"),
        *_inside(state / "trees" / "tmp"),
        *_inside(home.runroot / "notes"),
        *(state / "trees").glob(".*"),
        *(state / "blobs" / "sha256").glob(".*"),
        *(state / "storage" / "tmp").glob("*"),
        *(path for path in MEMORY.glob("ee-*") if _owner(path.name) in home.owners and owner_gone(path.name)),
    ]
    return [str(path) for path in found if not dead_only or owner_gone(path.name)]


def owner_gone(name: str) -> bool:
    """Whether something named after its process has lost it."""
    parts = name.split("-")
    if len(parts) < 3 or parts[0] != "ee" or not parts[1].isdecimal():
        return False
    return _start(int(parts[1])) != parts[2]


def _owner(name: str) -> str:
    return "-".join(name.split("-")[:3])


def _start(pid: int) -> str:
    """When a process started, in ticks; "" if there is none."""
    stat = _read(pid, "stat").decode("utf-8", "replace")
    return stat.rpartition(")")[2].split()[19] if stat else ""


def containers(home: Home) -> list[str]:
    """The working containers in storage."""
    found = []
    for name in ("containers.json", "volatile-containers.json"):
        file = home.state / "storage" / "overlay-containers" / name
        if file.exists():
            found += [
                str((one.get("names") or [one["id"]])[0]) for one in json.loads(file.read_text() or "[]")
            ]
    return found


def below(pid: int) -> list[int]:
    """The processes that came of ``pid``, itself not."""
    children: dict[int, list[int]] = {}
    for one in _pids():
        parent = _parent(one)
        children.setdefault(parent, []).append(one)
    found, waiting = [], [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child)
    return found


def tool_of(pid: int) -> str:
    """What a process is doing, if it is one of the engine's tools: "buildah run", "skopeo copy", ..."""
    words = _words(pid).split()
    name = words[0].rsplit("/", 1)[-1] if words else ""
    if name not in TOOLS:
        return ""
    verb = next((word for word in words[1:] if not word.startswith("-")), "")
    return f"{name} {verb}" if name in ("buildah", "skopeo") else name


def _parent(pid: int) -> int:
    text = _read(pid, "stat").decode("utf-8", "replace")
    return int(text.rpartition(")")[2].split()[1]) if text else 0


def _inside(directory: Path) -> Iterator[Path]:
    if directory.is_dir():
        yield from directory.iterdir()


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _words(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip()
