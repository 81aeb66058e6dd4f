"""One session: everything a client's queries share, from its first request to the end of its stdin."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from embedded_engine.caching import attached, tidied
from embedded_engine.downloads import Downloads
from embedded_engine.evaluator import Evaluator
from embedded_engine.events import Events
from embedded_engine.flights import Flights
from embedded_engine.git_sources import GitSources
from embedded_engine.host_files import HostFiles
from embedded_engine.objects import Objects
from embedded_engine.op_image import From
from embedded_engine.progress.choose import Shown
from embedded_engine.progress.screens import Quiet
from embedded_engine.runtime.git import Git
from embedded_engine.runtime.open import ContainerRuntime
from embedded_engine.runtime.port import Login, Runtime, RuntimeFailure
from embedded_engine.secrets import Secrets
from embedded_engine.services import Services
from embedded_engine.store import Store
from embedded_engine.trees import Trees
from embedded_engine.tunnels import Tunnels
from embedded_engine.values import Secret
from embedded_engine.volumes import Volumes

CREATED_DEFAULT = 315_532_800  # 1980-01-01, as for layers


def created_time() -> int:
    """The time an image is said to be made at: ``SOURCE_DATE_EPOCH`` if that is a number."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(text) if text.isascii() and text.isdigit() else CREATED_DEFAULT


@dataclass(slots=True)
class Session:
    """What resolvers reach through their ``Call``."""

    state: Path
    workdir: Path
    store: Store
    runtime: Runtime
    trees: Trees
    host: HostFiles
    secrets: Secrets
    evaluator: Evaluator
    tunnels: Tunnels
    git: GitSources
    downloads: Downloads
    pinning: Flights[str]
    platform: str
    created: int = field(default_factory=created_time)
    objects: Objects = field(default_factory=Objects)
    pins: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)  # of short names
    logins: dict[str, tuple[str, Secret]] = field(default_factory=dict)  # by registry host

    async def login(self, address: str) -> Login | None:
        """The credentials given in this session for the address's registry."""
        found = self.logins.get(registry_host(address))
        return Login(found[0], await self.secrets.value(found[1])) if found else None

    async def pinned(self, address: str) -> str:
        """The digest ``address`` names, asked once per session. Raises RuntimeFailure."""
        known = self.pins.get(address)
        if known is not None:
            return known

        async def ask() -> str:
            return await self.runtime.resolve(address, await self.login(address))

        digest = self.pins[address] = await self.pinning.join(address, ask)
        return digest

    async def located(self, address: str) -> str:
        """An address with its registry: a short name's is the first of registries.conf that has it.

        Raises RuntimeFailure.
        """
        name = address.partition("@")[0]
        if address in self.places or registry_host(name) != "docker.io" or name.startswith("docker.io/"):
            return self.places.get(address) or full_address(address)
        candidates = [full_address(one) for one in self.runtime.short_names(address)]
        for last, candidate in enumerate(candidates, 1 - len(candidates)):
            try:
                if len(candidates) > 1:
                    await self.pinned(candidate)
            except RuntimeFailure:
                if last == 0:
                    raise
            else:
                self.places[address] = candidate
                return candidate
        return full_address(address)

    async def image(self, address: str, platform: str) -> From:
        """The operation that brings the image ``address`` names in this session."""
        address = await self.located(address)
        digest = await self.pinned(address)
        return From(address, digest, platform, await self.login(address))


def registry_host(address: str) -> str:
    """The registry of an image address; path and tag are ignored."""
    first, slash, _ = address.removeprefix("https://").removeprefix("http://").partition("/")
    named = bool(slash) and ("." in first or ":" in first or first == "localhost")
    bare = not slash and ("." in first.partition(":")[0] or first.partition(":")[0] == "localhost")
    return first if named or bare else "docker.io"


def full_address(address: str) -> str:
    """An image address spelled out as Docker reads it: python -> docker.io/library/python:latest."""
    name, at, digest = address.partition("@")
    if registry_host(name) == "docker.io" and not name.startswith("docker.io/"):
        name = f"docker.io/{name}" if "/" in name else f"docker.io/library/{name}"
    if not at and ":" not in name.rsplit("/", 1)[-1]:
        name = f"{name}:latest"
    return f"{name}{at}{digest}"


def machine_platform() -> str:
    """This machine's platform as images name it."""
    names = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7"}
    machine = os.uname().machine
    return f"linux/{names.get(machine, machine)}"


@contextlib.asynccontextmanager
async def open_session(
    state: Path, runtime: Runtime, store: Store, secrets: Secrets, shown: Shown | None = None
) -> AsyncIterator[Session]:
    """A session; when it ends all its runs are cancelled, its services stopped, its store closed."""
    shown = shown or Shown(Quiet())
    file = os.environ.get("EMBEDDED_ENGINE_EVENTS")
    events = Events(Path(file) if file else None, shown.screen, secrets.known, shown.debug)
    secrets.warn = events.note
    async with anyio.create_task_group() as tasks:
        services = Services(Flights(tasks), events)
        trees = Trees(state / "trees")
        volumes = Volumes(state / "volumes")
        evaluator = Evaluator.in_session(
            tasks,
            state,
            store=store,
            runtime=runtime,
            trees=trees,
            secrets=secrets,
            services=services,
            volumes=volumes,
            events=events,
        )
        tunnels = Tunnels(tasks)
        cache = attached(tasks, evaluator, os.environ)
        try:
            yield Session(
                state=state,
                workdir=secrets.workdir,
                store=store,
                runtime=runtime,
                trees=trees,
                host=HostFiles(secrets.workdir, trees),
                secrets=secrets,
                evaluator=evaluator,
                tunnels=tunnels,
                git=GitSources(state / "git", Git(secrets=secrets.known, log=shown.log)),
                downloads=Downloads(store, events),
                pinning=Flights(tasks),
                platform=machine_platform(),
            )
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await tunnels.close()
                await services.close()
                if cache is not None:
                    await cache.close()
                await runtime.close()
                trees.close()
                store.close()
                if isinstance(runtime, ContainerRuntime):
                    await tidied(state, store.kept, os.environ, events.note)
                events.close()
