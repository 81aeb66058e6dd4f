"""A push to three registries, killed at random moments, and pushed again: it ends the same.

``python -m tests.registries.kills [--count 200]`` from the repository's root ends with 1 if a rule broke:

- after the kill every tag names something whole, and no tag was set before all three held the release whole;
- the push after it ends well, and leaves the release whole under all its tags in all three.

The way to the registries is slowed down, so that the moments spread over the whole push. What the second push
sends is counted at the proxies: with the journal it goes on in the middle of a layer.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import anyio.abc

from pipelines.errors import PipelineError
from pipelines.push_journal import Journal
from pipelines.registries.descriptors import OCI_MANIFEST, Manifest
from pipelines.registries.layout import ImageLayout
from pipelines.registries.retries import Retries
from pipelines.release_image import ReleaseImage
from pipelines.stages.push import push
from tests.images import names, release_image
from tests.registries.bench import Bench, Outcome, bench, targets, weights
from tests.registries.exchange import Pace

WANTED = names("1.4.0", moving=("latest",))
READY = "ready\n"
CHILD_S = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How big, how slow, how often."""

    count: int = 200
    seed: int = 4
    megabytes: float = 20.0
    part_size: int = 4 * 1024 * 1024
    seconds: float = 2.0
    """About how long an undisturbed push takes."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One killed push and the one after it."""

    moment_s: float
    outcome: Outcome
    sent_first: int
    """Bytes that the killed push got as far as the proxies."""
    sent_again: int
    phase: str
    """How far the killed push had come, as its requests show."""


class Campaign:
    """Killed pushes of one release, each to repositories of its own."""

    def __init__(self, on: Bench, release: ReleaseImage, directory: Path, plan: Plan) -> None:
        self._bench, self._release, self._directory, self._plan = on, release, directory, plan
        self._count = 0
        on.watch.digest = release.digest

    async def length_s(self) -> float:
        """How long an undisturbed push takes, without the start of its process."""
        path = self._next()
        code, told, seconds = await self._push(path)
        if code:
            raise RuntimeError(f"an undisturbed push ended with {code}: {told}")
        self._clean(path)
        return seconds

    async def run(self, moment_s: float) -> Kill:
        """Push, kill, look, push again, look again."""
        path = self._next()
        self._slow(True)
        code, _, _ = await self._push(path, moment_s)
        await self._bench.quiet()
        sent_first, phase = self._received, self._phase
        wrong = [f"after the kill: {one}" for one in self._bench.unfinished(path)]
        self._bench.script.begin()
        self._slow(False)
        again, told = await pushed(self._task(path))  # nobody kills this one, so it needs no process
        wrong += [f"the push after it ended with {again}: {told}"] * (again != 0)
        wrong += [f"in the end: {one}" for one in self._bench.not_final(path, self._release, WANTED)]
        wrong += self._bench.watch.too_early
        sent_again = self._received
        self._clean(path)
        return Kill(moment_s, Outcome(code == -9, code, again, tuple(wrong)), sent_first, sent_again, phase)

    def _next(self) -> str:
        self._count += 1
        self._bench.script.begin()
        self._bench.watch.too_early.clear()
        return f"kills/{self._count}"

    def _slow(self, slowly: bool) -> None:
        """The three share the time; the second push may be quick."""
        pace = Pace(0.01, self._release.size / self._plan.seconds) if slowly else Pace()
        for proxy in self._bench.proxies:
            proxy.pace = pace

    @property
    def _received(self) -> int:
        """Bytes of bodies that arrived."""
        return sum(seen.received for seen in self._bench.script.seen)

    @property
    def _phase(self) -> str:
        """What the last requests of the push were about."""
        seen = self._bench.script.seen
        tags = [one for one in seen if one.method == "PUT" and one.path.endswith(("/1.4.0", "/latest"))]
        if tags:
            return "tags"
        if any(one.method == "PUT" and "/manifests/sha256:" in one.path for one in seen):
            return "manifests"
        return "blobs" if any(one.method in ("POST", "PATCH", "PUT") for one in seen) else "looking"

    async def _push(self, path: str, kill_after_s: float | None = None) -> tuple[int, str, float]:
        """Push in a process of its own; its exit code (-9: killed), what it said, and the seconds it took."""
        command = [sys.executable, "-m", "tests.registries.kills", "--child", json.dumps(self._task(path))]
        async with await anyio.open_process(command, stderr=None) as child:
            try:
                with anyio.fail_after(CHILD_S):
                    return await _watched(child, kill_after_s)
            finally:
                with suppress(ProcessLookupError):
                    child.kill()

    def _task(self, path: str) -> dict[str, object]:
        return {
            "layout": str(self._release.layout.directory),
            "manifest": self._release.digest,
            "hosts": self._bench.hosts,
            "path": path,
            "state": str(self._directory / "state" / path),
            "part_size": self._plan.part_size,
        }

    def _clean(self, path: str) -> None:
        """Half-sent uploads would fill the disk."""
        for registry in self._bench.registries:
            shutil.rmtree(registry.repository(path), ignore_errors=True)


async def _watched(child: anyio.abc.Process, kill_after_s: float | None) -> tuple[int, str, float]:
    assert child.stdout is not None
    said = b""
    while READY.encode() not in said:  # from here on it pushes; Python's start is not what is to be killed
        try:
            said += await child.stdout.receive()
        except anyio.EndOfStream:
            break
    began = time.monotonic()
    if kill_after_s is not None:
        with anyio.move_on_after(kill_after_s):
            await child.wait()
        with suppress(ProcessLookupError):
            child.kill()
    with suppress(anyio.EndOfStream):
        while True:
            said += await child.stdout.receive()
    code = await child.wait()
    return code, said.decode().replace(READY, "").strip(), time.monotonic() - began


async def child(task: dict[str, object]) -> int:
    """What the process that is to be killed does."""
    print(READY, end="", flush=True)
    code, told = await pushed(task)
    print(told)
    return code


async def pushed(task: dict[str, object]) -> tuple[int, str]:
    """The product's push, with the journal that it would have; its exit code, and what was said."""
    layout = ImageLayout(Path(str(task["layout"])))
    body = layout.path(str(task["manifest"])).read_bytes()
    release = ReleaseImage(layout, Manifest(OCI_MANIFEST, body))
    hosts, part_size = task["hosts"], task["part_size"]
    assert isinstance(hosts, list) and isinstance(part_size, int)
    there = targets(hosts, str(task["path"]), Retries(), part_size)
    try:
        await push(release, WANTED, there, journal=Journal.open(Path(str(task["state"])), "langid"))
    except PipelineError as err:
        return err.exit_code, str(err)
    return 0, ""


async def campaign(directory: Path, plan: Plan) -> tuple[int, list[Kill]]:
    """The size of the release times three, and every kill; progress goes to stderr."""
    release = release_image(directory / "image", WANTED, weights(plan.megabytes), "code")
    async with bench(directory) as on:
        run = Campaign(on, release, directory, plan)
        quick_s = await run.length_s()
        run._slow(True)
        slow_s = await run.length_s()
        print(
            f"{release.size / 1e6:.0f} MB to each of three registries; undisturbed {quick_s:.1f} s, "
            f"slowed down {slow_s:.1f} s; seed {plan.seed}",
            file=sys.stderr,
        )
        moments = random.Random(plan.seed)
        found = []
        for number in range(1, plan.count + 1):
            # One in each part of the push, at a random place of it: a few are spread over all of it, too.
            kill = await run.run((number - 1 + moments.random()) / plan.count * slow_s)
            found.append(kill)
            print(_progress(number, kill), file=sys.stderr)
        return release.size * len(on.registries), found


def _progress(number: int, kill: Kill) -> str:
    state = "killed" if kill.outcome.injected else f"ended with {kill.outcome.first}"
    sent = f"{kill.sent_first / 1e6:.1f} MB + {kill.sent_again / 1e6:.1f} MB"
    wrong = "".join(f"\n  WRONG: {one}" for one in kill.outcome.wrong)
    return f"{number:4} at {kill.moment_s:.3f} s in {kill.phase}: {state}; sent {sent}{wrong}"


def table(whole: int, found: Sequence[Kill]) -> str:
    """A line for each phase in which pushes were killed, and what the pushes after them had to send."""
    lines = [
        f"{'killed during':14} {'pushes':>7} {'done on rerun':>14} {'wrong':>6} "
        f"{'sent before':>12} {'sent again':>11} {'sent twice':>11}"
    ]
    for phase in ("looking", "blobs", "manifests", "tags"):
        lines.append(
            _line(phase, whole, [one for one in found if one.phase == phase and one.outcome.injected])
        )
    lines.append(_line("not (too late)", whole, [one for one in found if not one.outcome.injected]))
    return "\n".join([*lines, _line("all", whole, found)])


def _line(name: str, whole: int, kills: Sequence[Kill]) -> str:
    good = sum(one.outcome.again == 0 for one in kills)
    wrong = sum(bool(one.outcome.wrong) for one in kills)
    total = max(1, whole * len(kills))
    before = sum(one.sent_first for one in kills) / total
    again = sum(one.sent_again for one in kills) / total
    twice = sum(max(0, one.sent_first + one.sent_again - whole) for one in kills) / total
    return f"{name:14} {len(kills):7} {good:14} {wrong:6} {before:12.1%} {again:11.1%} {twice:11.1%}"


def main() -> int:
    """The command."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    plan = Plan()
    parser.add_argument("--count", type=int, default=plan.count, help=f"how many ({plan.count})")
    parser.add_argument("--seed", type=int, default=plan.seed, help=f"of the moments ({plan.seed})")
    parser.add_argument("--megabytes", type=float, default=plan.megabytes, help="of the bigger layer")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return anyio.run(child, json.loads(arguments.child))
    plan = replace(plan, count=arguments.count, seed=arguments.seed, megabytes=arguments.megabytes)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="modelport-kills-") as directory:
        whole, found = anyio.run(campaign, Path(directory), plan)
    print(table(whole, found))
    print(f"{time.monotonic() - began:.0f} s")
    return int(any(one.outcome.wrong for one in found))


if __name__ == "__main__":
    sys.exit(main())
