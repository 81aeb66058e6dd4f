"""The runtime: Buildah, Podman and Skopeo as one value that answers the port."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from embedded_engine.lost import ContentLost
from embedded_engine.runtime import notices, single_id
from embedded_engine.runtime.buildah import Executor, Isolation
from embedded_engine.runtime.dockerfile import Builder
from embedded_engine.runtime.elsewhere import Elsewhere
from embedded_engine.runtime.enclosure import Enclosures
from embedded_engine.runtime.garbage import Garbage
from embedded_engine.runtime.host_images import HostImages, host_environ
from embedded_engine.runtime.host_settings import HostSettings, host_settings
from embedded_engine.runtime.images import Images
from embedded_engine.runtime.layers import Layers
from embedded_engine.runtime.outlet import Outlet
from embedded_engine.runtime.port import (
    BuildStep,
    Compression,
    Edit,
    ExecResult,
    ExecStep,
    Facts,
    LayerBlob,
    Login,
    Outgoing,
    OutImage,
    PulledImage,
    Readiness,
    RunningService,
    Snapshot,
)
from embedded_engine.runtime.probe import Probe
from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.registries import Registries, patience_s
from embedded_engine.runtime.services import ServiceHost
from embedded_engine.runtime.state import State, open_state, policy_needed, tool_environ, tool_options
from embedded_engine.runtime.views import Views
from embedded_engine.runtime.working import Working


@dataclass(slots=True)
class ContainerRuntime:
    """Implements port.Runtime. Made by ``open_runtime``; starts no process until it is asked for
    something."""

    state: State
    environ: Mapping[str, str]
    runner: Runner
    images: Images
    executor: Executor
    builder: Builder
    layering: Layers
    outlet: Outlet
    host_images: HostImages
    views: Views
    probe: Probe
    garbage: Garbage
    services: ServiceHost
    elsewhere: Elsewhere | None = None
    _ready: anyio.Lock = field(default_factory=anyio.Lock)
    _isolation: Isolation | None = None
    _settings: HostSettings | None = None

    async def resolve(self, address: str, login: Login | None) -> str:
        """See port.Runtime."""
        return await self.images.resolve(address, login)

    def short_names(self, name: str) -> tuple[str, ...]:
        """See port.Runtime."""
        return self.images.registries.conf().candidates(name)

    async def pull(self, address: str, digest: str, platform: str, login: Login | None) -> PulledImage:
        """See port.Runtime."""
        await self._prepared()
        return await self.images.pull(address, digest, platform, login)

    async def import_archive(self, path: Path, tag: str, platform: str) -> PulledImage:
        """See port.Runtime."""
        await self._prepared()
        return await self.images.import_archive(path, tag, platform)

    async def host_image(self, name: str) -> str:
        """See port.Runtime."""
        return await self.host_images.digest(name)

    async def take_host_image(self, name: str) -> PulledImage:
        """See port.Runtime."""
        await self._prepared()
        return await self.host_images.take(name)

    async def give_host_image(self, image: OutImage, name: str) -> None:
        """See port.Runtime."""
        await self.host_images.give(image, name)

    def present(self) -> frozenset[Snapshot]:
        """See port.Runtime."""
        return self.state.present()

    async def execute(self, step: ExecStep, keep: Callable[[int], bool]) -> ExecResult:
        """See port.Runtime."""
        isolation, settings = await self._prepared()
        await self._restored(step.parent)
        return await self.executor.execute(step, keep, isolation, settings)

    async def edit(self, parent: Snapshot, edits: Sequence[Edit]) -> Snapshot:
        """See port.Runtime."""
        await self._prepared()
        await self._restored(parent)
        return await self.executor.edit(parent, edits)

    async def docker_build(self, step: BuildStep) -> PulledImage:
        """See port.Runtime."""
        isolation, settings = await self._prepared()
        return await self.builder.build(step, isolation, settings)

    def mounted(self, snapshot: Snapshot) -> AbstractAsyncContextManager[Path]:
        """See port.Runtime."""
        return self._mounted(snapshot)

    @contextlib.asynccontextmanager
    async def _mounted(self, snapshot: Snapshot) -> AsyncIterator[Path]:
        await self._prepared()
        await self._restored(snapshot)
        async with self.views.of(snapshot) as root:
            yield root

    async def layers(self, snapshot: Snapshot, forced: Compression = "") -> tuple[LayerBlob, ...]:
        """See port.Runtime."""
        if self.elsewhere is not None and not forced:
            blobs = await self.elsewhere.layers(snapshot)
            if blobs is not None:
                return blobs
        await self._restored(snapshot)
        return await self.layering.of(snapshot, forced)

    async def _restored(self, snapshot: Snapshot) -> None:
        """The snapshot is in storage from now on, if it can be had from elsewhere."""
        if self.elsewhere is not None:
            await self.elsewhere.restore(snapshot)
        elif snapshot and snapshot not in self.state.present():
            raise ContentLost(snapshot, f"snapshot {snapshot[:12]} is not in storage any more")

    async def start_service(self, step: ExecStep, hostname: str, wanted: Readiness) -> RunningService:
        """See port.Runtime."""
        await self._restored(step.parent)
        return await self.services.start(step, hostname, wanted, await self._prepared())

    async def host_service(
        self, hostname: str, host: str, forwards: tuple[tuple[int, int], ...]
    ) -> RunningService:
        """See port.Runtime."""
        await self._prepared()
        return await self.services.relay(hostname, host, forwards)

    async def publish(self, image: Outgoing, address: str, login: Login | None) -> None:
        """See port.Runtime."""
        await self.outlet.publish(image, address, login)

    async def write_tarball(self, image: Outgoing, target: Path, name: str = "") -> None:
        """See port.Runtime."""
        await self.outlet.write_tarball(image, target, name)

    async def remove(self, snapshot: Snapshot) -> None:
        """See port.Runtime."""
        await self.garbage.remove(snapshot)

    async def close(self) -> None:
        """See port.Runtime."""
        async with contextlib.AsyncExitStack() as rest:  # whatever of it fails
            rest.callback(self.garbage.release)
            rest.push_async_callback(self.views.close)
            await self.services.close()

    async def isolation(self) -> Isolation:
        """How commands are isolated here; probed at the first call on a machine. Raises RuntimeFailure."""
        return (await self._prepared())[0]

    async def _prepared(self) -> tuple[Isolation, HostSettings]:
        """What the first piece of real work settles: orphans swept, the isolation, the host's settings."""
        async with self._ready:
            if self._isolation is None:
                await self.garbage.sweep()
                self._isolation = await self.probe.isolation()
            if self._settings is None:
                dump: list[str] = []
                if shutil.which("apt-config"):
                    dump = (await self.runner.run(["apt-config", "dump"], check=False)).text.splitlines()
                self._settings = await anyio.to_thread.run_sync(
                    partial(host_settings, one_id=single_id.is_single(), init=self._isolation.init),
                    self.state.root / "host",
                    self.environ,
                    dump,
                )
            return self._isolation, self._settings


def open_runtime(
    root: Path,
    facts: Facts,
    environ: Mapping[str, str] | None = None,
    *,
    secrets: Callable[[], Iterable[str]] = tuple,
    log: Callable[[str], None] | None = None,
) -> ContainerRuntime:
    """The runtime whose state is in ``root``. ``secrets`` names the values to mask in errors and in the
    log."""
    environ = os.environ if environ is None else environ
    state = open_state(root.absolute(), environ)
    runner = Runner(tool_environ(state, environ), secrets, log, options=lambda: tool_options(state, environ))
    lacking = policy_needed(environ)
    buildah_policy = [f"--signature-policy={state.policy}"] if lacking else []
    skopeo_policy = ["--insecure-policy"] if lacking else []
    enclosures = Enclosures(state, runner)
    working = Working(state, runner, buildah_policy)
    registries = Registries(environ, runner)
    patience = patience_s(environ)
    images = Images(state, runner, facts, registries, insecure_policy=lacking, patience_s=patience)
    host_runner = Runner({**host_environ(environ), "TMPDIR": str(state.temp)}, secrets, log)
    garbage = Garbage(state, runner, enclosures)
    return ContainerRuntime(
        state=state,
        environ=environ,
        runner=runner,
        images=images,
        executor=Executor(runner, working, enclosures, state.temp),
        builder=Builder(state, runner, images, enclosures, garbage.clear_containers, buildah_policy),
        layering=Layers(state, runner, facts, skopeo_policy),
        outlet=Outlet(registries, facts, environ, patience),
        host_images=HostImages(state, host_runner, images, environ, skopeo_policy),
        views=Views(working),
        probe=Probe(state, runner, working, enclosures, facts, partial(notices.once, state.root)),
        garbage=garbage,
        services=ServiceHost(runner, working, enclosures, facts, state.temp),
    )
