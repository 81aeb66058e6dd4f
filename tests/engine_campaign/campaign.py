"""Kill after kill on one state, until a run is left to end: what is there after each, and what it answers."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from tests import tiny_base
from tests.engine_campaign import consistency
from tests.engine_campaign.remains import (
    Home,
    below,
    containers,
    files,
    links,
    mounts,
    owner_gone,
    processes,
    tool_of,
)
from tests.engine_campaign.victims import (
    Attempt,
    Hit,
    Way,
    kill_client,
    kill_server,
    kill_tool,
    nothing_left,
    until,
)
from tests.registry_process import RegistryProcess, running_registry

Kind = Literal["server", "tool", "client", "signal"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_WEIGHTS = {"server": 40, "tool": 20, "client": 20, "signal": 20}
_AFTER_SWEEP = ("buildah run", "buildah bud", "runc", "slirp4netns")
"""What a session starts only after it has taken away what dead ones left."""
GONE_S = 10.0
"""Within this time all that a killed run had is gone by itself."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it."""

    kills: int = 200
    seed: int = 6
    chains_on_a_state: int = 4
    length_s: float = 0.0  # over which the moments spread; 0: as long as the first run took


@dataclass(slots=True)
class Kill:
    """One kill and what was found."""

    number: int
    kind: Kind
    way: Way
    phase: str = ""
    what: str = ""
    running: tuple[str, ...] = ()  # the tools at that moment
    gone_s: float | None = None  # until nothing ran, nothing was mounted and no link was left, without help
    swept: bool = False  # the session had done its first work, and so taken away what dead ones left
    files_left: int = 0  # temporary files and working containers, for the next session to take away
    wrong: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Campaign:
    """States, one after the other; on each, chains of kills that end in a run that nobody kills."""

    directory: Path
    registry: RegistryProcess
    base: str
    plan: Plan
    moments: random.Random
    kills: list[Kill] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # found between kills
    reference: dict[str, dict[str, str]] = field(default_factory=dict)
    length_s: float = 6.0
    runs: int = 0

    def run(self) -> None:
        """All of it."""
        state = 0
        while len(self.kills) < self.plan.kills:
            home = Home(self.directory / f"state-{state}")
            home.state.mkdir()
            with nothing_left(home):
                for chain in range(self.plan.chains_on_a_state):
                    if len(self.kills) < self.plan.kills:
                        self._chain(home, f"salt-{chain}")
                self._note(f"state {state}", consistency.problems(home))
            _discard(home)
            state += 1

    def measure(self) -> None:
        """Runs that nobody kills, on a state of their own: what the right answers are, and how long one
        takes."""
        home = Home(self.directory / "reference")
        home.state.mkdir()
        with nothing_left(home):
            for chain in range(self.plan.chains_on_a_state):
                attempt = self._attempt(home, f"salt-{chain}", "run")
                begin = time.monotonic()
                attempt.start()
                code, _ = attempt.end()
                if code:
                    raise RuntimeError(f"a run that nobody kills failed: {attempt.said.read_text()}")
                self.length_s = self.plan.length_s or time.monotonic() - begin
                self.reference[f"salt-{chain}"] = attempt.results()
            self._note("reference", consistency.problems(home))
        _discard(home)

    def _chain(self, home: Home, salt: str) -> None:
        for _ in range(self.moments.randint(5, 9)):
            if len(self.kills) >= self.plan.kills:
                break
            if self._killed(home, salt):
                break  # it ended before its moment: all is cached now
        attempt = self._attempt(home, salt, "run")
        attempt.start()
        home.note(attempt.server_pid())
        code, _ = attempt.end()
        found = [*_said(attempt), *self._answers(attempt, whole=True), *_left(home)]
        if code:
            found.append(f"the run after it failed: {attempt.said.read_text()[-600:]}")
        if found and self.kills:
            self.kills[-1].wrong += found
            self._tell(self.kills[-1])

    def _killed(self, home: Home, salt: str) -> bool:
        """One kill; True if there was nothing to kill any more."""
        kind: Kind = self.moments.choices(KINDS, [_WEIGHTS[one] for one in KINDS])[0]
        way: Way = self.moments.choice(get_args(Way))
        before_it = set(_left(home))
        attempt = self._attempt(home, salt, way)
        attempt.start()
        time.sleep(self.moments.random() ** 1.5 * self.length_s)  # more of them early: a late one costs more
        kill = Kill(len(self.kills) + 1, kind, way)
        hit, before = self._hit(attempt, kill)
        if hit is None:
            attempt.end()
            return True
        kill.what = hit.what
        self.kills.append(kill)
        kill.wrong += [
            one for one in self._after(attempt, kill, before) if kill.swept or one not in before_it
        ]
        kill.wrong += [*_said(attempt), *self._answers(attempt, whole=False)]
        self._tell(kill)
        return False

    def _hit(self, attempt: Attempt, kill: Kill) -> tuple[Hit | None, set[int]]:
        """Kill, as soon as there is what is to be killed; what was killed, and all that ran before."""
        while not attempt.finished():
            server = attempt.server_pid()
            before = set(below(server)) | {server} if server else set()
            kill.phase = attempt.phase()
            kill.running = tuple(sorted({tool for pid in before if (tool := tool_of(pid))}))
            if server:
                attempt.home.note(server)
            kill.swept = kill.swept or any(tool.startswith(_AFTER_SWEEP) for tool in kill.running)
            if kill.swept:
                kill.wrong = _of_the_dead(attempt.home)
            hit = self._strike(attempt, kill.kind)
            if hit is not None:
                return hit, before
            time.sleep(0.005)
        return None, set()

    def _strike(self, attempt: Attempt, kind: Kind) -> Hit | None:
        if kind == "server":
            return kill_server(attempt)
        if kind == "signal":
            return kill_server(attempt, self.moments.choice((signal.SIGTERM, signal.SIGINT)))
        return kill_client(attempt) if kind == "client" else kill_tool(attempt, self.moments)

    def _after(self, attempt: Attempt, kill: Kill, before: set[int]) -> Iterator[str]:
        """What must hold after the kill; the attempt has ended then."""
        kept = attempt.way == "kept" and kill.kind in ("client", "tool")
        if kept:  # the session goes on: what the dead program had asked for ends, and it can be asked again
            if kill.kind == "client":
                kill.gone_s = until(lambda: not _busy(attempt), GONE_S)
                if kill.gone_s is None:
                    yield f"after the client's end still at work: {_busy(attempt)}"
            elif attempt.client is not None:
                attempt.client.wait(120)
            attempt.again()
            code, ended_s = attempt.end()
            if code:
                yield f"the same session, asked again: {attempt.said.read_text()[-600:]}"
        else:
            begin = time.monotonic()
            code, _ = attempt.end()
            ended_s = time.monotonic() - begin if kill.kind != "tool" else 0.0
        if kill.kind == "signal" and ended_s > GONE_S:
            yield f"the engine ended {ended_s:.1f} s after the signal"
        gone_s = until(lambda: not self._things(attempt.home, before), GONE_S)
        kill.gone_s = gone_s if kill.gone_s is None else kill.gone_s
        if gone_s is None:
            yield f"not gone by itself: {self._things(attempt.home, before)[:5]}"
        kill.files_left = len(files(attempt.home)) + len(containers(attempt.home))
        if kill.kind in ("tool", "signal") or kept:
            yield from _left(attempt.home)

    @staticmethod
    def _things(home: Home, before: set[int]) -> list[str]:
        running = [f"process {pid}: {words[:160]}" for pid, words in processes(home).items()]
        return [*running, *mounts(home), *links(before)]

    def _answers(self, attempt: Attempt, *, whole: bool) -> Iterator[str]:
        right = self.reference[attempt.spec["salt"]]
        found = attempt.results()
        for name, answer in found.items():
            if answer != right[name]:
                yield f"{name} answered {answer[:80]!r}, not {right[name][:80]!r}"
        if whole and set(found) != set(right):
            yield f"no answer to {sorted(set(right) - set(found))}"

    def _attempt(self, home: Home, salt: str, way: Way) -> Attempt:
        self.runs += 1
        work = self.directory / f"work-{self.runs}"
        work.mkdir()
        spec: dict[str, Any] = {
            "base": self.base,
            "salt": salt,
            "target": f"{self.registry.host}/campaign/{self.runs}:1",
            "work": str(work),
            "log": str(work / "log"),
            "nonce": str(self.runs),
        }
        return Attempt(home, spec, way)

    def _note(self, where: str, found: list[str]) -> None:
        self.wrong += [f"{where}: {one}" for one in found]
        for one in found:
            print(f"     WRONG in {where}: {one}", file=sys.stderr)

    def _tell(self, kill: Kill) -> None:
        gone = "-" if kill.gone_s is None else f"{kill.gone_s:.1f} s"
        line = f"{kill.number:4} {kill.kind} ({kill.way}) in {kill.phase}: {kill.what}; gone after {gone}"
        print(line + "".join(f"\n     WRONG: {one}" for one in kill.wrong), file=sys.stderr)


def _busy(attempt: Attempt) -> list[str]:
    """The engine's tools, but for services, which stay until the session ends."""
    server = attempt.server_pid()
    found = [(pid, tool_of(pid)) for pid in below(server)]
    services = {pid for pid, tool in found if "perl /server.pl" in " ".join(processes_of(pid))}
    return sorted(tool for pid, tool in found if tool and pid not in services and not _serves(pid))


def processes_of(pid: int) -> list[str]:
    """The arguments of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return []


def _serves(pid: int) -> bool:
    words = processes_of(pid)
    return any("/server.pl" in " ".join(processes_of(one)) for one in below(pid)) or "/server.pl" in words


def _of_the_dead(home: Home) -> list[str]:
    """What sessions before this one left and this one should have taken away."""
    named = [name for name in containers(home) if owner_gone(name)]
    return [f"not swept: {one}" for one in (*files(home, dead_only=True), *named)]


def _said(attempt: Attempt) -> Iterator[str]:
    text = attempt.said.read_text("utf-8", "replace")
    if "Traceback" in text or "fault in the embedded engine" in text:
        yield f"a traceback: {text[-1500:]}"


def _left(home: Home) -> Iterator[str]:
    """After a session that ended in order nothing at all is left."""
    for one in (*containers(home), *files(home)):
        yield f"left after the session's end: {one}"


def _discard(home: Home) -> None:
    shutil.rmtree(home.state, ignore_errors=True)
    shutil.rmtree(home.runroot, ignore_errors=True)


@contextmanager
def campaign(directory: Path, plan: Plan) -> Iterator[Campaign]:
    """A campaign with a registry and a base image of its own."""
    with ExitStack() as stack:
        registry = stack.enter_context(running_registry(directory / "registry"))
        tiny_base.write_layout(directory / "layout")
        base = f"{registry.host}/tiny:1"
        tiny_base.push(directory / "layout", base)
        yield Campaign(directory, registry, base, plan, random.Random(plan.seed))


def machine() -> str:
    """What it ran on."""
    version = subprocess.run(["buildah", "--version"], capture_output=True, text=True, check=False).stdout
    return version.strip()
