"""The embedded engine's own figures, each beside what it is to be compared with. Prints a table.

    .venv/bin/python benchmarks/engine.py [--only NAME ...] [--times N] [--big-mb N]

Real sessions, a real loopback registry, a small Debian base made from this machine's files. Whatever is
compared runs in turn in the same minutes, for machines are noisy; medians are shown. Where a `dagger` CLI and
its runner are found, the warm rerun is compared with Dagger's engine too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import tiny_base  # noqa: E402  the path is known now
from engine_process import SessionProcess, based, engine_session  # noqa: E402
from registry_process import running_registry  # noqa: E402

STEPS = 30
sys.setrecursionlimit(20_000)  # the answer to a chain of 1,000 calls nests as deep
PROGRAM = """
import sys, time
import anyio, dagger
from dagger import dag

async def main():
    began = time.monotonic()
    async with dagger.connection(dagger.Config(retry=None)):
        container = dag.container().from_(sys.argv[1])
        for number in range({steps}):
            container = container.with_exec(["sh", "-c", f"echo {{number}} > /n{{number}}"])
        await container.sync()
        print(time.monotonic() - began)

anyio.run(main)
"""


@dataclass(frozen=True)
class Bench:
    """Where things are."""

    work: Path
    base: str
    registry: str
    times: int
    big_mb: int

    @contextlib.contextmanager
    def session(self, name: str = "state") -> Iterator[SessionProcess]:
        with engine_session(self.work / name, "--quiet") as session:
            yield session

    def environ(self, name: str = "state") -> dict[str, str]:
        return {**os.environ, "EMBEDDED_ENGINE_STATE": str(self.work / name), "EMBEDDED_ENGINE_QUIET": "1"}


@dataclass(frozen=True)
class Figure:
    """A line of the table."""

    what: str
    value: str
    goal: str

    def line(self) -> str:
        return f"{self.what:<66} {self.value:>34}   {self.goal}"


def timed(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def run_python(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True)


def median(values: list[float]) -> float:
    return statistics.median(values)


def start(bench: Bench) -> list[Figure]:
    """A process is started, its port read, a question answered; the second asks what needs everything."""

    def answered(chain: str) -> float:
        began = time.monotonic()
        with bench.session() as session:
            session.leaf(chain)
            return time.monotonic() - began

    answered("version")  # the first session of a state looks at the machine
    first = [answered("version") for _ in range(bench.times)]
    loaded = [answered("container { id }") for _ in range(bench.times)]
    python = [timed(lambda: run_python("import graphql, uvicorn")) for _ in range(bench.times)]
    return [
        Figure("session start to the first answer (version)", f"{median(first):.2f} s", "≤ 0.5 s"),
        Figure("  to the first container's id", f"{median(loaded):.2f} s", ""),
        Figure("  of it Python with graphql and uvicorn", f"{median(python):.2f} s", ""),
    ]


def exec_true(bench: Bench) -> list[Figure]:
    """`true` by a session, and the same by hand in the same storage: from, run, commit."""
    root, runroot = bench.work / "hand", Path(tempfile.mkdtemp(dir="/run"))
    buildah = ["buildah", f"--root={root}", f"--runroot={runroot}", "--storage-driver=overlay"]

    limits = {"CONTAINERS_CONF": str(bench.work / "state/containers.conf")}  # ulimits this machine can set

    def quiet(*words: str) -> str:
        done = subprocess.run(
            [*buildah, *words], capture_output=True, text=True, check=False, env={**os.environ, **limits}
        )
        if done.returncode:
            sys.exit(f"buildah {words[0]}: {done.stderr}")
        return done.stdout.strip()

    ours, by_hand = [], []
    with bench.session() as session:
        session.leaf(based(bench.base, 'withExec(args: ["true"])', "sync"))
        quiet("pull", "--quiet", "--tls-verify=false", bench.base)
        for number in range(bench.times):
            step = f'withEnvVariable(name: "N", value: "{time.time_ns()}")'
            chain = based(bench.base, step, 'withExec(args: ["true"])', "sync")
            ours.append(timed(lambda chain=chain: session.leaf(chain)))
            began = time.monotonic()
            name = quiet("from", "--pull=never", bench.base)
            quiet("run", "--isolation=oci", "--network=host", name, "--", "true")
            quiet("commit", "--quiet", "--rm", name, f"by-hand-{number}")
            by_hand.append(time.monotonic() - began)
    subprocess.run([*buildah, "rmi", "--all", "--force"], capture_output=True, check=False)
    shutil.rmtree(runroot, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    ratio = median([a / b for a, b in zip(ours, by_hand, strict=True)])
    return [
        Figure(
            "a withExec of `true`, over from + run + commit by hand",
            f"{median(ours):.2f} / {median(by_hand):.2f} s = {ratio:.2f}",
            "≤ 1.15",
        )
    ]


def warm_rerun(bench: Bench) -> list[Figure]:
    """A program of 30 operations that has run before: from connecting to the last answer, and all of it."""
    program = bench.work / "program.py"
    program.write_text(PROGRAM.format(steps=STEPS))
    command = [sys.executable, str(program), bench.base]
    run = [sys.executable, "-m", "embedded_engine", "run", *command]

    def once(events: Path | None = None) -> tuple[float, float]:
        environ = bench.environ() | ({"EMBEDDED_ENGINE_EVENTS": str(events)} if events else {})
        began = time.monotonic()
        done = subprocess.run(run, check=True, capture_output=True, text=True, env=environ)
        return float(done.stdout), time.monotonic() - began

    once()
    events = bench.work / "events.jsonl"
    once(events)
    executed = sum(
        not line.get("cached", True)
        for line in map(json.loads, events.read_text().splitlines())
        if "cached" in line
    )
    runs = [once() for _ in range(bench.times)]
    sdk = [timed(lambda: run_python("import dagger")) for _ in range(bench.times)]
    figures = [
        Figure(
            f"warm rerun of {STEPS} operations, connecting to last answer ({executed} executed)",
            f"{median([each for each, _ in runs]):.2f} s",
            "≤ 0.6 s, 0",
        ),
        Figure(
            "  the whole process (the SDK's import alone)",
            f"{median([each for _, each in runs]):.2f} s ({median(sdk):.2f} s)",
            "≤ Dagger's engine",
        ),
    ]
    return figures + on_dagger(bench, command)


def on_dagger(bench: Bench, command: list[str]) -> list[Figure]:
    """The same program under `dagger run`, where that is possible."""
    dagger = shutil.which("dagger")
    if dagger is None or "_EXPERIMENTAL_DAGGER_RUNNER_HOST" not in os.environ:
        return [Figure("  on Dagger's engine", "no dagger CLI with a runner here", "")]
    run = [dagger, "--progress=plain", "run", *command]
    runs = []
    for _ in range(bench.times + 1):
        began = time.monotonic()
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        if done.returncode:
            return [Figure("  on Dagger's engine", done.stderr.strip().splitlines()[-1][:60], "")]
        runs.append((float(done.stdout.split()[-1]), time.monotonic() - began))
    warm = runs[1:]
    text = f"{median([each for each, _ in warm]):.2f} s, {median([each for _, each in warm]):.2f} s"
    return [Figure("  on Dagger's engine, from connecting; the whole process", text, "")]


def parallel_execs(bench: Bench) -> list[Figure]:
    """Four execs that sleep two seconds, asked at once, over one of them."""

    def asleep(count: int, session: SessionProcess) -> float:
        marks = [f"{time.time_ns()}{number}" for number in range(count)]
        chains = [
            based(
                bench.base,
                f'withEnvVariable(name: "N", value: "{mark}")',
                'withExec(args: ["sleep", "2"])',
                "sync",
            )
            for mark in marks
        ]
        roots = " ".join(f"q{number}: {chain}" for number, chain in enumerate(chains))
        return timed(lambda: session.ask("{ " + roots + " }"))

    pairs = []
    with bench.session() as session:
        asleep(1, session)
        for _ in range(bench.times):
            pairs.append((asleep(4, session), asleep(1, session)))
    ratio = median([four / one for four, one in pairs])
    text = (
        f"{median([four for four, _ in pairs]):.2f} / {median([one for _, one in pairs]):.2f} s = {ratio:.2f}"
    )
    return [Figure("four independent execs of 2 s, over one of them", text, "≤ 1.3")]


def memory(bench: Bench) -> list[Figure]:
    """The server's peak while an image with a big incompressible layer is built and pushed."""
    if not bench.big_mb:
        return []
    command = f"head -c {bench.big_mb}M /dev/urandom > /weights; echo {time.time_ns()}"
    steps = (
        f'withExec(args: ["sh", "-c", "{command}"])',
        f'publish(address: "{bench.registry}/big:1")',
    )
    with bench.session("big") as session:
        session.limit_s = 1800
        seconds = timed(lambda: session.leaf(based(bench.base, *steps)))
        status = Path(f"/proc/{session.process.pid}/status").read_text()
    peak = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    return [
        Figure(
            f"server memory, building and pushing {bench.big_mb} MB ({seconds:.0f} s)",
            f"{peak:.0f} MB",
            "≤ 120 MB",
        )
    ]


def planning(bench: Bench) -> list[Figure]:
    """What an operation costs that is only planned (not run), in chains of 100 and of 1,000."""
    per_operation = {}
    with bench.session() as session:
        for length in (100, 1000, 100, 1000):
            found = []
            for _ in range(bench.times):
                mark = time.time_ns()
                steps = [f'withExec(args: ["echo", "{mark}", "{number}"])' for number in range(length)]
                chain = based(bench.base, *steps, "id")
                found.append(timed(lambda chain=chain: session.leaf(chain)) / length)
            per_operation[length] = median(found)
    ratio = per_operation[1000] / per_operation[100]
    text = f"{per_operation[100] * 1e3:.2f} / {per_operation[1000] * 1e3:.2f} ms = {ratio:.2f}"
    return [Figure("planning an operation in a chain of 100, and of 1,000", text, "± 20 %")]


PARTS = {
    "start": start,
    "exec": exec_true,
    "warm": warm_rerun,
    "parallel": parallel_execs,
    "planning": planning,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--big-mb", type=int, default=3000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        work = Path(directory)
        tiny_base.write_layout(work / "layout")
        with running_registry(work / "registry") as registry:
            base = f"{registry.host}/tiny:1"
            tiny_base.push(work / "layout", base)
            bench = Bench(work, base, registry.host, options.times, options.big_mb)
            for name in options.only:
                for figure in PARTS[name](bench):
                    print(figure.line(), flush=True)


if __name__ == "__main__":
    main()
