"""What tests of the runtime share: a memory for facts, a runtime of its own, a look into layers."""

from __future__ import annotations

import contextlib
import gzip
import os
import subprocess
import tarfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embedded_engine.runtime.open import ContainerRuntime, open_runtime
from embedded_engine.runtime.port import JSON, ExecStep, LayerBlob, PulledImage, Snapshot

PLATFORM = "linux/amd64"


@dataclass
class Facts:
    """port.Facts in memory."""

    known: dict[tuple[str, str], JSON] = field(default_factory=dict)

    def fact(self, kind: str, key: str) -> JSON:
        return self.known.get((kind, key))

    def remember(self, kind: str, key: str, value: JSON) -> None:
        self.known[kind, key] = value


@dataclass
class Base:
    """A runtime with a base image in its storage."""

    runtime: ContainerRuntime
    image: PulledImage
    reference: str  # address@digest
    commands: list[str]  # every command line that was started

    def step(self, *args: str, **more: object) -> ExecStep:
        parent = more.pop("parent", self.image.snapshot)
        env = tuple(tuple(pair.split("=", 1)) for pair in self.image.config["config"]["Env"])  # type: ignore[index, call-overload, union-attr]
        return ExecStep(parent, args, env=env, **more)  # type: ignore[arg-type]

    async def shell(self, script: str, **more: object) -> Snapshot:
        """The snapshot after a script that has to succeed."""
        result = await self.runtime.execute(self.step("sh", "-ec", script, **more), lambda code: code == 0)
        assert result.snapshot is not None, result
        return result.snapshot


@contextlib.asynccontextmanager
async def base_runtime(state: Path, address: str, facts: Facts | None = None) -> AsyncIterator[Base]:
    """A runtime on ``state`` that has pulled ``address``; closed at the end."""
    commands: list[str] = []
    runtime = open_runtime(state, facts or Facts(), dict(os.environ), log=commands.append)
    try:
        digest = await runtime.resolve(address, None)
        image = await runtime.pull(address, digest, PLATFORM, None)
        yield Base(runtime, image, f"{address}@{digest}", commands)
    finally:
        await runtime.close()


def members(layer: LayerBlob) -> dict[str, tarfile.TarInfo]:
    """The entries of a layer by name."""
    with tarfile.open(layer.path) as archive:
        return {member.name: member for member in archive}


def plain(layer: LayerBlob) -> bytes:
    """A layer's tar stream."""
    return gzip.decompress(layer.path.read_bytes())


def processes_with(text: str) -> list[str]:
    """The command lines of running processes that contain ``text``."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if text in line:
                found.append(line)
    return found


def mounts_below(directory: Path) -> list[str]:
    """Mount points of containers below a directory."""
    lines = Path("/proc/mounts").read_text().splitlines()
    return [line for line in lines if str(directory) in line and "/merged" in line]


def run_tool(runtime: ContainerRuntime, argv: Sequence[str]) -> str:
    """The output of a container tool on the runtime's storage."""
    environ = dict(runtime.runner.environ)
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=True).stdout
