"""Every fault at every request of a push to three registries, and the push again: what stands then is right.

``python -m tests.registries.sweep [--quick]`` from the root of the repository ends with 1 if a rule broke:

- after the disturbed push every tag names something whole; where the push ended with 6, nothing is named;
- no tag is ever set before all three registries hold the release whole (looked at as each tag is set);
- a push that ended well, and every push after a disturbed one, leaves the release whole under all its tags.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from pipelines.errors import PipelineError
from pipelines.push_journal import Journal
from pipelines.registries.retries import Retries
from pipelines.release_image import ReleaseImage
from pipelines.stages.push import push
from pipelines.stages.tag import Names
from tests.images import names, release_image
from tests.registries.bench import Bench, Outcome, bench, targets, weights
from tests.registries.faults import KINDS, Fault, Kind, Seen, When, Where

QUICK = Retries(attempts=4, first_wait_s=0.002, longest_wait_s=1, longest_asked_s=2, silence_s=1)
"""A client that waits a second at most, so that stalls don't take minutes."""
PART = 64_000
DEAD = ("503", "401", "403", "429", "cut", "lost", "stall", "name-unknown", "cut-body", "flip-body")
"""Faults that also last: from a request on, one registry does nothing else."""
WANTED = names("1.4.0", moving=("latest",))


@dataclass(frozen=True, slots=True)
class Case:
    """One disturbed push: a fault, and where; ``only`` one registry, or counted over all."""

    fault: str
    only: str = ""

    @property
    def row(self) -> str:
        """The line of the table that it belongs to."""
        kind, _, when = self.fault.partition("@")
        return f"{kind}, from then on" if when.endswith("-") else kind


class Sweep:
    """Disturbed pushes of one release, each to repositories of its own."""

    def __init__(self, on: Bench, release: ReleaseImage, wanted: Names, state: Path) -> None:
        self._bench, self._release, self._names, self._state = on, release, wanted, state
        self._count = 0
        on.watch.digest = release.digest

    async def requests(self) -> Sequence[Seen]:
        """What an undisturbed push asks of the three registries."""
        self._count += 1
        self._bench.script.begin()
        await self._push(f"sweep/{self._count}")
        return self._bench.script.seen

    async def run(self, case: Case) -> Outcome:
        """Push disturbed, look, push again, look again."""
        self._count += 1
        path = f"sweep/{self._count}"
        self._bench.watch.too_early.clear()
        self._bench.script.begin([Fault.parse(case.fault)], case.only)
        first, told = await self._push(path)
        await self._bench.quiet()
        injected = bool(self._bench.script.injected)
        wrong = self._look(path, first) + [f"{case.fault}: {told}"] * (first not in (0, 6, 7))
        self._bench.script.begin()
        again, told = await self._push(path)
        wrong += [f"the push after it ended with {again}: {told}"] * (again != 0)
        wrong += [f"in the end: {one}" for one in self._bench.not_final(path, self._release, self._names)]
        return Outcome(injected, first, again, tuple(wrong + self._bench.watch.too_early))

    def _look(self, path: str, code: int) -> list[str]:
        found = [f"after {code}: {one}" for one in self._bench.unfinished(path)]
        if code == 6:
            found += [f"nothing should be named: {one}" for one in self._bench.named(path)]
        if code == 0:
            found += [f"after 0: {one}" for one in self._bench.not_final(path, self._release, self._names)]
        return found

    async def _push(self, path: str) -> tuple[int, str]:
        """The exit code, and what was said."""
        try:
            there = targets(self._bench.hosts, path, QUICK, PART)
            journal = Journal.open(self._state / path, "langid")
            await push(self._release, self._names, there, journal=journal)
        except PipelineError as err:
            return err.exit_code, str(err)
        except Exception as err:  # what should not happen is what is looked for
            return 1, repr(err)
        return 0, ""


def cases(seen: Sequence[Seen], *, every: int) -> Iterator[Case]:
    """Every fault at every request that it can strike, of those of an undisturbed push.

    ``every`` greater than 1: only at every so many-th of them, beginning elsewhere for each fault.
    """
    for turn, kind in enumerate(KINDS.values()):
        for group in groups(kind):
            when = When.parse(group) if group else When()
            count = sum(when.is_counted(one.method, one.path) for one in seen)
            for index in _some(count, every, turn):
                yield Case(f"{kind.name}@{group}{'#' if group else ''}{index}")
    single = sum(one.place == "b" for one in seen)
    for turn, name in enumerate(DEAD):
        for index in _some(single, every, turn):
            yield Case(f"{name}@{index}-", only="b")


def groups(kind: Kind) -> tuple[str, ...]:
    """The requests that a kind of fault can strike, each to be counted for itself; "" for all."""
    if kind.where is Where.BODY:
        return ("PUT", "PATCH")
    if kind.where is Where.REPLY:
        return ("GET",)
    return {"416": ("PUT/blobs/", "PATCH"), "immutable": ("PUT/manifests/",)}.get(kind.name, ("",))


def _some(count: int, every: int, turn: int) -> Iterator[int]:
    return (index for index in range(1, count + 1) if every == 1 or index % every == (turn * 7 + 1) % every)


async def sweep(directory: Path, *, every: int = 1, rows: Collection[str] = ()) -> dict[Case, Outcome]:
    """All cases, or those of a few lines of the table; progress goes to stderr."""
    release = release_image(directory / "image", WANTED, weights(0.13))
    async with bench(directory) as on:
        run = Sweep(on, release, WANTED, directory)
        seen = await run.requests()
        todo = [case for case in cases(seen, every=every) if not rows or case.row in rows]
        print(f"{len(seen)} requests a push, {len(todo)} disturbed pushes", file=sys.stderr)
        found = {}
        for number, case in enumerate(todo, start=1):
            found[case] = await run.run(case)
            for text in found[case].wrong:
                print(f"WRONG {case.fault} {case.only}: {text}", file=sys.stderr)
            if number % 100 == 0:
                print(f"{number} of {len(todo)}", file=sys.stderr)
        return found


def table(found: dict[Case, Outcome]) -> str:
    """A line for each fault: how many pushes it struck, how those ended, and how many were wrong."""
    lines = [
        f"{'fault':30} {'pushes':>7} {'struck':>7} {'done at once':>13} {'exit 6':>7} {'exit 7':>7} "
        f"{'done on rerun':>14} {'wrong':>6}"
    ]
    rows = list(dict.fromkeys(case.row for case in found))
    for row in rows:
        lines.append(_line(row, [outcome for case, outcome in found.items() if case.row == row]))
    return "\n".join([*lines, _line("all", list(found.values()))])


def _line(row: str, all_of: Sequence[Outcome]) -> str:
    struck = [one for one in all_of if one.injected]
    codes = Counter(one.first for one in struck)
    again = sum(one.first != 0 and one.again == 0 for one in struck)
    wrong = sum(bool(one.wrong) for one in all_of)
    ends = f"{codes[0]:13} {codes[6]:7} {codes[7]:7}"
    return f"{row:30} {len(all_of):7} {len(struck):7} {ends} {again:14} {wrong:6}"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="each fault at a few requests only")
    parser.add_argument("--row", action="append", default=[], help='only one line of the table, like "503"')
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="modelport-sweep-") as directory:
        found = anyio.run(_all, Path(directory), 19 if arguments.quick else 1, arguments.row)
    print(table(found))
    print(f"{time.monotonic() - began:.0f} s")
    return int(any(outcome.wrong for outcome in found.values()))


async def _all(directory: Path, every: int, rows: Collection[str]) -> dict[Case, Outcome]:
    return await sweep(directory, every=every, rows=rows)


if __name__ == "__main__":
    sys.exit(main())
