"""Starting the program and its engine in the ways that people do, and killing one of them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.engine_campaign.remains import Home, below, processes, tool_of

PROGRAM = Path(__file__).with_name("program.py")
ENGINE = [sys.executable, "-m", "embedded_engine"]
Way = Literal["run", "own", "kept"]
"""``embedded-engine run PROGRAM``; a session that the program starts; a session that outlives the program."""
END_S = 120.0


@dataclass(slots=True)
class Attempt:
    """One program on one state: its log, its two processes."""

    home: Home
    spec: dict[str, Any]
    way: Way
    client: subprocess.Popen[bytes] | None = None
    server: subprocess.Popen[bytes] | None = None
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """What the program tells of its parts."""
        return Path(self.spec["log"])

    @property
    def said(self) -> Path:
        """The stderr of both."""
        return self.log.with_suffix(".stderr")

    def start(self) -> None:
        """Start what the way needs."""
        work = str(self.spec["work"])
        file = self.log.with_suffix(".spec.json")
        file.write_text(json.dumps(self.spec))
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DAGGER_SESSION")},
            "EMBEDDED_ENGINE_STATE": str(self.home.state),
            "PYTHONPATH": str(Path.cwd()),
        }
        program = [sys.executable, str(PROGRAM), str(file)]
        if self.way == "run":
            self.server = self._process([*ENGINE, "run", "--quiet", *program], work)
        elif self.way == "own":
            self.client = self._process(program, work)
        else:
            self._start_session(work)
            self.client = self._process(program, work)

    def _start_session(self, work: str) -> None:
        self.server = self._process([*ENGINE, "session", "--quiet"], work, pipes=True)
        assert self.server.stdout is not None
        line = self.server.stdout.readline()
        if not line:
            raise RuntimeError(f"the session did not start: {self.said.read_text()}")
        params = json.loads(line)
        self.environ["DAGGER_SESSION_PORT"] = str(params["port"])
        self.environ["DAGGER_SESSION_TOKEN"] = params["session_token"]

    def again(self) -> None:
        """A second program on the session that was kept."""
        file = self.log.with_suffix(".spec.json")
        self.client = self._process([sys.executable, str(PROGRAM), str(file)], str(self.spec["work"]))

    def _process(self, argv: list[str], work: str, *, pipes: bool = False) -> subprocess.Popen[bytes]:
        with self.said.open("ab") as stream:
            return subprocess.Popen(
                argv,
                cwd=work,
                env=self.environ,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stderr=stream,
            )

    def finished(self) -> bool:
        """Whether the program has ended."""
        process = self.client or self.server
        return process is None or process.poll() is not None

    def server_pid(self) -> int:
        """The engine's process, 0 while there is none."""
        if self.server is not None:
            return self.server.pid
        assert self.client is not None
        for pid, words in processes(self.home).items():
            if "-m embedded_engine session" in words and pid in below(self.client.pid):
                return pid
        return 0

    def client_pid(self) -> int:
        """The program's process, 0 while there is none."""
        if self.client is not None:
            return self.client.pid
        assert self.server is not None
        words = processes(self.home)
        return next((pid for pid in below(self.server.pid) if str(PROGRAM) in words.get(pid, "")), 0)

    def end(self) -> tuple[int, float]:
        """Wait until all has ended by itself; the program's exit code, and how long the engine took after
        it."""
        process = self.client or self.server
        assert process is not None
        code = process.wait(END_S)
        begin = time.monotonic()
        if self.way == "kept" and self.server is not None:
            assert self.server.stdin is not None and self.server.stdout is not None
            with contextlib.suppress(OSError):
                self.server.stdin.close()
            self.server.wait(END_S)
            self.server.stdout.close()
        return code, time.monotonic() - begin

    def results(self) -> dict[str, str]:
        """The parts that ended, by name."""
        return {line["end"]: line["result"] for line in self.lines() if "end" in line}

    def lines(self) -> list[dict[str, str]]:
        """The program's log; a last line that a kill cut is left out."""
        found = []
        for line in self.log.read_text().splitlines() if self.log.exists() else ():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def phase(self) -> str:
        """What the program waits for: from, work, out; "start" before anything."""
        begun = [line["begin"] for line in self.lines() if "begin" in line]
        if not begun:
            return "start"
        if begun[-1] == "from":
            return "from"
        return "out" if begun[-1] in ("publish", "export", "archive", "volume_again") else "work"


@dataclass(frozen=True, slots=True)
class Hit:
    """What was killed."""

    pid: int
    what: str


def kill_server(attempt: Attempt, number: int = signal.SIGKILL) -> Hit | None:
    """Send the engine's process a signal."""
    pid = attempt.server_pid()
    return _sent(pid, number, signal.Signals(number).name) if pid else None


def kill_client(attempt: Attempt) -> Hit | None:
    """kill -9 of the program."""
    pid = attempt.client_pid()
    return _sent(pid, signal.SIGKILL, "the program") if pid else None


def kill_tool(attempt: Attempt, moments: random.Random) -> Hit | None:
    """kill -9 of one of the engine's tools, any of those that run now."""
    server = attempt.server_pid()
    running = [(pid, tool) for pid in below(server) if (tool := tool_of(pid))] if server else []
    if not running:
        return None
    pid, tool = moments.choice(running)
    return _sent(pid, signal.SIGKILL, tool)


def _sent(pid: int, number: int, what: str) -> Hit | None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return None
    return Hit(pid, what)


def until(condition: Callable[[], object], limit_s: float) -> float | None:
    """How long it took until ``condition`` held; None if it did not within the limit."""
    begin = time.monotonic()
    while time.monotonic() - begin < limit_s:
        if condition():
            return time.monotonic() - begin
        time.sleep(0.02)
    return None


@contextlib.contextmanager
def nothing_left(home: Home) -> Iterator[None]:
    """Whatever happens, no process of this state outlives the block: only those are killed."""
    try:
        yield
    finally:
        for pid in processes(home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
