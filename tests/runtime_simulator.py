"""A container runtime in memory: enough of one to test the engine above it without containers.

File systems are dictionaries from path to bytes. A command is one of a handful of words (see ``_COMMANDS``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from embedded_engine.masking import mask_bytes
from embedded_engine.runtime.port import (
    SCRATCH,
    BuildStep,
    BuildStepFailed,
    Compression,
    Copy,
    Edit,
    ExecResult,
    ExecStep,
    LayerBlob,
    Link,
    Login,
    Outgoing,
    OutImage,
    PulledImage,
    Readiness,
    RunningService,
    RuntimeFailure,
    ServiceFailed,
    SetupFailure,
    Snapshot,
    Write,
)
from embedded_engine.runtime.registries_conf import on_registry

Files = dict[str, bytes]


@dataclass
class SimulatedRuntime:
    """Implements ``Runtime``; tests read what was asked of it."""

    directory: Path
    images: dict[str, str] = field(default_factory=dict)  # address -> digest
    config: dict[str, object] = field(default_factory=lambda: {"config": {"Env": ["BASE=1"]}})
    systems: dict[Snapshot, Files] = field(default_factory=lambda: {SCRATCH: {}})
    parents: dict[Snapshot, Snapshot] = field(default_factory=dict)
    executed: list[ExecStep] = field(default_factory=list)
    killed: int = 0
    edits: list[Sequence[Edit]] = field(default_factory=list)
    resolved: list[tuple[str, Login | None]] = field(default_factory=list)
    pulled: list[str] = field(default_factory=list)
    built: list[BuildStep] = field(default_factory=list)
    published: list[tuple[str, str, Login | None]] = field(default_factory=list)
    services: list[SimulatedService] = field(default_factory=list)
    looked: int = 0
    closed: bool = False

    async def resolve(self, address: str, login: Login | None) -> str:
        self.resolved.append((address, login))
        if address not in self.images:
            raise RuntimeFailure(f"{address}: not found")
        return self.images[address]

    def short_names(self, name: str) -> tuple[str, ...]:
        return (on_registry("docker.io", name),)

    async def pull(self, address: str, digest: str, platform: str, login: Login | None) -> PulledImage:
        self.pulled.append(address)
        return PulledImage(self._keep({"/etc/os-release": b"ID=simulated\n"}, SCRATCH), self.config)  # type: ignore[arg-type]

    async def import_archive(self, path: Path, tag: str, platform: str) -> PulledImage:
        return PulledImage(self._keep({"/imported": path.read_bytes()}, SCRATCH), self.config)  # type: ignore[arg-type]

    def present(self) -> frozenset[Snapshot]:
        self.looked += 1
        return frozenset(self.systems)

    async def execute(self, step: ExecStep, keep: Callable[[int], bool]) -> ExecResult:
        self.executed.append(step)
        files = dict(self.systems[step.parent])
        try:
            code, stdout, stderr = await self._command(step, files)
        except anyio.get_cancelled_exc_class():
            self.killed += 1
            raise
        stdout, stderr = mask_bytes(stdout, step.hidden), mask_bytes(stderr, step.hidden)
        snapshot = self._keep(files, step.parent) if keep(code) else None
        return ExecResult(code, stdout, stderr, stdout + stderr, snapshot)

    async def _command(self, step: ExecStep, files: Files) -> tuple[int, bytes, bytes]:
        word, *rest = step.args
        if step.user == "nobody-knows":
            raise SetupFailure("unable to find user nobody-knows")
        if word == "sleep":
            await anyio.sleep(float(rest[0]))
        elif word == "exit":
            return int(rest[0]), b"out before the end\n", b"boom\n" * 3
        elif word == "env":
            lines = [f"{name}={value}" for name, value in (*step.env, *step.secret_env)]
            return 0, "\n".join(lines).encode(), b""
        elif word == "write":
            files[rest[0]] = rest[1].encode()
        elif word == "append":  # to a file of a mount
            mount = next(one for one in step.mounts if one.target == rest[0])
            assert mount.source is not None and not mount.read_only
            with (mount.source / rest[1]).open("a") as stream:
                stream.write(rest[2])
        elif word == "cat":
            return 0, self._read(step, files, rest[0]), b""
        elif word == "stdin":
            return 0, step.stdin, b""
        elif word == "echo":
            return 0, " ".join(rest).encode() + b"\n", b""
        elif word != "true":
            return 1, b"", f'exec: "{word}": executable file not found in $PATH'.encode()
        return 0, b"", b""

    def _read(self, step: ExecStep, files: Files, path: str) -> bytes:
        for secret in step.secret_files:
            if secret.target == path:
                return secret.value
        for mount in step.mounts:
            if path.startswith(mount.target) and mount.source is not None:
                inner = path[len(mount.target) :].lstrip("/")
                return (mount.source / inner if inner else mount.source).read_bytes()
        return files[path]

    async def edit(self, parent: Snapshot, edits: Sequence[Edit]) -> Snapshot:
        self.edits.append(edits)
        files = dict(self.systems[parent])
        for edit in edits:
            if isinstance(edit, Write):
                files[edit.target] = edit.data
            elif isinstance(edit, Copy):
                files.update(_copied(edit))
            elif isinstance(edit, Link):
                files[edit.target] = b"-> " + edit.to.encode()
            else:
                gone = edit.target
                files = {path: data for path, data in files.items() if not f"{path}/".startswith(f"{gone}/")}
        return self._keep(files, parent)

    async def docker_build(self, step: BuildStep) -> PulledImage:
        self.built.append(step)
        text = (step.context / step.dockerfile).read_text()
        if "RUN false" in text:
            raise BuildStepFailed(
                "build failed", args=["/bin/sh", "-c", "false"], exit_code=1, stdout="", stderr="no"
            )
        return PulledImage(self._keep({"/built": text.encode()}, SCRATCH), self.config)  # type: ignore[arg-type]

    @contextlib.asynccontextmanager
    async def mounted(self, snapshot: Snapshot) -> AsyncIterator[Path]:
        root = self.directory / f"view-{snapshot[:12]}"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        for path, data in self.systems[snapshot].items():
            file = root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        yield root

    async def layers(self, snapshot: Snapshot, forced: Compression = "") -> tuple[LayerBlob, ...]:
        chain = []
        while snapshot:
            chain.append(LayerBlob(f"sha256:{snapshot}", f"sha256:{snapshot}", 1, self.directory / "none"))
            snapshot = self.parents[snapshot]
        return tuple(reversed(chain))

    async def start_service(self, step: ExecStep, hostname: str, wanted: Readiness) -> RunningService:
        if step.args[0] == "exit":
            raise ServiceFailed(
                f"exit code: {step.args[1]}", exit_code=int(step.args[1]), stderr="why", args=step.args
            )
        await anyio.sleep(0.01)
        service = SimulatedService(hostname, step, wanted=wanted)
        self.services.append(service)
        return service

    async def host_service(
        self, hostname: str, host: str, forwards: tuple[tuple[int, int], ...]
    ) -> RunningService:
        service = SimulatedService(hostname, ExecStep(SCRATCH, (host, *map(str, forwards))))
        self.services.append(service)
        return service

    async def publish(self, image: Outgoing, address: str, login: Login | None) -> None:
        self.published.append((address, image.digest, login))

    async def write_tarball(self, image: Outgoing, target: Path, name: str = "") -> None:
        target.write_bytes(b"tar of " + image.digest.encode())

    async def host_image(self, name: str) -> str:
        raise RuntimeFailure(f"{name}: the simulated machine has no image store")

    async def take_host_image(self, name: str) -> PulledImage:
        raise RuntimeFailure(f"{name}: the simulated machine has no image store")

    async def give_host_image(self, image: OutImage, name: str) -> None:
        raise RuntimeFailure(f"{name}: the simulated machine has no image store")

    async def remove(self, snapshot: Snapshot) -> None:
        self.systems.pop(snapshot, None)

    async def close(self) -> None:
        self.closed = True

    def _keep(self, files: Files, parent: Snapshot) -> Snapshot:
        text = json.dumps([parent, {path: data.hex() for path, data in files.items()}], sort_keys=True)
        snapshot = Snapshot(hashlib.sha256(text.encode()).hexdigest())
        self.systems[snapshot] = files
        self.parents.setdefault(snapshot, parent)
        return snapshot


@dataclass
class SimulatedService:
    """A service that answers nothing but is up."""

    hostname: str
    step: ExecStep
    address: str = "10.0.0.2"
    code: int | None = None
    wanted: Readiness | None = None

    def reach(self, port: int) -> tuple[str, int]:
        return "127.0.0.1", port

    def exit_code(self) -> int | None:
        return self.code

    def logs(self) -> tuple[str, str]:
        return "service out", "service err"

    async def stop(self, *, kill: bool = False) -> None:
        self.code = 137 if kill else 143


def _copied(edit: Copy) -> Files:
    if edit.source.is_file():
        return {edit.target: edit.source.read_bytes()}
    top = edit.target.rstrip("/")
    return {
        f"{top}/{file.relative_to(edit.source)}": file.read_bytes()
        for file in edit.source.rglob("*")
        if file.is_file()
    }
