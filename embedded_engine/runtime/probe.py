"""Which way of running containers works on this machine: found by running `true` in one, not by guessing.

Tried in order: `oci` isolation with runc and crun, with a network of its own and with the host's, then
`chroot`. The answer is remembered until a tool, the kernel or the user changes. The container's root holds a
copy of this machine's `true` and its libraries, so no network and no image is needed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import anyio.to_thread

from embedded_engine.runtime.buildah import Isolation
from embedded_engine.runtime.edits import apply_edits
from embedded_engine.runtime.enclosure import Enclosures
from embedded_engine.runtime.networks import SLIRP, run_networked
from embedded_engine.runtime.port import SCRATCH, Copy, Facts, RuntimeFailure
from embedded_engine.runtime.process import CommandFailed, Finished, Runner, missing
from embedded_engine.runtime.state import State, use_driver
from embedded_engine.runtime.working import Working

FACT = "isolation"
TOOLS = ("buildah", "skopeo", "setpriv", "unshare")
_KEYED = (*TOOLS, "podman", "runc", "crun", "slirp4netns", "iptables")
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Attempt:
    """One candidate and why it was not taken ("" if it works)."""

    isolation: Isolation
    reason: str = ""


@dataclass(slots=True)
class Probe:
    """Finds the isolation once; later sessions read the remembered answer."""

    state: State
    runner: Runner
    working: Working
    enclosures: Enclosures
    facts: Facts
    attempts: list[Attempt] = field(default_factory=list)

    async def isolation(self) -> Isolation:
        """The best isolation that works. Raises RuntimeFailure if none does, ToolMissing if a tool lacks."""
        known = self.facts.fact(FACT, machine_key())
        if isinstance(known, dict):
            return Isolation(str(known["kind"]), str(known["network"]), str(known["runtime"]))
        for tool in TOOLS:
            if shutil.which(tool) is None:
                raise missing(tool)
        found = await self._find()
        self.facts.remember(FACT, machine_key(), {name: str(value) for name, value in asdict(found).items()})
        return found

    async def _find(self) -> Isolation:
        try:
            return await self._try_all()
        except CommandFailed as failure:
            if self.state.driver == "vfs" or self.state.present():
                raise
            use_driver(self.state, "vfs")  # no overlay here: slow, but it works everywhere
            try:
                return await self._try_all()
            except CommandFailed:
                raise failure from None

    async def _try_all(self) -> Isolation:
        self.attempts.clear()
        async with self.working.container(SCRATCH) as (name, root):
            await anyio.to_thread.run_sync(
                apply_edits, root, [Copy(file.resolve(), str(file), "0") for file in await self._true()]
            )
            for isolation in candidates():
                reason = await self._works(name, isolation)
                self.attempts.append(Attempt(isolation, reason))
                if not reason:
                    return isolation
        raise RuntimeFailure(
            "no way of running a container works here: "
            + "; ".join(f"{told(one.isolation)}: {one.reason}" for one in self.attempts)
        )

    async def _works(self, container: str, isolation: Isolation) -> str:
        with anyio.move_on_after(_TIMEOUT_S):
            async with self.enclosures.one(isolation.runtime) as enclosure:
                options = [*isolation.args(), *enclosure.runtime_args(isolation.kind), "--no-hosts"]
                argv = ["buildah", "run", *options, container, "--", true_program()]
                try:
                    finished = await run_networked(self.runner, isolation.network, enclosure.argv(argv))
                except RuntimeFailure as failure:
                    return f"{failure}: {failure.detail.splitlines()[-1]}" if failure.detail else str(failure)
            return "" if finished.exit_code == 0 else reason_of(finished)
        return f"no answer in {_TIMEOUT_S} s"

    async def _true(self) -> Sequence[Path]:
        """`true` and the libraries it is linked with (none if it is static)."""
        program = Path(true_program())
        finished = await self.runner.run(["ldd", str(program)], check=False)
        return [program, *(Path(path) for path in sorted(set(re.findall(r"(/\S+) \(0x", finished.text))))]


def candidates() -> Iterator[Isolation]:
    """What to try, best first."""
    slirp = [SLIRP] if shutil.which("slirp4netns") is not None else []
    bridge = ["private"] if shutil.which("iptables") is not None else []  # netavark fails without it, late
    for network in (*slirp, *bridge, "host"):
        for runtime in ("runc", "crun"):
            if shutil.which(runtime) is not None:
                yield Isolation("oci", network, runtime)
    for network in (*slirp, "host"):
        yield Isolation("chroot", network, "")


def told(isolation: Isolation) -> str:
    """For people: "oci (runc), own network"."""
    network = {SLIRP: "own network (slirp4netns)", "private": "own network (bridge)"}.get(
        isolation.network, "the host's network"
    )
    kind = f"oci ({isolation.runtime})" if isolation.kind == "oci" else isolation.kind
    return f"{kind}, {network}"


def reason_of(finished: Finished) -> str:
    """The line of a failed attempt that says most: the last that is not only Buildah passing it on."""
    lines = [line for line in finished.said.splitlines() if line.strip()]
    telling = [
        line for line in lines if not line.startswith(("Error: while running runtime", ": exit status"))
    ]
    return (telling or lines or [f"exit code {finished.exit_code}"])[-1][-300:]


def true_program() -> str:
    """The path of `true` without links."""
    return os.path.realpath(shutil.which("true") or "/bin/true")


def machine_key() -> str:
    """What the answer depends on: the kernel, the user, and the tools as files (no process is started for
    it)."""
    parts = [os.uname().release, str(os.geteuid())]
    for tool in _KEYED:
        path = shutil.which(tool)
        if path is not None:
            status = Path(path).stat()
            parts.append(f"{path}:{status.st_size}:{status.st_mtime_ns}")
    return "|".join(parts)
