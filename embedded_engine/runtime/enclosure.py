"""What encloses a tool that runs containers, so that nothing of it is left however it ends.

The tool runs in a PID namespace of its own: when that namespace's first process dies, the kernel kills all
that came of it. Neither isolation does that: with `oci` the container goes on after Buildah is killed, with
`chroot` a daemonised child does. `--pdeathsig` ends it too when this process is killed. Costs 5 ms. What the
kernel doesn't clear away (the bundle, the OCI runtime's notes, its cgroups) lies in directories named after
this process.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.process_names import unique_name
from embedded_engine.runtime.state import State

CONTAINED = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child")
OWN_PROC = "--mount-proc"
"""Lets a run see its own processes only. In a container whose /proc is masked the kernel refuses it."""


@dataclass(frozen=True, slots=True)
class Enclosure:
    """The directories of one run."""

    temp: Path
    notes: Path
    own_proc: bool = True

    def argv(self, tool: Sequence[str]) -> list[str]:
        """The command line that runs ``tool`` enclosed."""
        return ["env", f"TMPDIR={self.temp}", *CONTAINED, *([OWN_PROC] if self.own_proc else []), *tool]

    def runtime_args(self, kind: str) -> list[str]:
        """Buildah's option that makes the OCI runtime keep its notes here."""
        return [f"--runtime-flag=root={self.notes}"] if kind == "oci" else []


@dataclass(slots=True)
class Enclosures:
    """Makes enclosures and clears them away."""

    state: State
    runner: Runner
    own_proc: bool = True  # settled by the probe

    @contextlib.asynccontextmanager
    async def one(self, runtime: str) -> AsyncIterator[Enclosure]:
        """An enclosure for tools that use the OCI runtime ``runtime``; cleared away at the end."""
        name = unique_name()
        enclosure = Enclosure(
            self.state.temp / name, self.state.runroot / "notes" / name, own_proc=self.own_proc
        )
        for directory in (enclosure.temp, enclosure.notes):
            directory.mkdir(mode=0o700, parents=True)
        try:
            yield enclosure
        finally:
            with anyio.CancelScope(shield=True):
                await self.clear(enclosure, runtime)

    async def clear(self, enclosure: Enclosure, runtime: str) -> None:
        """Remove what is left of a run that has ended."""
        containers = sorted(enclosure.notes.iterdir()) if enclosure.notes.is_dir() else []
        for container in containers:  # only after a run that was killed
            argv = [runtime or "runc", f"--root={enclosure.notes}", "delete", "--force", container.name]
            await self.runner.tidy(argv)
        for directory in (enclosure.notes, enclosure.temp):
            await anyio.to_thread.run_sync(shutil.rmtree, directory, True)  # ignore_errors
