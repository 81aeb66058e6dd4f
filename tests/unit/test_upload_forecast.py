"""What a plan says will be uploaded is what the push then uploads."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from planned_pushes import COMMIT, OTHER, attested, build, plan_for, pushed, release_of
from registries_fake import FakeRegistry

from pipelines.built_images import known_build
from pipelines.forecast_values import Forecast, Kind, size_text
from pipelines.plan import Plan
from pipelines.push_journal import Journal
from pipelines.receipt import Receipt
from pipelines.upload_forecast import Planned, forecast, planned

pytestmark = pytest.mark.anyio


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().running() as registry:
        yield registry


def told_bytes(found: Forecast) -> list[tuple[int, int, int]]:
    return [(one.upload_bytes, one.mountable_bytes, one.total) for one in found.registries]


def sent_bytes(receipt: Receipt) -> list[tuple[int, int, int]]:
    return [(one.uploaded, one.mounted, one.total) for one in receipt.deliveries]


async def test_the_first_push_sends_what_was_foretold(tmp_path: Path) -> None:
    async with FakeRegistry().running() as one, FakeRegistry().running() as two:
        plan = plan_for(tmp_path, f"{one.host}/models", f"{two.host}/models")
        release = release_of(plan, build(plan, "base", "code " * 5000))
        found = await forecast(plan, {})
        assert one.asked("PUT") == one.asked("POST") == []
        receipt = await pushed(plan, release)
    assert told_bytes(found) == sent_bytes(receipt)
    assert found.is_exact
    assert found.total == release.size
    assert found.lines()[0].endswith("will be uploaded to 2 registries")


async def test_a_rerun_sends_nothing_and_the_plan_says_so(fake: FakeRegistry, tmp_path: Path) -> None:
    plan = plan_for(tmp_path, f"{fake.host}/models")
    release = release_of(plan, build(plan))
    await pushed(plan, release)
    found = await forecast(plan, {})
    assert told_bytes(found) == sent_bytes(await pushed(plan, release)) == [(0, 0, release.size)]
    assert found.lines()[0].startswith("0 of ")


async def test_a_changed_layer_and_statements_are_foretold(fake: FakeRegistry, tmp_path: Path) -> None:
    first = plan_for(tmp_path, f"{fake.host}/models", commit=OTHER)
    await pushed(first, release_of(first, build(first, "base" * 9999, "old", commit=OTHER)))
    plan = plan_for(tmp_path, f"{fake.host}/models")
    release = release_of(plan, build(plan, "base" * 9999, "new", run="2"))
    statements = attested(plan, release, "checked", "scanned")
    found = await forecast(plan, {})
    receipt = await pushed(plan, release, statements)
    assert told_bytes(found) == sent_bytes(receipt)
    assert 0 < found.upload_bytes < found.total
    upload = found.registries[0].upload
    assert upload[Kind.ATTESTATIONS] == sum(len(one.body) for one in statements) + len("{}checkedscanned")
    assert upload[Kind.CONFIG] == release.image.config.size + len(release.manifest.body)
    assert told_bytes(await forecast(plan, {})) == sent_bytes(await pushed(plan, release, statements))


async def test_only_the_statements_are_new(fake: FakeRegistry, tmp_path: Path) -> None:
    plan = plan_for(tmp_path, f"{fake.host}/models")
    release = release_of(plan, build(plan))
    await pushed(plan, release)
    statements = attested(plan, release, "checked")
    found = await forecast(plan, {})
    assert told_bytes(found) == sent_bytes(await pushed(plan, release, statements))
    assert set(found.registries[0].upload) >= {Kind.ATTESTATIONS}


async def test_statements_about_another_release_are_not_counted(fake: FakeRegistry, tmp_path: Path) -> None:
    earlier = plan_for(tmp_path, f"{fake.host}/models", commit=OTHER)
    attested(earlier, release_of(earlier, build(earlier, commit=OTHER)), "checked")
    found = await forecast(plan_for(tmp_path, f"{fake.host}/models"), {})
    assert Kind.ATTESTATIONS not in found.sizes
    assert "without attestations" in found.lines()[1]


async def test_an_unfinished_upload_is_told(fake: FakeRegistry, tmp_path: Path) -> None:
    plan = plan_for(tmp_path, f"{fake.host}/models")
    image = build(plan)
    assert "goes on" not in (await forecast(plan, {})).lines()[2]
    sessions = Journal.open(tmp_path / ".modelport", "langid").sessions(plan.targets[0].name)
    sessions.remember(image.image.layers[0].digest, "/v2/models/langid/blobs/uploads/1")
    assert "less where an earlier upload goes on" in (await forecast(plan, {})).lines()[2]


async def test_half_an_image_is_foretold(fake: FakeRegistry, tmp_path: Path) -> None:
    plan = plan_for(tmp_path, f"{fake.host}/models")
    release = release_of(plan, build(plan))
    await pushed(plan, release)
    del fake.blobs[release.image.layers[0].digest]  # the registry's own clean-up
    found = await forecast(plan, {})
    assert told_bytes(found) == sent_bytes(await pushed(plan, release))
    assert found.upload_bytes == release.image.layers[0].size + len(release.manifest.body)


async def test_an_earlier_build_gives_an_estimate_that_says_so(fake: FakeRegistry, tmp_path: Path) -> None:
    plan = plan_for(tmp_path, f"{fake.host}/models")
    build(plan, "older", commit="3" * 40, run="1")
    image = build(plan, "base", "code", commit=OTHER, run="2")
    found = await forecast(plan, {})
    assert not found.is_exact
    assert found.total == release_of(plan, image).size
    assert found.lines()[0].startswith(
        "not built yet at this commit; the last build (0f0f0f0f0f0f) would upload "
    )
    assert found.to_json()["built_commit"] == OTHER


async def test_the_build_of_this_commit_is_found_behind_later_ones(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    ours = build(plan, "ours", run="1")
    build(plan, "of a dirty tree", dirty=["serve.py"], run="2")
    build(plan, "another", commit=OTHER, run="3")
    found = await known_build(plan.model, plan.source, plan.layout)
    assert found is not None
    assert (found.image.digest, found.is_current) == (ours.digest, True)


async def test_a_dirty_checkout_is_never_known(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, dirty=("serve.py",))
    build(plan, dirty=["serve.py"])
    found = await known_build(plan.model, plan.source, plan.layout)
    assert found is not None
    assert (found.is_current, found.commit) == (False, "")


async def test_an_image_that_is_not_whole_is_none(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    image = build(plan)
    plan.layout.path(image.image.layers[0].digest).unlink()
    assert await known_build(plan.model, plan.source, plan.layout) is None
    assert (await forecast(plan, {})).lines() == [
        "not known before the first build: `modelport run --no-push` builds and sends nothing"
    ]


def git(root: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words]
    return subprocess.run(
        command, cwd=root, check=True, capture_output=True, text=True, timeout=20
    ).stdout.strip()


async def test_a_commit_that_changes_no_input_of_the_build_needs_no_new_one(tmp_path: Path) -> None:
    plan_for(tmp_path)
    git(tmp_path, "init", "-qb", "main")
    (tmp_path / ".gitignore").write_text(".modelport\n")
    commits = []
    for name in ("langid/serve.py", "README.md", "langid/serve.py"):
        with (tmp_path / name).open("a") as file:
            file.write("x\n")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-qm", name)
        commits.append(git(tmp_path, "rev-parse", "HEAD"))
    first, readme, code = commits
    plan = plan_for(tmp_path, commit=readme)
    build(plan, commit=first)
    found = await known_build(plan.model, plan.source, plan.layout)
    assert found is not None
    assert found.is_current
    later = plan_for(tmp_path, commit=code)
    found = await known_build(later.model, later.source, later.layout)
    assert found is not None
    assert not found.is_current


async def test_a_registry_that_can_not_be_asked_is_told_and_the_others_are(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    plan = plan_for(tmp_path, f"{fake.host}/models", "127.0.0.1:1/models")
    build(plan)
    found = await forecast(plan, {})
    assert [one.error is None for one in found.registries] == [True, False]
    assert found.lines()[0].endswith("to 1 registry (1 can't be asked)")
    assert "connection refused" in found.lines()[3]
    assert found.registries[1].to_json()["upload_bytes"] is None


async def test_without_a_registry_nothing_travels(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    build(plan)
    found = await forecast(plan, {})
    assert found.lines()[0] == "nothing will be uploaded to a registry: the image stays on this machine"


async def test_the_command_tells_plan_and_forecast(fake: FakeRegistry, tmp_path: Path) -> None:
    plan_for(tmp_path, f"{fake.host}/models")
    git(tmp_path, "init", "-qb", "main")
    (tmp_path / ".gitignore").write_text(".modelport\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    commit = git(tmp_path, "rev-parse", "HEAD")
    build(plan_for(tmp_path, f"{fake.host}/models"), "base", "code", commit=commit)
    [found] = await planned(tmp_path, {})
    text = found.text()
    assert f"  push       {fake.host}/models/langid\n  upload     " in text
    assert "base " in text
    assert "code " in text
    assert "without attestations" in text
    assert found.to_json()["upload"] is not None


def test_a_plan_that_pushes_nothing_has_no_forecast(tmp_path: Path) -> None:
    plan: Plan = plan_for(tmp_path, "registry.invalid/models", dirty=("serve.py",))
    assert Planned(plan, None).to_json()["upload"] is None
    assert "upload" not in Planned(plan, None).text()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (812, "812 B"), (1200, "1.2 kB"), (41_000_000, "41 MB"), (2_100_000_000, "2.1 GB")],
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert size_text(count) == text
    assert COMMIT
