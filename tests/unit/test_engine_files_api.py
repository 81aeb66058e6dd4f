"""Host, Directory, File through the served API: lazy, immutable, in the user's own paths."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from runtime_simulator import SimulatedRuntime

from embedded_engine import reading
from embedded_engine.api import Api, build_api
from embedded_engine.entries import EPOCH
from embedded_engine.resolvers.tables import all_fields
from embedded_engine.secrets import Secrets
from embedded_engine.session import Session, open_session
from embedded_engine.store import Store

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
API = build_api(all_fields())


@dataclass
class Client:
    """Asks one session: a chain is its fields, outermost first."""

    session: Session
    api: Api
    workdir: Path

    async def ask(self, *chain: str) -> Any:
        data = (await self.raw(*chain))["data"]
        while isinstance(data, dict):
            (data,) = data.values()
        return data

    async def raw(self, *chain: str) -> dict[str, Any]:
        query = "{ " + " { ".join(chain) + " }" * len(chain)
        answer = await self.api.answer(self.session, query, None, None)
        body = dict(answer.body)
        assert "errors" not in body, body
        return body

    async def fails(self, *chain: str) -> str:
        query = "{ " + " { ".join(chain) + " }" * len(chain)
        answer = await self.api.answer(self.session, query, None, None)
        return str(answer.body["errors"][0]["message"])

    async def id(self, *chain: str) -> str:
        return json.dumps(await self.ask(*chain, "id"))


Sessions = Callable[[], Awaitable[Client]]


@pytest.fixture
async def new_session(tmp_path: Path) -> AsyncIterator[Sessions]:
    """Sessions on one state directory, each of which ends with the test."""
    workdir = tmp_path / "work"
    workdir.mkdir()
    runtime = SimulatedRuntime(tmp_path / "runtime", {"r.test/base:1": "sha256:" + "a" * 64})
    ended = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def hold(*, task_status: anyio.abc.TaskStatus[Client]) -> None:
            store = Store.open(tmp_path / "state" / "engine.sqlite")
            secrets = Secrets.in_session(store, workdir)
            async with open_session(tmp_path / "state", runtime, store, secrets) as session:
                task_status.started(Client(session, API, workdir))
                await ended.wait()

        async def begin() -> Client:
            client = await tasks.start(hold)
            assert isinstance(client, Client)
            return client

        yield begin
        ended.set()


@pytest.fixture
async def client(new_session: Sessions) -> Client:
    return await new_session()


def new_file(path: str, contents: str = "", permissions: int = 420) -> str:
    args = f"path: {json.dumps(path)}, contents: {json.dumps(contents)}, permissions: {permissions}"
    return f"withNewFile({args})"


# --- host


async def test_paths_are_relative_to_the_sessions_directory_and_may_leave_it(client: Client) -> None:
    (client.workdir / "p").mkdir()
    (client.workdir / "p" / "x").write_text("inside")
    (client.workdir.parent / "y").write_text("outside")
    assert await client.ask("host", 'file(path: "p/x")', "contents") == "inside"
    assert await client.ask("host", 'file(path: "../y")', "contents") == "outside"
    assert await client.ask("host", f'file(path: "{client.workdir}/p/x")', "contents") == "inside"
    assert "p/" in await client.ask("host", 'directory(path: ".")', "entries")


async def test_what_is_missing_fails_where_it_is_named(client: Client) -> None:
    (client.workdir / "f").write_text("")
    assert await client.fails("host", 'directory(path: "no")', "id") == "stat no: no such file or directory"
    assert await client.fails("host", 'file(path: "no")', "id") == "stat no: no such file or directory"
    assert await client.fails("host", 'directory(path: "f")', "id") == "f: not a directory"
    assert "pattern" in await client.fails("host", 'directory(path: ".", exclude: ["["])', "id")


async def test_one_load_per_session_and_arguments(new_session: Sessions) -> None:
    first = await new_session()
    file = first.workdir / "x"
    file.write_text("old")
    directory = ("host", 'directory(path: ".")')
    before = await first.ask(*directory, "digest")
    file.write_text("new")
    assert await first.ask(*directory, "digest") == before
    fresh = ("host", 'directory(path: ".", noCache: true)')
    assert await first.ask(*fresh, 'file(path: "x")', "contents") == "new"
    second = await new_session()
    assert await second.ask(*directory, 'file(path: "x")', "contents") == "new"


async def test_filters_and_ids_go_by_content(client: Client) -> None:
    for name in ("a.py", "b.log", "keep.log"):
        (client.workdir / name).write_text(name)
    wanted = 'directory(path: ".", exclude: ["*.log", "!keep.log"])'
    assert await client.ask("host", wanted, "entries") == ["a.py", "keep.log"]
    same = 'directory(path: ".", include: ["*.py", "keep.log"])'
    assert await client.ask("host", wanted, "id") == await client.ask("host", same, "id")


async def test_find_up(client: Client) -> None:
    (client.workdir.parent / "marker").write_text("")
    assert await client.ask("host", 'findUp(name: "marker")') == "../marker"
    assert await client.ask("host", 'findUp(name: "no-such-marker-anywhere")') is None


# --- directories


async def test_a_directory_is_never_changed(client: Client) -> None:
    base = await client.id("directory", new_file("a", "1"))
    node = f"node(id: {base})"
    changed = ("... on Directory", new_file("a", "2"), 'file(path: "a")', "contents")
    assert await client.ask(node, *changed) == "2"
    assert await client.ask(node, "... on Directory", 'file(path: "a")', "contents") == "1"


async def test_nothing_is_written_until_something_asks(client: Client) -> None:
    await client.ask("directory", new_file("a", "1"), "id")
    assert not list(client.session.trees.root.glob("files/*/*"))
    await client.ask("directory", new_file("a", "1"), "sync")
    assert list(client.session.trees.root.glob("files/*/*"))


async def test_edits_one_by_one(client: Client) -> None:
    source = await client.id("directory", new_file("s/x.py", "x"), new_file("s/y.txt", "y"))
    file = await client.id('file(name: "f.txt", contents: "f")')
    chain = (
        "directory",
        f'withDirectory(path: "in", source: {source}, include: ["**/*.py"])',
        f'withFile(path: "in/", source: {file}, permissions: 384)',
        f'withFiles(path: "many", sources: [{file}])',
        'withNewDirectory(path: "empty")',
        'withSymlink(target: "in/f.txt", linkName: "link")',
        new_file("gone/a"),
        'withoutDirectory(path: "gone")',
        'withoutFiles(paths: ["no", "such"])',
    )
    assert await client.ask(*chain, 'glob(pattern: "**")') == [
        "empty/", "in/", "in/f.txt", "in/s/", "in/s/x.py", "link", "many/", "many/f.txt",
    ]  # fmt: skip
    assert await client.ask(*chain, 'stat(path: "in/f.txt")', "permissions") == 0o600
    assert await client.ask(*chain, 'stat(path: "link")', "fileType") == "REGULAR"
    kept = 'stat(path: "link", doNotFollowSymlinks: true)'
    assert await client.ask(*chain, kept, "fileType") == "SYMLINK"
    assert await client.ask(*chain, 'exists(path: "link", expectedType: SYMLINK_TYPE)') is True
    assert await client.ask(*chain, 'exists(path: "in", expectedType: REGULAR_TYPE)') is False
    assert await client.ask(*chain, 'exists(path: "nope")') is False
    assert await client.ask(*chain, 'directory(path: "in/s")', "entries") == ["x.py"]
    assert await client.ask(*chain, 'entries(path: "in")') == ["f.txt", "s/"]
    assert await client.ask(*chain, 'directory(path: "in/s")', "name") == "s/"
    assert await client.ask(*chain, 'findUp(name: "f.txt", start: "in/s")') == "in/f.txt"


async def test_paths_in_messages_are_the_users(client: Client) -> None:
    base = ("directory", new_file("d/a"))
    missing = "no such file or directory"
    assert await client.fails(*base, 'file(path: "d/no")', "contents") == f"stat d/no: {missing}"
    assert await client.fails(*base, 'directory(path: "no")', "entries") == f"stat no: {missing}"
    assert await client.fails(*base, 'entries(path: "no/x")') == f"stat no/x: {missing}"
    assert await client.fails(*base, 'file(path: "d")', "size") == "d: is a directory, not a file"
    assert await client.fails(*base, 'stat(path: "no")', "size") == f"stat no: {missing}"


async def test_equal_content_has_an_equal_digest_whatever_made_it(client: Client) -> None:
    (client.workdir / "a").write_text("1")
    (client.workdir / "a").chmod(0o644)
    made = await client.ask(
        "directory", new_file("b"), new_file("a", "1"), 'withoutFile(path: "b")', "digest"
    )
    assert made == await client.ask("host", 'directory(path: ".")', "digest")
    assert made != await client.ask("directory", new_file("a", "2"), "digest")


async def test_owner_and_times_are_part_of_the_digest(client: Client) -> None:
    base = ("directory", new_file("a"))
    digests = [
        await client.ask(*base, "digest"),
        await client.ask(*base, 'chown(path: "a", owner: "7")', "digest"),
        await client.ask(*base, "withTimestamps(timestamp: 7)", "digest"),
    ]
    assert len(set(digests)) == 3
    message = await client.fails(*base, 'chown(path: "a", owner: "web")', "digest")
    assert message == 'unable to find user "web": the directory has no /etc/passwd: use a number'


async def test_diff_and_filter(client: Client) -> None:
    lower = ("directory", new_file("same"), new_file("old"))
    upper = await client.id("directory", new_file("same"), new_file("new", "n"))
    assert await client.ask(*lower, f"diff(other: {upper})", 'glob(pattern: "**")') == ["new"]
    assert await client.ask(*lower, 'filter(exclude: ["o*"])', "entries") == ["same"]


async def test_hundreds_of_edits_in_one_chain(client: Client) -> None:
    base = await client.id("directory")
    for block in range(5):
        edits = [new_file(f"f{block}-{number}") for number in range(100)]
        base = await client.id(f"node(id: {base})", "... on Directory", *edits)
    assert len(await client.ask(f"node(id: {base})", "... on Directory", "entries")) == 500


# --- files


async def test_contents_whole_in_lines_and_broken(client: Client) -> None:
    text = ('file(name: "t", contents: "1\\n2\\n3\\n")',)
    assert await client.ask(*text, "contents") == "1\n2\n3\n"
    assert await client.ask(*text, "contents(offsetLines: 1, limitLines: 1)") == "2\n"
    assert await client.ask(*text, "contents(limitLines: 0)") == ""
    assert await client.ask(*text, "contents(offsetLines: 9)") == ""
    (client.workdir / "latin").write_bytes(b"a\xffb")
    assert await client.ask("host", 'file(path: "latin")', "contents") == "a\ufffdb"


async def test_a_file_over_the_limit_is_refused_whole_but_not_in_lines(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reading.CONTENTS_LIMIT == 134217728
    monkeypatch.setattr(reading, "CONTENTS_LIMIT", 1000)
    (client.workdir / "big").write_text("first\n" + "x" * 1000)
    file = ("host", 'file(path: "big")')
    assert await client.fails(*file, "contents") == "file size 1006 exceeds limit 1000"
    assert await client.ask(*file, "contents(limitLines: 1)") == "first\n"
    assert await client.fails(*file, "contents(limitLines: 2)") == "file size 1006 exceeds limit 1000"


async def test_a_files_digest_with_and_without_metadata(client: Client) -> None:
    plain = 'file(name: "a", contents: "x")'
    closed = 'file(name: "b", contents: "x", permissions: 256)'
    assert await client.ask(plain, "digest") != await client.ask(closed, "digest")
    bare = "digest(excludeMetadata: true)"
    assert await client.ask(plain, bare) == await client.ask(closed, bare)


async def test_new_files_from_files(client: Client) -> None:
    file = 'file(name: "a", contents: "one two one")'
    assert await client.ask(file, 'withName(name: "b")', "name") == "b"
    replaced = 'withReplaced(search: "one", replacement: "1", all: true)'
    assert await client.ask(file, replaced, "contents") == "1 two 1"
    once = 'withReplaced(search: "one", replacement: "1")'
    assert "multiple times" in await client.fails(file, once, "contents")
    assert await client.fails('file(name: "a/b", contents: "")', "id") == (
        'file name "a/b" must not contain a directory'
    )


# --- export


async def test_a_directory_merges_into_the_target_or_wipes_it(client: Client) -> None:
    target = client.workdir / "out" / "deep"
    target.mkdir(parents=True)
    (target / "old").write_text("old")
    directory = ("directory", new_file("d/run", "#!", 0o755), 'withSymlink(target: "d", linkName: "l")')
    assert await client.ask(*directory, 'export(path: "out/deep")') == str(target)
    assert (target / "old").exists()
    assert stat.S_IMODE((target / "d" / "run").stat().st_mode) == 0o755
    assert (target / "l").readlink() == Path("d")
    assert (target / "d" / "run").stat().st_mtime != EPOCH
    await client.ask(*directory, 'export(path: "out/deep", wipe: true)')
    assert sorted(path.name for path in target.iterdir()) == ["d", "l"]


async def test_what_is_exported_can_be_changed_without_harm(client: Client) -> None:
    directory = ("directory", new_file("a", "kept"))
    await client.ask(*directory, 'export(path: "out")')
    (client.workdir / "out" / "a").write_text("bad!")
    assert await client.ask(*directory, 'file(path: "a")', "contents") == "kept"
    await client.ask(*directory, 'export(path: "out")')
    assert (client.workdir / "out" / "a").read_text() == "kept"


async def test_export_never_writes_through_a_link_of_the_target(client: Client) -> None:
    outside = client.workdir / "outside"
    outside.mkdir()
    (client.workdir / "out").mkdir()
    (client.workdir / "out" / "d").symlink_to(outside)
    await client.ask("directory", new_file("d/a", "1"), 'export(path: "out")')
    assert not list(outside.iterdir())
    assert (client.workdir / "out" / "d" / "a").read_text() == "1"


async def test_a_file_never_takes_the_place_of_a_directory(client: Client) -> None:
    (client.workdir / "out" / "a").mkdir(parents=True)
    message = await client.fails("directory", new_file("a"), 'export(path: "out")')
    assert message == f"{client.workdir}/out/a is a directory on the host but a file in the export"


async def test_a_file_is_exported_to_a_name_or_into_a_directory(client: Client) -> None:
    file = 'file(name: "f", contents: "x")'
    assert await client.ask(file, 'export(path: "new/g")') == f"{client.workdir}/new/g"
    assert "is a directory: name a file" in await client.fails(file, 'export(path: "new")')
    into = 'export(path: "new", allowParentDirPath: true)'
    assert await client.ask(file, into) == f"{client.workdir}/new"
    assert (client.workdir / "new" / "f").read_text() == "x"


async def test_a_time_that_was_set_is_exported(client: Client) -> None:
    stamped = ("directory", new_file("a"), "withTimestamps(timestamp: 1000000000)")
    await client.ask(*stamped, 'export(path: "out")')
    assert (client.workdir / "out" / "a").stat().st_mtime == 1000000000


# --- containers' file systems


BASE = ("container", 'from(address: "r.test/base:1")')


async def test_a_containers_files_are_read_in_place_and_edited_in_the_store(client: Client) -> None:
    run = (*BASE, 'withExec(args: ["write", "/app/x", "made"])')
    assert await client.ask(*run, 'directory(path: "/app")', "entries") == ["x"]
    assert await client.ask(*run, 'file(path: "/app/x")', "contents") == "made"
    assert await client.ask(*run, "rootfs", 'glob(pattern: "**/x")') == ["app/x"]
    assert not list(client.session.trees.root.glob("files/*/*"))
    edited = (*run, 'directory(path: "/app")', new_file("y", "added"))
    assert await client.ask(*edited, "entries") == ["x", "y"]
    assert await client.ask(*edited, 'export(path: "out")') == str(client.workdir / "out")
    assert (client.workdir / "out" / "x").read_text() == "made"
    missing = await client.fails(*run, 'file(path: "/app/no")', "contents")
    assert missing == "stat /app/no: no such file or directory"


async def test_a_directory_goes_into_a_container_and_a_file_comes_out(client: Client) -> None:
    (client.workdir / "src").mkdir()
    (client.workdir / "src" / "m.py").write_text("code")
    source = await client.id("host", 'directory(path: "src")')
    with_code = (*BASE, f'withDirectory(path: "/code", source: {source})')
    run = (*with_code, 'withExec(args: ["cat", "/code/m.py"])')
    assert await client.ask(*run, "stdout") == "code"
    taken = await client.id(*with_code, 'file(path: "/code/m.py")')
    assert (
        await client.ask("directory", f'withFile(path: "n", source: {taken})', 'file(path: "n")', "contents")
        == "code"
    )


async def test_no_temporary_files_are_left(client: Client) -> None:
    await client.ask("directory", new_file("a", "x" * 10), 'export(path: "out")')
    await client.ask("directory", new_file("a"), "digest")
    assert [path.name for path in client.session.trees.blobs.temp.iterdir()] == ["alive"]
    assert [path.name for path in (client.workdir / "out").iterdir()] == ["a"]


async def test_what_an_exec_may_change_is_never_the_stores_own(client: Client) -> None:
    source = await client.id("directory", new_file("a", "1"))
    mounts = {"own": "", "owned": ', readOnly: true, owner: "7"', "shared": ", readOnly: true"}
    steps = [f'withMountedDirectory(path: "/{n}", source: {source}{rest})' for n, rest in mounts.items()]
    await client.ask(*BASE, *steps, 'withExec(args: ["true"])', "sync")
    runtime = client.session.runtime
    assert isinstance(runtime, SimulatedRuntime)
    shared = {
        mount.target: mount.source is not None and mount.source.is_relative_to(client.session.trees.root)
        for mount in runtime.executed[-1].mounts
    }
    assert shared == {"/own": False, "/owned": False, "/shared": True}


async def test_permissions_of_a_copied_directory_are_for_all_that_is_in_it(client: Client) -> None:
    source = await client.id("directory", new_file("d/a", "1"))
    step = f'withDirectory(path: "/x", source: {source}, permissions: 448)'
    await client.ask(*BASE, step, 'withExec(args: ["true"])', "sync")
    (tree,) = client.session.trees.root.glob("?" * 64)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tree, *tree.rglob("*"))} == {0o700}
