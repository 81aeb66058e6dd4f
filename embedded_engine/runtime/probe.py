"""Which way of running containers works on this machine: found by running `true` in one, not by guessing.

First how layers are stored (drivers.py) and whether a run may have a /proc of its own; then, in order, `oci`
isolation with runc and crun, with a network of its own and with the host's, then `chroot`. The answer is
remembered until a tool, the kernel, the user or a setting changes (machine.py). The container's root holds a
copy of this machine's `true` and its libraries, so no network and no image is needed. Last, whether the
machine's init program starts that `true` too.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath

import anyio.to_thread

from embedded_engine.file_locks import file_lock
from embedded_engine.runtime.buildah import Isolation, volume_arg
from embedded_engine.runtime.drivers import Drivers, copies_warning, says_nothing_of_the_machine
from embedded_engine.runtime.edits import apply_edits
from embedded_engine.runtime.enclosure import CONTAINED, OWN_PROC, Enclosures
from embedded_engine.runtime.host_settings import TARGET, written
from embedded_engine.runtime.init import TARGET as INIT
from embedded_engine.runtime.init import init_args, init_program
from embedded_engine.runtime.machine import machine_key
from embedded_engine.runtime.networks import SLIRP, run_networked
from embedded_engine.runtime.port import JSON, SCRATCH, Copy, Facts, RuntimeFailure
from embedded_engine.runtime.process import Finished, Runner, missing
from embedded_engine.runtime.state import State
from embedded_engine.runtime.working import Working

FACT = "isolation"
TOOLS = ("buildah", "skopeo", "setpriv", "unshare")
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Attempt:
    """One candidate and why it was not taken ("" if it works)."""

    kind: str  # storage, processes, isolation or init
    what: str
    reason: str = ""


@dataclass(slots=True)
class Probe:
    """Finds what works once; later sessions read the remembered answer."""

    state: State
    runner: Runner
    working: Working
    enclosures: Enclosures
    facts: Facts
    warn: Callable[[str, str], None]  # told a warning's name and text
    attempts: list[Attempt] = field(default_factory=list)
    copy_s: float = 0  # what vfs takes for drivers.PAYLOAD_MB

    async def isolation(self) -> Isolation:
        """The best isolation that works. Raises RuntimeFailure if none does, ToolMissing if a tool lacks."""
        if (found := self._remembered()) is not None:
            return found
        async with self._alone():
            found = self._remembered()  # by a session that tried while this one waited
            return found if found is not None else await self._tried()

    async def find(self) -> Isolation:
        """Try everything, whatever is remembered. Raises as ``isolation`` does."""
        async with self._alone():
            return await self._tried()

    def _alone(self) -> AbstractAsyncContextManager[None]:
        """Two sessions that try at once would remove each other's images."""
        return file_lock(self.state.root / "probe.lock")

    async def _tried(self) -> Isolation:
        for tool in TOOLS:
            if shutil.which(tool) is None:
                raise missing(tool)
        self.attempts.clear()
        await self._settle_storage()
        await self._settle_processes()
        found = await self._settle_isolation()
        remembered: dict[str, JSON] = {name: str(value) for name, value in asdict(found).items()}
        remembered["own_proc"] = self.enclosures.own_proc
        remembered["driver"] = [self.state.driver, self.state.mount_program]
        remembered["copy_s"] = self.copy_s
        remembered["attempts"] = [[one.kind, one.what, one.reason] for one in self.attempts]
        self.facts.remember(FACT, machine_key(), remembered)
        return found

    def _remembered(self) -> Isolation | None:
        """What was found before, if it is of the storage in use."""
        known = self.facts.fact(FACT, machine_key())
        if not isinstance(known, dict) or known.get("driver") != [
            self.state.driver,
            self.state.mount_program,
        ]:
            return None
        self.enclosures.own_proc = bool(known["own_proc"])
        self.copy_s = float(str(known["copy_s"]))
        attempts = known["attempts"]
        if isinstance(attempts, list):
            self.attempts[:] = [
                Attempt(*(str(part) for part in one)) for one in attempts if isinstance(one, list)
            ]
        return Isolation(*(str(known.get(name) or "") for name in ("kind", "network", "runtime", "init")))

    async def _settle_storage(self) -> None:
        drivers = Drivers(self.state, self.runner, self.working)
        reasons: list[str] = []
        for driver in [*drivers.candidates()]:
            reason = await drivers.why_not(driver)
            self.attempts.append(Attempt("storage", driver.told, reason))
            if not reason:
                break
            reasons.append(f"{driver.told} does not work here ({reason})")
        else:
            raise RuntimeFailure(
                f"layers can't be stored in {self.state.storage}: {'; '.join(reasons)}. "
                "If the state is from another machine, choose a fresh EMBEDDED_ENGINE_STATE"
            )
        if self.state.driver == "vfs":
            self.copy_s = await drivers.cost_of_copies()
            reason = "; ".join(reasons) or "the state directory was begun so"
            self.warn("vfs", copies_warning(self.copy_s, reason))

    async def _settle_processes(self) -> None:
        """Whether /proc can be mounted for a run; where it can't, a run sees the names of our processes."""
        finished = await self.runner.run([*CONTAINED, OWN_PROC, "true"], check=False)
        reason = "" if finished.exit_code == 0 else reason_of(finished)
        if reason:
            plain = await self.runner.run([*CONTAINED, "true"], check=False)
            if plain.exit_code != 0:
                raise RuntimeFailure(f"a process namespace can't be made here: {reason_of(plain)}")
        self.enclosures.own_proc = not reason
        self.attempts.append(Attempt("processes", "a /proc of its own for each run", reason))

    async def _settle_isolation(self) -> Isolation:
        async with self.working.container(SCRATCH) as (name, root):
            await anyio.to_thread.run_sync(
                apply_edits, root, [Copy(file.resolve(), str(file), "0") for file in await self._true()]
            )
            for isolation in candidates():
                reason = await self._works(name, isolation)
                self.attempts.append(Attempt("isolation", told(isolation), reason))
                if not reason:
                    return replace(isolation, init=await self._settle_init(name, isolation))
        raise RuntimeFailure(
            "no way of running a container works here: "
            + "; ".join(f"{one.what}: {one.reason}" for one in self.attempts if one.kind == "isolation")
            + " (`embedded-engine doctor` says what to do)"
        )

    async def _settle_init(self, container: str, isolation: Isolation) -> str:
        """The machine's init program if it works as every run would have it."""
        program = init_program()
        if not program:
            return ""
        data = await anyio.to_thread.run_sync(Path(program).read_bytes)
        directory = await anyio.to_thread.run_sync(
            written, self.state.root / "host", {PurePosixPath(INIT).name: data}
        )
        reason = await self._works(
            container, isolation, [volume_arg(directory, TARGET, True)], init_args(program)
        )
        self.attempts.append(Attempt("init", program, reason))
        return "" if reason else program

    async def _works(
        self, container: str, isolation: Isolation, mounts: Sequence[str] = (), before: Sequence[str] = ()
    ) -> str:
        with anyio.move_on_after(_TIMEOUT_S):
            async with self.enclosures.one(isolation.runtime) as enclosure:
                options = [*isolation.args(), *enclosure.runtime_args(isolation.kind), "--no-hosts", *mounts]
                argv = ["buildah", "run", *options, container, "--", *before, true_program()]
                try:
                    finished = await run_networked(self.runner, isolation.network, enclosure.argv(argv))
                except RuntimeFailure as failure:
                    if says_nothing_of_the_machine(failure):
                        raise
                    said = "; ".join(line.strip() for line in failure.detail.splitlines()[-3:])
                    return f"{failure}: {said}" if said and said not in str(failure) else str(failure)
            if finished.exit_code and says_nothing_of_the_machine(self.runner.failure(argv, finished)):
                raise self.runner.failure(argv, finished)
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
        line
        for line in lines
        if not line.startswith(("Error: while running runtime", "Error: exit status", ": exit status"))
    ]
    return (telling or lines or [f"exit code {finished.exit_code}"])[-1][-300:]


def true_program() -> str:
    """The path of `true` without links."""
    return os.path.realpath(shutil.which("true") or "/bin/true")
