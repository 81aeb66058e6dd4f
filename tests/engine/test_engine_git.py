"""Query.git and Directory.asGit on real repositories: over file://, over HTTP, in directories."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from git_server import GitServer, commit, git, git_server, repository
from runtime_tools import processes_with
from simulated_sessions import Client, simulated_session

from embedded_engine.git_mirrors import drop_mirror
from embedded_engine.git_sources import GitSources
from embedded_engine.runtime.git import Git

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("git") is None, reason="needs git"),
]
PLAIN = "tree(discardGitDir: true)"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with simulated_session(tmp_path) as session:
        yield session


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    return repository(tmp_path / "repos" / "one")


def named(place: Path) -> str:
    return f'git(url: "file://{place}")'


def over_http(server: GitServer, name: str = "one", arguments: str = "") -> str:
    return f'git(url: "{server.url(name)}"{arguments})'


def files_with(place: Path, *words: str) -> list[Path]:
    files = [file for file in place.rglob("*") if file.is_file()]
    return [file for file in files if any(word.encode() in file.read_bytes() for word in words)]


def remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()


async def test_refs_are_told_as_git_has_them(client: Client, origin: Path) -> None:
    first = git(origin, "rev-parse", "HEAD")
    git(origin, "tag", "-a", "v1.2.0", "-m", "one")
    git(origin, "tag", "v1.10.0-rc.1")
    git(origin, "branch", "feature/x")
    second = commit(origin, b_txt="two")
    repo = named(origin)
    assert await client.ask(repo, "url") == f"file://{origin}"
    assert await client.ask(repo, "head", "ref") == "refs/heads/main"
    assert await client.ask(repo, "head", "commit") == second
    assert await client.ask(repo, 'branch(name: "feature/x")', "commit") == first
    assert await client.ask(repo, 'tag(name: "v1.2.0")', "commit") == first, (
        "the tag's commit, not its object"
    )
    assert await client.ask(repo, 'ref(name: "feature/x")', "ref") == "refs/heads/feature/x"
    assert await client.ask(repo, f'commit(id: "{first}")', "ref") == first
    assert await client.ask(repo, "latestVersion", "ref") == "refs/tags/v1.10.0-rc.1"
    assert await client.ask(repo, "branches") == ["feature/x", "main"]
    assert await client.ask(repo, 'tags(patterns: ["v1.2*"])') == ["v1.2.0"]


async def test_what_is_not_there_is_named(client: Client, origin: Path, tmp_path: Path) -> None:
    repo = named(origin)
    assert await client.fails(repo, 'branch(name: "none")', "commit") == (
        'repository does not contain ref "refs/heads/none"'
    )
    assert await client.fails(repo, 'commit(id: "abc")', "ref") == 'invalid commit SHA: "abc"'
    assert "no valid semver tags found" in await client.fails(repo, "latestVersion", "ref")
    missing = "0" * 39 + "1"
    assert missing in await client.fails(repo, f'commit(id: "{missing}")', PLAIN, "entries")
    assert f"git repository file://{tmp_path}/none" in await client.fails(named(tmp_path / "none"), "url")
    assert 'invalid protocol "ftp"' in await client.fails('git(url: "ftp://x/y")', "url")


async def test_a_tree_has_files_modes_and_a_repository_of_one_commit(client: Client, origin: Path) -> None:
    (origin / "run.sh").write_text("#!/bin/sh\n")
    (origin / "run.sh").chmod(0o755)
    (origin / "link").symlink_to("a.txt")
    commit(origin)
    tree = (named(origin), "head", "tree")
    assert await client.ask(*tree, "entries") == [".git/", "a.txt", "link", "run.sh"]
    assert await client.ask(*tree, 'stat(path: "run.sh")', "permissions") == 0o755
    target = client.session.workdir / "out"
    await client.ask(*tree, f'export(path: "{target}")')
    assert git(target, "status", "--porcelain", "--branch") == "## main"
    assert git(target, "rev-list", "--count", "HEAD") == "1"
    assert git(target, "remote", "get-url", "origin") == f"file://{origin}"
    assert not (target / ".git" / "logs").exists()


async def test_depth_and_tags_are_what_was_asked_for(client: Client, origin: Path) -> None:
    git(origin, "tag", "v1")
    for number in range(3):
        commit(origin, a_txt=str(number))
    target = client.session.workdir
    for depth, count in ((2, "2"), (0, "4")):
        arguments = f"tree(depth: {depth}, includeTags: {str(depth == 0).lower()})"
        await client.ask(named(origin), "head", arguments, f'export(path: "{target}/{depth}")')
        assert git(target / str(depth), "rev-list", "--count", "HEAD") == count
    assert git(target / "0", "tag") == "v1"
    assert git(target / "2", "tag") == ""


async def test_a_ref_is_resolved_once_per_session(tmp_path: Path, origin: Path) -> None:
    async with simulated_session(tmp_path) as one:
        before = await one.ask(named(origin), "head", "commit")
        after = commit(origin, a_txt="new")
        assert await one.ask(named(origin), "head", "commit") == before
    async with simulated_session(tmp_path) as two:
        assert await two.ask(named(origin), "head", "commit") == after
        assert await two.ask(named(origin), "head", PLAIN, 'file(path: "a.txt")', "contents") == "new"


async def test_a_second_session_fetches_nothing_and_a_new_commit_only_what_is_new(tmp_path: Path) -> None:
    origin = repository(tmp_path / "repos" / "one")
    with git_server(tmp_path / "repos") as server:
        chain = (over_http(server), "head", PLAIN, "digest")
        async with simulated_session(tmp_path) as one:
            digest = await one.ask(*chain)
        fetched = server.uploads
        async with simulated_session(tmp_path) as two:
            assert await two.ask(*chain) == digest
        assert server.uploads == fetched + 1, "its refs were asked for, no object"
        commit(origin, b_txt="b")
        async with simulated_session(tmp_path) as three:
            assert await three.ask(*chain) != digest


async def test_the_content_decides_what_runs_again(tmp_path: Path, origin: Path) -> None:
    async def run(session: Client) -> int:
        source = await session.id(
            named(origin), "head", "tree(discardGitDir: true)", 'filter(include: ["a.txt"])'
        )
        base = (
            "container",
            'from(address: "r.test/base:1")',
            f'withMountedDirectory(path: "/s", source: {source})',
        )
        assert await session.ask(*base, 'withExec(args: ["cat", "/s/a.txt"])', "stdout") == "one\n"
        return len(session.runtime.executed)

    async with simulated_session(tmp_path) as one:
        assert await run(one) == 1
    commit(origin, other_txt="does not matter")
    async with simulated_session(tmp_path) as two:
        two.runtime.systems.update(one.runtime.systems)
        assert await run(two) == 0


async def test_sessions_that_fetch_at_once_share_a_mirror(tmp_path: Path, origin: Path) -> None:
    answers: list[list[str]] = []

    async def one(session: Client) -> None:
        answers.append(await session.ask(named(origin), "head", PLAIN, "entries"))

    async with (
        simulated_session(tmp_path) as first,
        simulated_session(tmp_path) as second,
        anyio.create_task_group() as group,
    ):
        for session in (first, second, first, second):
            group.start_soon(one, session)
    assert answers == [["a.txt"]] * 4


async def test_a_mirror_left_half_written_is_mended(tmp_path: Path, origin: Path) -> None:
    async with simulated_session(tmp_path) as one:
        await one.ask(named(origin), "head", PLAIN, "entries")
    (mirror,) = (tmp_path / "state" / "git").glob("*/shallow.git")
    for left in ("shallow.lock", "packed-refs.lock", "objects/pack/tmp_pack_x"):
        (mirror / left).write_text("half")
    commit(origin, b_txt="b")
    async with simulated_session(tmp_path) as two:
        assert await two.ask(named(origin), "head", PLAIN, "entries") == ["a.txt", "b.txt"]
    for file in mirror.glob("objects/**/*"):
        if file.is_file():
            file.chmod(0o600)
            file.write_bytes(file.read_bytes()[:-9])
    async with simulated_session(tmp_path) as three:
        tree = await three.ask(named(origin), "head", "tree", "entries")
    assert tree == [".git/", "a.txt", "b.txt"]


async def test_credentials_open_a_private_repository_and_stay_nowhere(tmp_path: Path) -> None:
    repository(tmp_path / "repos" / "one")
    token = "t0ken-9f8e7d"
    with git_server(tmp_path / "repos", f"x-access-token:{token}") as server:
        async with simulated_session(tmp_path) as client:
            refused = await client.fails(over_http(server), "head", "commit")
            assert "httpAuthToken" in refused
            secret = await client.secret("token", token)
            private = over_http(server, arguments=f", httpAuthToken: {secret}")
            target = client.session.workdir / "out"
            await client.ask(private, "head", "tree", f'export(path: "{target}")')
            named_user = over_http(server, arguments=f', httpAuthUsername: "other", httpAuthToken: {secret}')
            assert "other credentials" in await client.fails(named_user, "url")
    assert files_with(tmp_path, token, "eC1hY2Nlc3MtdG9rZW46") == []


async def test_a_header_or_a_password_in_the_url_do_too(client: Client, tmp_path: Path) -> None:
    repository(tmp_path / "repos" / "one")
    with git_server(tmp_path / "repos", "me:secret-word") as server:
        header = await client.secret("header", "Basic bWU6c2VjcmV0LXdvcmQ=")
        assert await client.ask(over_http(server, arguments=f", httpAuthHeader: {header}"), "branches") == [
            "main"
        ]
        with_password = f'git(url: "http://me:secret-word@127.0.0.1:{server.port}/one")'
        assert await client.ask(with_password, "url") == server.url("one")


async def test_credentials_are_not_on_a_command_line(tmp_path: Path) -> None:
    repository(tmp_path / "repos" / "one")
    seen: list[str] = []
    with git_server(tmp_path / "repos", "x-access-token:t0ken-1234") as server:
        async with simulated_session(tmp_path) as client:
            client.session.git = GitSources(tmp_path / "state" / "git", Git(log=seen.append))
            secret = await client.secret("token", "t0ken-1234")
            await client.ask(
                over_http(server, arguments=f", httpAuthToken: {secret}"), "head", PLAIN, "entries"
            )
    assert any("ls-remote" in line for line in seen)
    assert not any("t0ken" in line or "***" in line or "uthorization" in line for line in seen)


async def test_a_directory_is_a_repository(client: Client, origin: Path) -> None:
    git(origin, "tag", "v2.0.0")
    (origin / "uncommitted.txt").write_text("x")
    repo = ("host", f'directory(path: "{origin}")', "asGit")
    assert await client.ask(*repo, "url") is None
    assert await client.ask(*repo, "latestVersion", "ref") == "refs/tags/v2.0.0"
    assert await client.ask(*repo, "head", PLAIN, "entries") == ["a.txt"]
    assert await client.ask(*repo, "head", "tree", "entries") == [".git/", "a.txt"]


async def test_a_directory_that_leads_to_another_repository_is_refused(
    client: Client, origin: Path, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    for make in (
        lambda: (trap / ".git").write_text(f"gitdir: {origin}/.git\n"),
        lambda: (trap / ".git").symlink_to(origin / ".git"),
        lambda: git(trap, "clone", "-q", "--shared", str(origin), "."),
    ):
        make()
        message = await client.fails(
            "host", f'directory(path: "{trap}", noCache: true)', "asGit", "head", "commit"
        )
        assert "git repository" in message or "leads to another repository" in message
        remove(trap / ".git")


async def test_a_repository_in_a_directory_runs_nothing_on_this_machine(
    client: Client, origin: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    for name in ("core.fsmonitor", "filter.x.smudge", "uploadpack.packObjectsHook", "core.sshCommand"):
        git(origin, "config", name, f"touch {ran}; cat")
    (origin / ".git" / "hooks").mkdir(exist_ok=True)
    hook = origin / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    commit(origin, _gitattributes="* filter=x\n")
    ran.unlink(missing_ok=True)
    await client.ask("host", f'directory(path: "{origin}")', "asGit", "head", "tree", "entries")
    assert not ran.exists()


async def test_the_common_ancestor_of_two_branches(client: Client, origin: Path, tmp_path: Path) -> None:
    base = git(origin, "rev-parse", "HEAD")
    git(origin, "checkout", "-q", "-b", "side")
    commit(origin, side_txt="s")
    git(origin, "checkout", "-q", "main")
    commit(origin, main_txt="m")
    other = await client.id(named(origin), 'branch(name: "side")')
    chain = (named(origin), "head", f"commonAncestor(other: {other})")
    assert await client.ask(*chain, "commit") == base
    assert await client.ask(*chain, "ref") == base
    stranger = repository(tmp_path / "stranger")
    git(stranger, "commit", "-q", "--amend", "-m", "unrelated")
    other = await client.id(named(stranger), "head")
    assert "no common ancestor" in await client.fails(
        named(origin), "head", f"commonAncestor(other: {other})", "commit"
    )


async def test_submodules_come_with_their_parent(client: Client, tmp_path: Path) -> None:
    repos = tmp_path / "repos"
    inner, outer = repository(repos / "inner"), repository(repos / "outer")
    with git_server(repos) as server:
        git(outer, "submodule", "--quiet", "add", server.url("inner"), "part")
        commit(outer)
        repo = over_http(server, "outer")
        assert await client.ask(repo, "head", PLAIN, 'file(path: "part/a.txt")', "contents") == "one\n"
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", f"file://{inner}", "trap")
    commit(outer)
    with git_server(repos) as server:
        message = await client.fails(over_http(server, "outer"), "head", "tree", "entries")
        assert "submodules of" in message, "a repository may not name one of this machine as its part"


async def test_over_ssh_with_the_agent_and_the_hosts_that_were_given(
    client: Client, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh itself is stood in for by a script that runs here what it was to run there."""
    bin_, seen = tmp_path / "bin", tmp_path / "seen"
    bin_.mkdir()
    options = 'while :; do case "$1" in -o) shift 2;; -*) shift;; *) break;; esac; done; shift'
    script = f'echo "$SSH_AUTH_SOCK $*" >> {seen}; {options}; exec sh -c "$*"'
    (bin_ / "ssh").write_text(f"#!/bin/sh\n{script}\n")
    (bin_ / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    agent = await client.id("host", 'unixSocket(path: "agent.sock")')
    given = f'sshAuthSocket: {agent}, sshKnownHosts: "forge.test ssh-ed25519 A"'
    repo = f'git(url: "git@forge.test:{origin}", {given})'
    assert await client.ask(repo, "head", PLAIN, "entries") == ["a.txt"]
    line = seen.read_text().splitlines()[0]
    assert line.startswith(f"{client.session.workdir}/agent.sock ")
    assert "-oStrictHostKeyChecking=yes" in line and "-oBatchMode=yes" in line and "git@forge.test" in line
    await client.ask(f'git(url: "ssh://forge.test{origin}")', "url")
    assert "-oStrictHostKeyChecking=accept-new" in seen.read_text().splitlines()[-1]


async def test_copies_not_used_for_long_can_be_dropped(client: Client, origin: Path) -> None:
    await client.ask(named(origin), "head", PLAIN, "entries")
    (home,) = (client.session.state / "git").iterdir()
    assert drop_mirror(home)
    assert [left.name for left in home.iterdir()] == ["lock"]
    assert await client.ask(named(origin), "head", "tree", "entries") == [".git/", "a.txt"]


async def test_a_client_that_leaves_ends_git_and_its_helpers(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        async with anyio.create_task_group() as group:
            group.start_soon(client.ask, f'git(url: "{url}")', "url")
            with anyio.fail_after(20):
                while not processes_with(f"git-remote-http {url}"):  # noqa: ASYNC110  # a process tells nobody
                    await anyio.sleep(0.02)
            group.cancel_scope.cancel()
        with anyio.fail_after(5):
            while processes_with(url):  # noqa: ASYNC110
                await anyio.sleep(0.02)


async def test_ids_of_repositories_and_refs_lead_back(client: Client, origin: Path) -> None:
    repo, ref = await client.id(named(origin)), await client.id(named(origin), "head")
    assert await client.ask(f"loadGitRepositoryFromID(id: {repo})", "branches") == ["main"]
    assert await client.ask(f"loadGitRefFromID(id: {ref})", "ref") == "refs/heads/main"
    assert json.loads(repo) != json.loads(ref)


async def test_without_git_the_error_says_so(
    client: Client, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "git is missing" in await client.fails(named(origin), "url")
