"""Three real registries, each behind a proxy of its own, and the product's own push to all of them."""

from __future__ import annotations

import base64
import random
from collections.abc import AsyncIterator, Collection
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio.to_thread

from pipelines.registries.credentials import Login
from pipelines.registries.oci import OciRegistry
from pipelines.registries.quirks import Quirks
from pipelines.registries.reference import Repository
from pipelines.registries.retries import Retries
from pipelines.release_image import ReleaseImage
from pipelines.stages.tag import Names
from tests.registries import state
from tests.registries.exchange import Pace
from tests.registries.faults import Script
from tests.registries.proxy import FaultProxy
from tests.registries.wire import Ask, Front, Reply
from tests.registry_process import RegistryProcess, running_registry

PLACES = ("a", "b", "c")


class Watch(Front):
    """Looks at every tag as it is set: the release has to be whole in every registry before one names it."""

    def __init__(self, registries: Collection[RegistryProcess]) -> None:
        self.digest = ""
        self.too_early: list[str] = []
        self._registries = registries

    async def answer(self, ask: Ask) -> Reply | None:
        """Never, but note a tag that comes too early."""
        tag = ask.path.rpartition("/")[2]
        if ask.method != "PUT" or "/manifests/" not in ask.path or ":" in tag or state.is_fallback(tag):
            return None
        for registry in self._registries:
            found = await anyio.to_thread.run_sync(state.lacks, registry, ask.repository, self.digest)
            self.too_early += [f"{tag} before {registry.host} was whole: {lack}" for lack in found]
        return None


@dataclass(frozen=True, slots=True)
class Bench:
    """The registries and their proxies, which count requests together."""

    registries: tuple[RegistryProcess, ...]
    proxies: tuple[FaultProxy, ...]
    script: Script
    watch: Watch

    @property
    def hosts(self) -> list[str]:
        """The proxies' addresses."""
        return [proxy.host for proxy in self.proxies]

    async def quiet(self) -> None:
        """Until the registries have dealt with everything that was asked of them, killed clients included."""
        with anyio.move_on_after(5):
            while any(proxy.is_busy for proxy in self.proxies):  # noqa: ASYNC110  there is no event to wait for
                await anyio.sleep(0.01)
        for proxy in self.proxies:
            await proxy.hang_up()
        await anyio.sleep(0.02)

    def unfinished(self, path: str) -> list[str]:
        """Tags of any registry that name something that isn't whole."""
        return [
            f"{registry.host} {one}"
            for registry in self.registries
            for one in state.unfinished(registry, path)
        ]

    def named(self, path: str) -> list[str]:
        """Tags of any registry that name a release."""
        return [
            f"{registry.host} {tag}" for registry in self.registries for tag in state.named(registry, path)
        ]

    def not_final(self, path: str, release: ReleaseImage, names: Names) -> list[str]:
        """How the registries differ from what a good push leaves."""
        tags = (*names.version_tags, *names.moving_tags)
        return [
            f"{registry.host} {one}"
            for registry in self.registries
            for one in state.is_final(registry, path, release.digest, tags)
        ]


@asynccontextmanager
async def bench(directory: Path, pace: Pace | None = None) -> AsyncIterator[Bench]:
    """Start it all below ``directory``; it ends with the block."""
    with ExitStack() as processes:
        registries = tuple(
            processes.enter_context(running_registry(directory / f"registry-{place}")) for place in PLACES
        )
        script, watch = Script(), Watch(registries)
        proxies = tuple(
            FaultProxy(registry.host, script, front=watch, place=place, pace=pace)
            for registry, place in zip(registries, PLACES, strict=True)
        )
        one, two, three = proxies
        async with one.running(), two.running(), three.running():
            yield Bench(registries, proxies, script, watch)


def targets(hosts: Collection[str], path: str, retries: Retries, part_size: int) -> tuple[OciRegistry, ...]:
    """The same repository at each host, with a login, so that a 401 is followed by a new token."""

    async def login() -> Login:
        return Login("pusher", "not-a-secret")

    quirks = Quirks(part_size=part_size)
    return tuple(OciRegistry(Repository(host, path), login, retries=retries, quirks=quirks) for host in hosts)


def weights(megabytes: float) -> str:
    """Text that hardly packs, always the same, for a layer of about so many megabytes."""
    count = int(megabytes * 1e6)
    return base64.b64encode(random.Random(7).randbytes(count)).decode()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one disturbed push and the one after it did."""

    injected: bool
    """Whether the fault struck at all."""
    first: int
    """The exit code of the disturbed push; -9: killed."""
    again: int
    """Of the push after it."""
    wrong: tuple[str, ...] = ()
    """Where a rule was broken; none is the aim."""
    notes: tuple[str, ...] = field(default=())
