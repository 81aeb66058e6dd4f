"""A model team's repository, small and real, and the commands that the team types."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).parents[2] / "ci" / "main.py"
RUN_TIMEOUT_S = 240

DOCKERFILE = """\
FROM python:3.11-slim
WORKDIR /app
RUN python3 -c "open('/app/dependency', 'w').write('x' * 1000000)"
COPY serve.py words.json ./
USER 10001:10001
EXPOSE 8080
CMD ["python3", "-B", "serve.py"]
"""
SERVE = """\
import json, pathlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = json.loads(pathlib.Path("words.json").read_text())

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"ok": True})

    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
        self.answer({"label": "good" if sum(WORDS.get(word, 0) for word in text.split()) > 0 else "bad"})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""
CONFIG = """\
name: mood
license: Apache-2.0
build:
  dockerfile: Dockerfile
check:
  golden: golden.jsonl
  quality: {data: data.jsonl, metric: accuracy, answer: label, at_least: 0.75}
  abuse: false # a server of ten lines
"""
GOLDEN = [("nice day", "good"), ("sad day", "bad")]
DATA = [*GOLDEN, ("nice nice sad", "good"), ("day", "bad")]


@dataclass(frozen=True)
class Machine:
    """What the team's machine has: an engine state, a loopback registry, and a base image."""

    registry: str
    environ: dict[str, str] = field(repr=False)

    @property
    def state(self) -> Path:
        """The engine's state directory."""
        return Path(self.environ["EMBEDDED_ENGINE_STATE"])


@dataclass(frozen=True)
class Team:
    """A git repository with one model, on a machine."""

    root: Path
    machine: Machine
    engine: str = "embedded"

    @classmethod
    def made(cls, root: Path, machine: Machine, engine: str = "embedded") -> Team:
        """A repository with one commit on main."""
        root.mkdir(parents=True)
        files = {"Dockerfile": DOCKERFILE, "serve.py": SERVE, "modelport.yaml": CONFIG}
        files["words.json"] = json.dumps({"nice": 1, "sad": -1})
        files["golden.jsonl"] = "".join(
            json.dumps({"request": {"json": {"text": text}}, "expected": {"json": {"label": label}}}) + "\n"
            for text, label in GOLDEN
        )
        files["data.jsonl"] = "".join(
            json.dumps({"request": {"json": {"text": text}}, "expected": label}) + "\n"
            for text, label in DATA
        )
        team = cls(root, machine, engine)
        for name, text in files.items():
            (root / name).write_text(text)
        team.git("init", "-q", "-b", "main")
        team.commit("first")
        return team

    def git(self, *arguments: str) -> str:
        """Run git; what it printed."""
        who = ["-c", "user.name=Team", "-c", "user.email=team@example.com"]
        done = subprocess.run(
            ["git", "-C", str(self.root), *who, *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        """Commit everything; the commit's first twelve digits."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")[:12]

    def change(self, name: str, old: str, new: str) -> None:
        """Replace text in a file; it must be there."""
        text = (self.root / name).read_text()
        assert old in text
        (self.root / name).write_text(text.replace(old, new))

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Start the program as the team's terminal would: in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments],
            cwd=self.root,
            env={**self.machine.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=heed_ctrl_c,  # noqa: PLW1509  # no threads here
        )

    def type(self, *arguments: str, **environ: str) -> Typed:
        """Run the program to its end."""
        with self.start(*arguments, **environ) as process:
            out, err = process.communicate(timeout=RUN_TIMEOUT_S)
        return Typed(process.returncode, out, err)

    def run(self, *arguments: str, **environ: str) -> Typed:
        """``run`` on the team's engine, to its end."""
        return self.type("run", "--engine", self.engine, *arguments, **environ)

    def interrupted(self, when: Callable[[], bool] | str, *arguments: str, **environ: str) -> Typed:
        """``run``, and Ctrl-C to the whole group when ``when`` holds, or a process of it has this command."""
        process = self.start("run", "--engine", self.engine, *arguments, **environ)
        if isinstance(when, str):
            text, holds = when, lambda: runs_below(self._root(process), text)
        else:
            holds = when
        wait_for(lambda: holds() or process.poll() is not None)
        assert process.poll() is None, process.communicate()[1]
        os.killpg(process.pid, signal.SIGINT)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        return Typed(process.returncode, out, err)

    def _root(self, process: subprocess.Popen[str]) -> int:
        return process.pid if self.engine == "embedded" else 1  # Dagger's engine is not below its client

    def record(self) -> dict[str, Any]:
        """The newest run's run.json."""
        newest = max(
            (self.root / ".modelport/runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime
        )
        found: dict[str, Any] = json.loads(newest.read_text())
        return found

    def stages(self) -> dict[str, dict[str, Any]]:
        """The newest record's stages by name."""
        return {stage["name"]: stage for stage in self.record()["stages"]}


def runs_below(ancestor: int, text: str) -> bool:
    """Whether a descendant of ``ancestor`` has ``text`` in its command line (other tests run beside this)."""
    parents, found = {}, []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if text in command:
                found.append(int(process.name))
    return any(ancestor in line_of(pid, parents) for pid in found)


def line_of(pid: int, parents: Mapping[int, int]) -> Iterator[int]:
    """A process and its ancestors."""
    while pid in parents:
        yield pid
        pid = parents[pid]


def heed_ctrl_c() -> None:
    """As a terminal starts programs: these tests may run in the background, where SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Typed:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one ``error:`` line."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line

    @property
    def hint(self) -> str:
        """The one ``hint:`` line."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("hint: ")]
        return line


def wait_for(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    """Until ``condition`` holds; AssertionError when it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def left_running(state: Path) -> list[str]:
    """The command lines of processes that name ``state``, and mounts below it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environ = (process / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(state) in command or f"EMBEDDED_ENGINE_STATE={state}" in environ:
            found.append(f"{process.name} {command}")
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    # containers-storage keeps its own directory mounted private for as long as it is used
    return found + [mount for mount in mounts if mount.startswith(f"{state}/") and "/merged" in mount]
