"""Real git repositories in a temporary directory; nothing of the machine's git configuration is read."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.config import Model, ReleaseRule
from pipelines.errors import SourceError
from pipelines.plan import Push, make_plan
from pipelines.source import SourceRevision, browser_address, read_source, releasable

pytestmark = pytest.mark.anyio

ENVIRON = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_AUTHOR_DATE": "2026-01-02T03:04:05 +0900",
    "GIT_COMMITTER_NAME": "C",
    "GIT_COMMITTER_EMAIL": "c@example.com",
    "GIT_COMMITTER_DATE": "2026-02-03T04:05:06 +0100",
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "init.defaultBranch",
    "GIT_CONFIG_VALUE_0": "main",
    "GIT_CONFIG_KEY_1": "protocol.file.allow",
    "GIT_CONFIG_VALUE_1": "always",
}
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "team/models",
}


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(directory), *arguments],
        env=ENVIRON,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


def commit(directory: Path, name: str = "file.txt", text: str = "x") -> str:
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(text)
    git(directory, "add", name)
    git(directory, "commit", "-q", "-m", f"change {name}")
    return git(directory, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    directory = tmp_path / "langid"
    directory.mkdir()
    git(directory, "init", "-q")
    commit(directory)
    return directory


async def read(directory: Path, more: Mapping[str, str] | None = None) -> SourceRevision:
    return await read_source(directory, {**ENVIRON, **(more or {})})


async def test_a_clean_commit_on_a_branch(repository: Path) -> None:
    source = await read(repository)
    assert source.commit == source.head_commit == git(repository, "rev-parse", "HEAD")
    assert source.committed_at == datetime(2026, 2, 3, 3, 5, 6, tzinfo=UTC), "the committer's time, in UTC"
    assert (source.branch, source.version, source.remote, source.pull_request) == ("main", None, None, None)
    assert (source.dirty, source.shallow, source.tags) == ((), False, ())
    assert source.root == repository
    assert source.short == source.commit[:12]
    assert source.summary() == "main, clean"


async def test_every_uncommitted_change_is_listed(repository: Path) -> None:
    for name in ("staged.txt", "old name.txt", "deleted.txt", "both.txt"):
        commit(repository, name, name * 20)
    commit(repository, ".gitignore", "*.log\n")
    (repository / "file.txt").write_text("changed")
    (repository / "staged.txt").write_text("changed")
    git(repository, "add", "staged.txt")
    git(repository, "mv", "old name.txt", "new näme.txt")
    (repository / "deleted.txt").unlink()
    (repository / "new").mkdir()
    (repository / "new" / "file.py").write_text("")
    (repository / "ignored.log").write_text("")
    (repository / ".modelport" / "runs").mkdir(parents=True)
    (repository / ".modelport" / "runs" / "run.json").write_text("{}")
    source = await read(repository / "new")
    assert source.dirty == ("deleted.txt", "file.txt", "new näme.txt", "new/", "staged.txt")
    assert source.summary() == "main, 5 uncommitted"


async def test_our_own_records_do_not_make_a_model_in_a_subdirectory_dirty(repository: Path) -> None:
    commit(repository, "models/a/modelport.yaml", "")
    (repository / "models/a/.modelport/images").mkdir(parents=True)
    (repository / "models/a/.modelport/images/index.json").write_text("{}")
    assert (await read(repository / "models/a")).dirty == ()


async def test_a_login_that_an_action_of_googles_left_does_not_make_a_checkout_dirty(
    repository: Path,
) -> None:
    (repository / "gha-creds-0123456789abcdef.json").write_text("{}")
    assert (await read(repository)).dirty == ()


async def test_a_changed_submodule_is_named_as_one(repository: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    commit(inner)
    git(repository, "submodule", "--quiet", "add", str(inner), "vendor")
    git(repository, "commit", "-q", "-m", "add a submodule")
    assert (await read(repository)).dirty == ()
    (repository / "vendor" / "file.txt").write_text("changed")
    assert (await read(repository)).dirty == ("vendor (submodule)",)


async def test_version_tags_the_highest_counts(repository: Path) -> None:
    for tag in ("v1.2.0", "1.10.0", "v1.9.0", "nightly", "v2", "release-3.0.0"):
        git(repository, "tag", tag)
    git(repository, "tag", "-a", "-m", "annotated", "v1.10.1")
    source = await read(repository)
    assert source.version == "1.10.1"
    assert set(source.tags) >= {"v1.2.0", "v1.10.1", "nightly"}
    commit(repository, "file.txt", "next")
    assert (await read(repository)).version is None, "a tag on the parent is not a tag on the commit"


async def test_in_a_repository_of_models_each_has_its_own_tags(repository: Path) -> None:
    for tag in ("v1.0.0", "langid-v1.2.0", "langid/1.3.0", "embeddings-v9.0.0"):
        git(repository, "tag", tag)
    source = await read(repository)
    assert source.version == "1.3.0", "of the directory's name"
    assert source.version_of("embeddings") == "9.0.0"
    assert source.version_of("filetype") == "1.0.0", "a tag without a name is for all"
    assert (await read_source(repository, ENVIRON, model_name="embeddings")).version == "9.0.0"


async def test_a_shallow_clone_of_a_merge_still_knows_the_pull_request_s_head(
    repository: Path, tmp_path: Path
) -> None:
    git(repository, "switch", "-q", "-c", "feature")
    head = commit(repository, "feature.txt")
    git(repository, "switch", "-q", "main")
    commit(repository, "other.txt")
    git(repository, "merge", "-q", "--no-ff", "-m", "merge", "feature")
    merge = git(repository, "rev-parse", "HEAD")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{repository}", str(clone))
    git(clone, "checkout", "-q", "--detach")
    pull = {
        **GITHUB,
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_REF": "refs/pull/17/merge",
        "GITHUB_SHA": merge,
        "GITHUB_HEAD_REF": "feature",
        "GITHUB_BASE_REF": "main",
    }
    source = await read(clone, pull)
    assert source.shallow
    assert (source.commit, source.head_commit) == (merge, head)
    assert (source.branch, source.pull_request) == ("feature", "17")
    assert source.summary() == "pull request 17, clean, shallow"
    assert source.remote == "https://github.com/team/models", "a clone of a local path: the CI system's word"
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"number": 17, "pull_request": {"head": {"sha": "b" * 40}}}))
    assert (await read(clone, {**pull, "GITHUB_EVENT_PATH": str(event)})).head_commit == "b" * 40
    assert (await read(clone)).head_commit == merge, "outside of a pull request a merge is its own head"


async def test_a_detached_head_has_the_branch_that_the_ci_system_tells(repository: Path) -> None:
    sha = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "-q", "--detach")
    assert (await read(repository)).branch is None
    jenkins = {"JENKINS_URL": "https://ci.example/", "GIT_COMMIT": sha, "GIT_BRANCH": "origin/main"}
    assert (await read(repository, jenkins)).branch == "main"


async def test_the_ci_system_is_not_believed_about_another_commit(repository: Path) -> None:
    """A job that runs for main and checks out a pull request's code must not release it as main."""
    git(repository, "checkout", "-q", "--detach")
    run_for_main = {**GITHUB, "GITHUB_REF": "refs/heads/main", "GITHUB_SHA": "c" * 40}
    source = await read(repository, run_for_main)
    assert source.branch is None
    assert "no branch" in str(releasable(model(), source))
    tagged = {**GITHUB, "GITHUB_REF": "refs/tags/v9.0.0", "GITHUB_SHA": "c" * 40}
    assert (await read(repository, tagged)).version is None


async def test_a_tag_that_the_checkout_did_not_fetch_is_known_from_the_ci_system(repository: Path) -> None:
    sha = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "-q", "--detach")
    source = await read(repository, {**GITHUB, "GITHUB_REF": "refs/tags/v1.2.0", "GITHUB_SHA": sha})
    assert (source.branch, source.version, source.tags) == (None, "1.2.0", ("v1.2.0",))
    circle = {"CIRCLECI": "true", "CIRCLE_SHA1": sha, "CIRCLE_TAG": "langid-v2.0.0"}
    assert (await read(repository, circle)).version == "2.0.0"


async def test_a_work_tree_beside_the_repository(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    source = await read(tmp_path / "side")
    assert (source.branch, source.root) == ("side", (tmp_path / "side").resolve())


async def test_variables_of_a_git_hook_do_not_lead_to_another_repository(
    repository: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    sha = commit(other, "other.txt")
    hook = {
        "GIT_DIR": str(repository / ".git"),
        "GIT_WORK_TREE": str(repository),
        "GIT_INDEX_FILE": "nothing",
    }
    source = await read(other, hook)
    assert (source.commit, source.root, source.dirty) == (sha, other.resolve(), ())


async def test_the_repository_s_own_configuration_starts_no_program(repository: Path, tmp_path: Path) -> None:
    program = tmp_path / "monitor"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(program))
    await read(repository)
    assert not (tmp_path / "started").exists()


async def test_remotes_lose_their_credentials(repository: Path) -> None:
    git(repository, "remote", "add", "fork", "https://fork.example/x.git")
    assert (await read(repository)).remote == "https://fork.example/x"
    git(repository, "remote", "add", "origin", "https://user:hunter2@git.example/team/models.git")
    git(repository, "config", "url.https://x:hunter3@git.example/.insteadOf", "https://git.example/")
    source = await read(repository)
    assert source.remote == "https://git.example/team/models"
    assert "hunter" not in repr(source)


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@github.com:team/models.git", "https://github.com/team/models"),
        ("github.com:team/models", "https://github.com/team/models"),
        ("ssh://git@git.example:2222/team/models.git", "https://git.example/team/models"),
        ("git://git.example/models.git/", "https://git.example/models"),
        ("https://git.example:8443/team/models/", "https://git.example:8443/team/models"),
        ("http://git.example/models.git", "http://git.example/models"),
        ("https://token@git.example/models.git?token=abc#x", "https://git.example/models"),
        ("https://oauth2:gl-pat@git.example/group/sub/models.git", "https://git.example/group/sub/models"),
        ("git@ssh.dev.azure.com:v3/org/project/repo", "https://dev.azure.com/org/project/_git/repo"),
        ("https://org@dev.azure.com/org/project/_git/repo", "https://dev.azure.com/org/project/_git/repo"),
        ("ssh://git@[::1]:22/models.git", "https://[::1]/models"),
        ("/srv/git/models.git", None),
        ("../models", None),
        ("file:///srv/git/models.git", None),
        ("C:\\models", None),
        ("https://[broken/models", None),
        ("", None),
        (None, None),
    ],
)
def test_a_remote_as_people_open_it(remote: str | None, address: str | None) -> None:
    assert browser_address(remote) == address


async def test_not_a_repository(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not in a git repository") as caught:
        await read(tmp_path, {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)})
    assert "git init" in caught.value.hint
    assert caught.value.exit_code == 2
    with pytest.raises(SourceError, match="is not a directory"):
        await read(tmp_path / "nothing")


async def test_no_commit_yet(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    with pytest.raises(SourceError, match="no commit yet") as caught:
        await read(tmp_path)
    assert "git commit" in caught.value.hint


async def test_a_bare_repository(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare.git")
    with pytest.raises(SourceError, match="is a bare repository"):
        await read(tmp_path / "bare.git")


async def test_git_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="git is not installed") as caught:
        await read_source(tmp_path, {"PATH": str(tmp_path)})
    assert "install git" in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a checkout to another user")
async def test_a_checkout_of_another_user_is_explained(repository: Path) -> None:
    os.chown(repository, 12345, 12345)
    os.chown(repository / ".git", 12345, 12345)
    with pytest.raises(SourceError, match="refuses to read a checkout that another user owns") as caught:
        await read(repository)
    assert caught.value.hint.endswith(f"git config --global --add safe.directory {repository}")
    safe = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    assert (await read(repository, safe)).branch == "main"


async def test_a_commit_that_no_remote_has_is_known_and_held_back_from_production(
    repository: Path, tmp_path: Path
) -> None:
    assert (await read(repository)).on_remote is None, "there is no remote"
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    assert (await read(clone)).on_remote is True
    git(clone, "switch", "-q", "-c", "topic")
    commit(clone, "more.txt")
    git(clone, "switch", "-q", "main")
    git(clone, "merge", "-q", "--ff-only", "topic")
    source = await read(clone)
    assert source.on_remote is False
    production, local = (
        make_plan(model(registries=[where]), source, tmp_path / "state", {}, Push.AUTO)
        for where in ("registry.example.com/models", "127.0.0.1:5000/models")
    )
    assert production.held_back == "not pushed: no branch of the remote has this commit yet (git push)"
    assert (local.held_back, local.names.moving_tags) == ("", ("latest",))
    assert (await read(clone, {"CI": "true"})).on_remote is None, "a checkout of what a remote has"
    git(clone, "push", "-q", "origin", "topic")
    assert (await read(clone)).on_remote is True, "on any branch of it"


def model(**values: object) -> Model:
    base = {"name": "langid", "directory": Path("/m"), "file": Path("/m/modelport.yaml")}
    return Model.model_validate({**base, **values})


def revision(**values: object) -> SourceRevision:
    base: dict[str, object] = {
        "commit": "a" * 40,
        "head_commit": "a" * 40,
        "committed_at": datetime(2026, 1, 1, tzinfo=UTC),
        "branch": "main",
        "version": None,
        "remote": None,
        "dirty": (),
        "shallow": False,
        "root": Path("/m"),
    }
    return SourceRevision(**{**base, **values})  # type: ignore[arg-type]


def test_only_a_clean_commit_of_a_release_branch_or_tag_is_released() -> None:
    rule = ReleaseRule(branches=("main", "release/*"), tags=("v*", "langid-*"))
    mine = model(release=rule)
    assert releasable(mine, revision()) is None
    assert releasable(mine, revision(branch="release/1.2")) is None
    assert (
        releasable(mine, revision(branch="mainly"))
        == "branch mainly is not in release.branches (main, release/*)"
    )
    assert "no branch is checked out" in str(releasable(mine, revision(branch=None)))
    assert releasable(mine, revision(branch=None, tags=("v1.2.0",))) is None
    assert releasable(mine, revision(branch=None, tags=("langid-v1.2.0",))) is None
    assert releasable(mine, revision(branch=None, tags=("1.2.0",))) is not None, "not a tag of release.tags"
    assert releasable(mine, revision(branch=None, tags=("very-nice",))) is not None, "not a version"
    assert releasable(mine, revision(branch=None, tags=("filetype-v1.2.0",))) is not None, "another model's"


def test_uncommitted_changes_and_pull_requests_are_never_released() -> None:
    many = tuple(f"file{n}" for n in range(9))
    assert releasable(model(), revision(dirty=many)) == "uncommitted changes: file0, file1, file2, …"
    fork = revision(branch="main", pull_request="17", tags=("v1.0.0",))
    assert releasable(model(), fork) == "pull request 17: released after the merge", (
        "a fork's main is not main"
    )
