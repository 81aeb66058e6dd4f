"""When a moving tag moves, when it stays and why, and that races of several runs end on the newest."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import coroutine
from typing import Any, cast

import anyio
import pytest
from images import COMMITTED, names, release_image
from registries_fake import FakeRegistry, target

from pipelines.registries.descriptors import Manifest, canonical_json
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.layout import ImageLayout
from pipelines.registries.port import OpenRegistry
from pipelines.release_image import ReleaseImage
from pipelines.stages.moving_tags import SETTLE_S, move_tag, reason_to_stay
from pipelines.stages.push import push
from pipelines.stages.tag import Names

pytestmark = pytest.mark.anyio
REVISION = "org.opencontainers.image.revision"
A, B, C, SIDE, UNKNOWN = (letter * 40 for letter in "abcde")


@dataclass(frozen=True)
class Lines:
    """Histories as texts: from the oldest to the newest commit."""

    lines: tuple[tuple[str, ...], ...]

    async def is_ancestor(self, older: str, newer: str) -> bool | None:
        if not {older, newer} <= {commit for line in self.lines for commit in line}:
            return None
        return any(
            {older, newer} <= set(line) and line.index(older) <= line.index(newer) for line in self.lines
        )

    async def distance(self, older: str, newer: str) -> int | None:
        line = next(line for line in self.lines if {older, newer} <= set(line))
        return line.index(newer) - line.index(older)


HISTORY = Lines(((A, B, C), (A, SIDE)))


@dataclass
class Case:
    """A layout that takes releases of made-up commits."""

    directory: Path
    number: itertools.count[int] = field(default_factory=itertools.count)

    def release(
        self, commit: str, *version_tags: str, hours: int = 0, moving: tuple[str, ...] = ("latest",)
    ) -> tuple[ReleaseImage, Names]:
        when = COMMITTED + timedelta(hours=hours)
        wanted = names(*version_tags, moving=moving, commit=commit, created=when)
        return release_image(self.directory, wanted, commit, str(next(self.number))), wanted

    def hold(self, tag: str, release: ReleaseImage, wanted: Names) -> None:
        for one in (*wanted.version_tags, tag):
            release.layout.set_tag(one, release.manifest)

    async def reason(
        self, tag: str, release: ReleaseImage, wanted: Names, history: Lines | None = HISTORY
    ) -> str:
        async with LayoutRegistry(release.layout).open() as registry:
            return await reason_to_stay(tag, release, wanted, registry, history)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "langid")


async def test_a_later_commit_moves_it_whatever_the_clocks_say(case: Case) -> None:
    case.hold("latest", *case.release(A, hours=9))
    assert await case.reason("latest", *case.release(C)) == ""


async def test_an_earlier_commit_leaves_it_and_says_how_far_it_is_behind(case: Case) -> None:
    case.hold("latest", *case.release(C))
    assert await case.reason("latest", *case.release(A, hours=9)) == "it is 2 commits ahead (ccccccc)"
    assert await case.reason("latest", *case.release(B, hours=9)) == "it is 1 commit ahead (ccccccc)"


async def test_another_line_of_history_leaves_it_and_says_how_to_move_it(case: Case) -> None:
    case.hold("latest", *case.release(C))
    reason = await case.reason("latest", *case.release(SIDE, hours=9))
    assert "it is of ccccccc, on another line of history than ddddddd" in reason
    assert "remove the tag there" in reason


async def test_what_the_clone_does_not_know_is_told_by_time_and_said_so(case: Case) -> None:
    case.hold("latest", *case.release(UNKNOWN, hours=1))
    assert await case.reason("latest", *case.release(A, hours=2)) == ""
    older = await case.reason("latest", *case.release(A))
    assert "newer than this commit" in older
    assert "this clone can't compare eeeeeee and aaaaaaa" in older
    assert "remove the tag there" in older, "a branch that was rewritten is moved by hand"
    assert "can't be told" in await case.reason("latest", *case.release(A, hours=1)), "of the same second"
    assert await case.reason("latest", *case.release(A, hours=2), history=None) == ""
    assert "newer" in await case.reason("latest", *case.release(A), history=None)


async def test_versions_come_before_commits(case: Case) -> None:
    """A maintenance release is of a later time and another line of history; a version says more."""
    case.hold("latest", *case.release(C, "1.3.0"))
    assert (
        await case.reason("latest", *case.release(SIDE, "1.2.9", hours=9))
        == "it is 1.3.0, which is newer than 1.2.9"
    )
    assert await case.reason("latest", *case.release(SIDE, "1.10.0")) == ""
    assert await case.reason("latest", *case.release(SIDE, "1.3.0-rc.2", hours=9)) != ""
    assert await case.reason("latest", *case.release(SIDE, "1.3.0.post1")) == ""


async def test_a_maintenance_line_moves_its_own_tag_only(case: Case) -> None:
    held_line, held_newest = case.release(A, "1.2.8"), case.release(C, "1.3.0")
    case.hold("1.2", *held_line)
    case.hold("1.3", *held_newest)
    case.hold("latest", *held_newest)
    release, wanted = case.release(SIDE, "1.2.9", moving=("latest", "1.2"))
    async with LayoutRegistry(release.layout).open() as registry:
        told = {
            tag: await move_tag(tag, release, wanted, registry, HISTORY, pause=at_once)
            for tag in wanted.moving_tags
        }
    assert told == {"latest": "it is 1.3.0, which is newer than 1.2.9", "1.2": ""}
    assert release.layout.tags()["1.2"].digest == release.digest
    assert release.layout.tags()["latest"].digest == held_newest[0].digest


async def test_the_version_of_what_is_held_is_its_highest_tag_however_old(case: Case) -> None:
    """Without it, a diverged commit would be all there is to see."""
    held, wanted = case.release(C, "1.2.8", "1.2.7")
    case.hold("latest", held, wanted)
    for number in range(20):  # releases between, of the same line
        other, names_of_it = case.release(A, f"1.1.{number}")
        case.hold("1.1", other, names_of_it)
    assert await case.reason("latest", *case.release(SIDE, "1.2.9")) == ""


async def test_build_metadata_is_found_in_a_tag_again(case: Case) -> None:
    case.hold("latest", *case.release(C, "1.3.0_cpu.5"))
    reason = await case.reason("latest", *case.release(SIDE, "1.2.0"))
    assert reason == "it is 1.3.0+cpu.5, which is newer than 1.2.0"


async def test_a_branch_s_tag_goes_by_its_commits_even_where_there_are_versions(case: Case) -> None:
    case.hold("main", *case.release(A, "2.0.0", moving=("main",)))
    release, wanted = case.release(B, "1.9.0", moving=("main",))
    assert "newer than 1.9.0" in await case.reason("main", release, wanted)
    assert await case.reason("main", release, replace(wanted, branch_tags=("main",))) == ""


async def test_a_version_beside_a_commit_without_one_goes_by_history(case: Case) -> None:
    case.hold("latest", *case.release(C))
    assert await case.reason("latest", *case.release(B, "1.2.0")) == "it is 1 commit ahead (ccccccc)"


async def test_what_is_no_image_is_left_alone(case: Case) -> None:
    release, wanted = case.release(A)
    index = Manifest(
        "application/vnd.oci.image.index.v1+json", canonical_json({"schemaVersion": 2, "manifests": []})
    )
    release.layout.write_blob(index.body)
    release.layout.set_tag("latest", index)
    assert "no image" in await case.reason("latest", release, wanted)


async def test_an_index_is_compared_by_its_image(case: Case) -> None:
    held, _ = case.release(C)
    entry = held.manifest.descriptor.to_json() | {"platform": {"os": "linux", "architecture": "amd64"}}
    index = Manifest(
        "application/vnd.oci.image.index.v1+json", canonical_json({"schemaVersion": 2, "manifests": [entry]})
    )
    held.layout.write_blob(index.body)
    held.layout.set_tag("latest", index)
    assert await case.reason("latest", *case.release(A)) == "it is 2 commits ahead (ccccccc)"


async def at_once(seconds: float) -> None:
    del seconds


# Races: coroutines that are driven by hand on a clock of their own, so that every interleaving is repeatable.


@coroutine
def wait(seconds: float) -> Generator[float, None, None]:
    yield seconds


def run_all(works: list[tuple[float, Coroutine[Any, Any, str]]]) -> list[str]:
    """Run coroutines that only ever await ``wait``, each from its own start, in the order of the clock."""
    results = [""] * len(works)
    due = [(start, number) for number, (start, _) in enumerate(works)]
    heapq.heapify(due)
    while due:
        now, number = heapq.heappop(due)
        try:
            seconds = works[number][1].send(None)
        except StopIteration as end:
            results[number] = end.value
        else:
            heapq.heappush(due, (now + seconds, number))
    return results


@dataclass
class SlowRegistry:
    """One tag over a layout's images; each request takes its time on the way there and on the way back."""

    layout: ImageLayout
    chance: random.Random
    tag_names: dict[str, Manifest]
    slowest_s: float
    judging_s: float = 0
    """How much longer it takes to find out what the tag names than to look at its digest."""

    async def _travel(self) -> None:
        await wait(self.chance.uniform(0, self.slowest_s))

    async def tag_digest(self, tag: str) -> str | None:
        await self._travel()
        found = self.tag_names[tag].digest
        await self._travel()
        return found

    async def read_manifest(self, reference: str) -> Manifest:
        await self._travel()
        found = self.tag_names.get(reference) or self.layout.read_manifest(reference)
        await self._travel()
        return found

    async def read_blob(self, digest: str, limit: int) -> bytes:
        await self._travel()
        await wait(self.judging_s)
        return self.layout.read_blob(digest, limit)

    async def tags(self) -> tuple[str, ...]:
        await self._travel()
        return tuple(self.tag_names)

    async def tag(self, tag: str, manifest: Manifest) -> None:
        await self._travel()
        self.tag_names[tag] = manifest
        await self._travel()


@pytest.mark.parametrize("judging_s", [0, 3 * SETTLE_S])
@pytest.mark.parametrize("racers", [(B, C), (C, B), (B, C, C), (A, B, C)])
async def test_a_race_of_merges_ends_on_the_newest(
    case: Case, racers: tuple[str, ...], judging_s: float
) -> None:
    first, _ = case.release(A)
    releases = [case.release(commit) for commit in racers]
    newest = {release.digest for release, named in releases if named.labels[REVISION] == C}
    overtaken = 0
    for seed in range(120):
        chance = random.Random(seed)
        registry = SlowRegistry(
            first.layout, chance, {"latest": first.manifest}, SETTLE_S / 4, chance.uniform(0, judging_s)
        )
        told = run_all(
            [
                (
                    chance.uniform(0, 1),
                    move_tag("latest", *one, cast("OpenRegistry", registry), HISTORY, pause=wait),
                )
                for one in releases
            ]
        )
        assert registry.tag_names["latest"].digest in newest, (seed, told)
        overtaken += sum(bool(reason) for reason in told)
    assert overtaken, "in some of them the older one came late, and was told so"


async def test_without_the_second_look_such_a_race_would_be_lost(case: Case) -> None:
    """The interleaving that the loop is for: both judge, the newer writes, then the older does."""
    first, _ = case.release(A)
    older, newer = case.release(B), case.release(C)
    lost = 0
    for seed in range(200):
        chance = random.Random(seed)
        registry = SlowRegistry(first.layout, chance, {"latest": first.manifest}, SETTLE_S / 4)

        async def naive(release: ReleaseImage, wanted: Names) -> str:
            opened = cast("OpenRegistry", registry)  # noqa: B023  # run before the next turn of the loop
            reason = await reason_to_stay("latest", release, wanted, opened, HISTORY)
            if not reason:
                await opened.tag("latest", release.manifest)
            return reason

        run_all([(chance.uniform(0, 0.3), naive(*one)) for one in (older, newer)])
        lost += registry.tag_names["latest"].digest == older[0].digest
    assert lost, "else the test above proves nothing"


async def test_where_others_write_without_end_it_gives_up_and_says_so(case: Case) -> None:
    first, _ = case.release(A)
    release, wanted = case.release(B)
    registry = SlowRegistry(first.layout, random.Random(1), {"latest": first.manifest}, 0.1)

    class Stubborn(SlowRegistry):
        async def tag(self, tag: str, manifest: Manifest) -> None:
            await self._travel()

    stubborn = Stubborn(first.layout, registry.chance, registry.tag_names, 0.1)
    [told] = run_all(
        [(0, move_tag("latest", release, wanted, cast("OpenRegistry", stubborn), HISTORY, pause=wait))]
    )
    assert "run again" in told


async def test_two_merges_at_once_over_the_wire_end_on_the_newer(tmp_path: Path) -> None:
    case = Case(tmp_path / "langid")
    older, newer = case.release(B, "b", moving=("latest",)), case.release(C, "c", moving=("latest",))
    async with FakeRegistry().running() as fake:
        for release, wanted in (older, newer):
            await push(release, replace(wanted, moving_tags=()), [target(fake.host)])

        async def move(release: ReleaseImage, wanted: Names) -> None:
            async with target(fake.host).open() as registry:
                await move_tag("latest", release, wanted, registry, HISTORY, pause=briefly)

        for first, second in ((older, newer), (newer, older)) * 3:
            fake.tags.pop("latest", None)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(move, *first)
                tasks.start_soon(move, *second)
            assert fake.tags["latest"] == newer[0].digest


async def briefly(seconds: float) -> None:
    await anyio.sleep(seconds / 5)
