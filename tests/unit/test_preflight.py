"""What a preflight finds out before anything is built, what it leaves behind, and how it says no."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from subprocess import run

import anyio
import pytest
from images import built_image, names, release_image
from registries_fake import FakeRegistry, digest_of, error, target

from pipelines import preflight_disk
from pipelines.built_images import KnownBuild
from pipelines.config import load
from pipelines.engines import Choice, Engine
from pipelines.errors import EngineUnavailable, PushFailed, UsageError
from pipelines.plan import Plan, Push, make_plan
from pipelines.preflight import examine, preflight
from pipelines.preflight_command import examine_all, verify_all
from pipelines.preflight_disk import Need, check_disk, disk_needs, engine_store
from pipelines.preflight_registry import Wanted, check_registry
from pipelines.preflight_report import Check, PreflightReport, RegistryChecks, State
from pipelines.record import Report
from pipelines.registries.credentials import Login
from pipelines.registries.errors import AccessRefused, Unreachable
from pipelines.registries.oci import OciRegistry
from pipelines.source import SourceRevision
from pipelines.stages.push import push

pytestmark = pytest.mark.anyio

COMMIT = "8f3c2a1b9d04" + "0" * 28
OTHER = "0f0f0f0f0f0f" + "1" * 28
WANTED = Wanted(COMMIT, ("8f3c2a1b9d04",))
SOURCE = SourceRevision(
    commit=COMMIT,
    head_commit=COMMIT,
    committed_at=datetime(2026, 11, 22, tzinfo=UTC),
    branch="main",
    version=None,
    remote=None,
    dirty=(),
    shallow=False,
    root=Path("/"),
)


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().running() as registry:
        yield registry


def plan_for(directory: Path, *hosts: str, rule: str = "", source: SourceRevision = SOURCE) -> Plan:
    """The plan of the model ``langid`` in ``directory`` for registries at ``hosts``."""
    model = directory / "langid"
    model.mkdir(exist_ok=True)
    (model / "Dockerfile").write_text("FROM scratch\n")
    registries = ", ".join(f"{host}/models" for host in hosts)
    (model / "modelport.yaml").write_text(f"registries: [{registries}]\n{rule}")
    return make_plan(load(model / "modelport.yaml", {}), source, directory / ".modelport", {}, Push.AUTO)


def lines(report: PreflightReport) -> str:
    return report.text()


# One registry


async def test_a_ready_registry_is_asked_and_left_as_it_was(fake: FakeRegistry) -> None:
    found = await check_registry(target(fake.host), WANTED)
    assert [check.state for check in found.checks] == [State.OK] * 3
    assert found.short("tags") == "tag 8f3c2a1b9d04 free"
    assert fake.uploads_abandoned == 1
    assert fake.asked("PUT") == fake.asked("PATCH") == []
    assert (fake.blobs, fake.manifests, fake.tags) == ({}, {}, {})


async def test_a_login_that_may_not_push_is_told_before_the_build(fake: FakeRegistry) -> None:
    fake.fault("POST", "uploads", error(403, "DENIED"), times=99)
    access, repository, tags = (await check_registry(target(fake.host), WANTED)).checks
    assert access.state is State.FAILED
    assert isinstance(access.error, AccessRefused)
    assert "may not write models/langid" in str(access.error)
    assert repository.state is tags.state is State.SKIPPED


async def test_a_wrong_password_is_told_without_it(fake: FakeRegistry) -> None:
    fake.basic = Login("robot", "right").basic
    access = (await check_registry(target(fake.host, Login("robot", "wr0ng-one")), WANTED)).checks[0]
    assert "refuses this login" in str(access.error)
    assert "wr0ng" not in access.line("") + str(access.to_json())


async def test_a_missing_repository_that_nobody_makes_is_told() -> None:
    async with FakeRegistry(creates_repositories=False).running() as fake:
        access, repository, tags = (await check_registry(target(fake.host), WANTED)).checks
    assert access.state is State.OK
    assert repository.error is not None
    assert "no repository models/langid" in str(repository.error)
    assert tags.state is State.SKIPPED


@dataclass(frozen=True)
class Known:
    """A registry whose adapter can tell whether the repository is there."""

    inner: OciRegistry
    exists: bool = False
    name: str = "registry.example.com/models/langid"
    is_directory: bool = False

    def reference(self, wanted: str) -> str:
        return self.inner.reference(wanted)

    def open(self, sessions: object = None) -> object:
        return self.inner.open()

    async def repository_exists(self) -> bool:
        return self.exists


@pytest.mark.parametrize("may_create", [True, False])
async def test_a_missing_repository_is_no_problem_where_the_push_makes_it(
    fake: FakeRegistry, *, may_create: bool
) -> None:
    registry = Known(target(fake.host), exists=False)
    wanted = replace(WANTED, may_create=may_create)
    found = await check_registry(registry, wanted)  # type: ignore[arg-type]  # what is asked of it is there
    assert fake.log == []  # there is nothing to ask yet
    if may_create:
        assert not found.errors
        assert found.short("tags") == "tag 8f3c2a1b9d04 free"
        return
    [problem] = found.errors
    assert "modelport registry apply" in problem.hint


async def test_this_commits_image_under_the_tag_is_no_conflict(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names(commit=COMMIT)
    await push(release_image(tmp_path, wanted), wanted, [target(fake.host)])
    found = await check_registry(target(fake.host), WANTED)
    assert not found.errors
    assert found.short("tags") == "already released"


@pytest.mark.parametrize("annotated", [True, False])
async def test_another_commits_image_under_the_tag_is_a_conflict_now(
    fake: FakeRegistry, tmp_path: Path, *, annotated: bool
) -> None:
    wanted = names("1.2.0", commit=OTHER)
    release = release_image(tmp_path, wanted)
    await push(release, wanted, [target(fake.host)])
    if not annotated:  # as another tool pushes it: the label is in the config only
        media_type, body = fake.manifests[release.digest]
        bare = body.replace(b"org.opencontainers.image.revision", b"org.opencontainers.image.ignored!")
        fake.tags["1.2.0"] = digest = names_digest(fake, media_type, bare)
        assert digest != release.digest
    tags = (await check_registry(target(fake.host), Wanted(COMMIT, ("1.2.0", "8f3c2a1b9d04")))).checks[2]
    assert tags.state is State.FAILED
    assert "langid:1.2.0 is taken" in str(tags.error)
    assert "of commit 0f0f0f0f0f0f, made 2026-03-04, and this commit is 8f3c2a1b9d04" in str(tags.error)


def names_digest(fake: FakeRegistry, media_type: str, body: bytes) -> str:
    fake.manifests[digest_of(body)] = (media_type, body)
    return digest_of(body)


async def test_a_tag_on_something_else_is_a_conflict(fake: FakeRegistry) -> None:
    index = b'{"schemaVersion":2,"manifests":[]}'
    fake.tags["8f3c2a1b9d04"] = names_digest(fake, "application/vnd.oci.image.index.v1+json", index)
    tags = (await check_registry(target(fake.host), WANTED)).checks[2]
    assert "no image that a model release makes" in str(tags.error)


async def test_a_registry_that_does_not_answer_costs_its_time_limit_and_no_more() -> None:
    async with anyio.create_task_group() as tasks:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)

        async def keep(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await anyio.sleep_forever()

        tasks.start_soon(listener.serve, keep)
        with anyio.fail_after(5):
            found = await check_registry(target(f"127.0.0.1:{port}"), replace(WANTED, time_limit_s=0.2))
        tasks.cancel_scope.cancel()
    await listener.aclose()
    assert isinstance(found.errors[0], Unreachable)
    assert "no answer within" in str(found.errors[0])


# The report of a model


async def test_the_summary_is_one_line_of_a_run(tmp_path: Path) -> None:
    async with FakeRegistry().running() as one, FakeRegistry().running() as two:
        report = await preflight(plan_for(tmp_path, one.host, two.host), {}, Choice("embedded", "test"))
    assert isinstance(report, Report)
    assert report.summary().startswith("2 registries ready · tag 8f3c2a1b9d04 free · ")
    assert report.summary().endswith(" GB free")


@dataclass(frozen=True)
class Waiting(Known):
    """Answers when the others were asked, too."""

    asked: list[str] = field(default_factory=list)
    all_asked: anyio.Event = field(default_factory=anyio.Event)

    async def repository_exists(self) -> bool:
        self.asked.append(self.name)
        if len(self.asked) == 2:
            self.all_asked.set()
        await self.all_asked.wait()
        return False


async def test_all_registries_are_asked_at_once(fake: FakeRegistry, tmp_path: Path) -> None:
    waiting = Waiting(target(fake.host))
    plan = replace(plan_for(tmp_path, fake.host, "127.0.0.1:9"), targets=(waiting, waiting))  # type: ignore[arg-type]  # what is asked of it is there
    with anyio.fail_after(20):
        assert len((await examine(plan, {})).ready) == 2


async def test_every_problem_is_told_and_the_first_is_the_error(tmp_path: Path) -> None:
    async with FakeRegistry().running() as one, FakeRegistry().running() as two:
        one.fault("POST", "uploads", error(403, "DENIED"), times=99)
        two.fault("POST", "uploads", error(401, "UNAUTHORIZED"), times=99)
        plan = plan_for(tmp_path, one.host, two.host)
        with pytest.raises(PushFailed, match=r"may not write .*and 1 more, above") as caught:
            await preflight(plan, {})
        assert two.host in caught.value.detail
        assert caught.value.exit_code == 6
        assert isinstance(caught.value.report, Report)
        assert caught.value.report.to_json()["ready"] is False


async def test_as_many_registries_as_the_release_rule_asks_for_are_enough(tmp_path: Path) -> None:
    async with FakeRegistry().running() as one, FakeRegistry().running() as two:
        two.fault("POST", "uploads", error(403, "DENIED"), times=99)
        some = plan_for(tmp_path, one.host, two.host, rule="release: {push_to: {at_least: 1}}\n")
        report = await preflight(some, {})
        assert f"1 of 2 registries ready (not {two.host}/models/langid)" in report.summary()
        assert "FAILED" in lines(report)
        both = plan_for(tmp_path, one.host, two.host, rule="release: {push_to: {at_least: 2}}\n")
        with pytest.raises(PushFailed, match="1 of 2 registries ready, at least 2 asked"):
            await preflight(both, {})


async def test_a_taken_tag_is_a_problem_wherever_it_is(fake: FakeRegistry, tmp_path: Path) -> None:
    taken = names("8f3c2a1b9d04", commit=OTHER)
    await push(release_image(tmp_path / "other", taken), taken, [target(fake.host)])
    async with FakeRegistry().running() as free:
        plan = plan_for(tmp_path, fake.host, free.host, rule="release: {push_to: {at_least: 1}}\n")
        with pytest.raises(PushFailed, match="is taken by"):
            await preflight(plan, {})


async def test_a_held_back_commit_asks_no_registry(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, "registry.invalid", source=replace(SOURCE, dirty=("serve.py",)))
    with anyio.fail_after(2):
        report = await preflight(plan, {})
    assert report.registries == ()
    assert "not pushed: uncommitted changes: serve.py" in report.summary()
    assert "GB free" in report.summary()


async def test_without_a_registry_the_layout_is_checked(tmp_path: Path) -> None:
    report = await preflight(plan_for(tmp_path), {})
    assert report.summary().startswith("tag 8f3c2a1b9d04 free · ")
    assert [one.is_directory for one in report.registries] == [True]


async def test_what_only_the_environment_tells_is_checked(fake: FakeRegistry, tmp_path: Path) -> None:
    plan = plan_for(
        tmp_path, fake.host, rule="build: {dockerfile: Dockerfile, secrets: {t: env://H8_TOKEN}}\n"
    )
    with pytest.raises(UsageError, match="H8_TOKEN"):
        await preflight(plan, {})
    assert not (await examine(plan, {"H8_TOKEN": "x"})).problems
    plan = plan_for(
        tmp_path,
        fake.host,
        rule="scan: {python_packages: {source: osv.zip}, could_not_look: {python_packages: block}}\n",
    )
    with pytest.raises(UsageError, match=r"osv\.zip"):
        await preflight(plan, {})


# Disk


def test_disk_is_checked_for_each_file_system_against_the_last_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        preflight_disk.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 3 * 10**9)
    )  # type: ignore[attr-defined]  # a file system of a known size
    fits = check_disk([Need(tmp_path / "new/images", 10**9, 2 * 10**9)])
    assert fits.short == "3.0 GB free"
    assert "up to 2.0 GB needed" in fits.text
    both = check_disk([Need(tmp_path, 2 * 10**9, 2 * 10**9), Need(tmp_path, 2 * 10**9, 2 * 10**9)])
    assert "3.0 GB free, and this run needs 4.0 GB at least" in str(both.error)
    assert isinstance(both.error, UsageError)
    assert "may not be enough: up to 8.0 GB" in check_disk([Need(tmp_path, 1, 8 * 10**9)]).text


def test_what_is_needed_is_told_by_the_last_build(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    images, store = plan.layout.directory, tmp_path / "engine"
    first = disk_needs(plan.model, images, None, store)
    assert [need.directory for need in first] == [images, store]
    assert all(need.least >= 256 << 20 for need in first)
    image = built_image(plan.layout, "x" * 3_000_000)
    again, engine = disk_needs(plan.model, images, KnownBuild(image, COMMIT, is_current=False), store)
    assert again.least == (64 << 20) + image.size
    assert engine.most > (64 << 20) + 3_000_000  # unpacked, and not as it is packed
    same, _ = disk_needs(plan.model, images, KnownBuild(image, COMMIT, is_current=True), store)
    assert same.least == 64 << 20


def test_only_the_embedded_engines_disk_is_ours() -> None:
    assert engine_store("dagger", {}) is None
    assert engine_store("embedded", {"EMBEDDED_ENGINE_STATE": "/x/y"}) == Path("/x/y")
    assert engine_store("embedded", {"XDG_CACHE_HOME": "/c"}) == Path("/c/embedded-engine")


# The command


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    plan_for(tmp_path)
    for command in (["init", "-qb", "main"], ["add", "."], ["commit", "-qm", "x"]):
        run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *command],
            cwd=tmp_path,
            check=True,
            timeout=20,
        )
    return tmp_path


async def test_the_command_tells_everything_that_is_wrong(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(only_git(checkout)))
    broken = checkout / "second"
    broken.mkdir()
    (broken / "modelport.yaml").write_text("build: {dockerfile: Dockerfle}\n")
    environ = {"PATH": str(only_git(checkout))}
    first, second = await examine_all(checkout, environ, Engine.EMBEDDED)
    assert "engine         FAILED   no engine can run here" in lines(first)
    assert "modelport.yaml:1" in lines(second)
    assert "git            ok" in lines(second)
    assert "registries     skipped" in lines(second)
    with pytest.raises(EngineUnavailable):
        verify_all([first, second])
    with pytest.raises(UsageError, match="Dockerfle") as caught:
        verify_all([second])
    assert "no engine can run here" in caught.value.detail


async def test_the_command_tells_a_checkout_that_is_none(tmp_path: Path) -> None:
    plan_for(tmp_path)
    [report] = await examine_all(tmp_path, {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}, Engine.AUTO)
    assert "not in a git repository" in lines(report)
    with pytest.raises(UsageError) as caught:
        verify_all([report])
    assert caught.value.exit_code == 2


def only_git(directory: Path) -> Path:
    """A PATH with git and no engine."""
    bin_ = directory / ".bin"
    git = shutil.which("git")
    if not bin_.exists() and git:
        bin_.mkdir()
        (bin_ / "git").symlink_to(git)
    return bin_


def test_a_line_of_the_table_says_what_to_do() -> None:
    line = Check.failed("access", AccessRefused("host refuses this login", hint="docker login")).line("  ")
    assert line.splitlines()[0] == "  access         FAILED   host refuses this login"
    assert line.splitlines()[1].strip() == "docker login"
    registry = RegistryChecks("r/models/x", (Check.ok("tags", "1 free", short="tag 1 free"),))
    assert registry.to_json()["ready"] is True
