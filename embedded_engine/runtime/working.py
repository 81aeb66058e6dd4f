"""Buildah's working containers: made for one piece of work, named after the process that made them, always
removed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from embedded_engine.runtime.port import SCRATCH, RuntimeFailure, Snapshot
from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.process_names import unique_name
from embedded_engine.runtime.state import State

EPOCH = 315_532_800
"""1980-01-01: the one time every file in a layer of ours has (zip files know no earlier one)."""


@dataclass(slots=True)
class Working:
    """Makes, mounts, commits and removes working containers."""

    state: State
    runner: Runner
    policy: Sequence[str] = ()  # a --signature-policy where the machine has none
    gone: set[str] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def container(
        self, parent: Snapshot, options: Sequence[str] = ()
    ) -> AsyncIterator[tuple[str, Path]]:
        """A container on ``parent`` and the host path of its root; removed at the end unless it was
        committed."""
        name = unique_name()
        try:
            await self.runner.run(from_argv(parent, name, [*self.policy, *options]))
            mounted = await self.runner.run(["buildah", "mount", name])
            yield name, Path(mounted.text)
        finally:
            if name in self.gone:
                self.gone.discard(name)
            else:
                with anyio.CancelScope(shield=True):
                    await self.remove(name)

    async def commit(self, name: str) -> Snapshot:
        """The container's file system as an image; the container goes away with it."""
        finished = await self.runner.run(commit_argv(name, self.policy))
        self.gone.add(name)
        return Snapshot(finished.text.splitlines()[-1])

    async def remove(self, name: str) -> None:
        """Remove a container; one that is not there is no error."""
        await self.runner.tidy(["buildah", "rm", name])
        with contextlib.suppress(RuntimeFailure):  # a damaged index: the next session sets it aside
            for identity, known in self.state.containers():
                if known == name:  # one whose `buildah from` was killed before Buildah noted it
                    self.state.note_container(identity)
                    await self.runner.tidy(["buildah", "rm", name])


def from_argv(parent: Snapshot, name: str, options: Sequence[str]) -> list[str]:
    """The command that makes a working container of a snapshot that is in storage."""
    image = "scratch" if parent == SCRATCH else parent
    return ["buildah", "from", "--quiet", "--pull-never", *options, "--name", name, image]


def commit_argv(name: str, policy: Sequence[str]) -> list[str]:
    """The command that commits and removes a container.

    With ``--timestamp`` Buildah writes that one time into every entry of the layer, so what a layer holds
    (and its digest) does not depend on when it was made.
    """
    options = ["--quiet", "--rm", "--format=oci", f"--timestamp={EPOCH}"]
    return ["buildah", "commit", *options, *policy, name]
