"""Execs and edits on real Buildah: what they see, what they leave, and that nothing stays of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest
from engine_home import EngineHome
from runtime_tools import Base, Facts, base_runtime, members, mounts_below, plain, processes_with, run_tool

from embedded_engine.runtime.buildah import Isolation
from embedded_engine.runtime.port import (
    SCRATCH,
    Copy,
    Link,
    Mount,
    Remove,
    RuntimeFailure,
    SecretFile,
    SetupFailure,
    Write,
)
from embedded_engine.runtime.state import open_state

pytestmark = [pytest.mark.anyio, pytest.mark.engine]
FACTS = Facts()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runtime-state")


@pytest.fixture
async def base(home: EngineHome, state: Path) -> AsyncIterator[Base]:
    async with base_runtime(state, home.base, FACTS) as running:
        yield running


@pytest.fixture(params=["oci", "chroot"])
async def isolated(request: pytest.FixtureRequest, base: Base) -> Base:
    """The same runtime, once with each isolation (oci only where the probe found it)."""
    found = await base.runtime.isolation()
    if request.param != found.kind:
        if request.param == "oci":
            pytest.skip("oci isolation does not work on this machine")
        base.runtime._isolation = Isolation("chroot", found.network, "", found.init)
    return base


async def test_exit_codes_and_outputs_are_the_commands_own(isolated: Base) -> None:
    result = await isolated.runtime.execute(
        isolated.step("sh", "-c", "echo out; echo err >&2; exit 125"), bool
    )
    assert (result.exit_code, result.stdout, result.stderr) == (125, b"out\n", b"err\n")
    assert sorted(result.combined.splitlines()) == [b"err", b"out"]


async def test_a_missing_program_is_told_as_dagger_tells_it(isolated: Base) -> None:
    missing = await isolated.runtime.execute(isolated.step("nosuch", "x"), lambda _: False)
    assert (missing.exit_code, missing.stderr) == (1, b'exec: "nosuch": executable file not found in $PATH\n')
    refused = await isolated.runtime.execute(isolated.step("/etc/passwd"), lambda _: False)
    assert (refused.exit_code, refused.stderr) == (1, b"fork/exec /etc/passwd: permission denied\n")


async def test_death_by_a_signal_is_128_and_its_number(isolated: Base) -> None:
    async with anyio.create_task_group() as group:

        async def kill_it() -> None:
            while not (found := _pids("sleep 31557")):  # noqa: ASYNC110  # a process tells nobody
                await anyio.sleep(0.02)
            os.kill(found[0], signal.SIGKILL)

        group.start_soon(kill_it)
        result = await isolated.runtime.execute(isolated.step("sleep", "31557"), lambda _: False)
    assert result.exit_code == 137


async def test_a_command_can_end_by_a_signal_of_its_own(isolated: Base) -> None:
    await _needs_init(isolated)
    for number in (9, 15):
        step = isolated.step("sh", "-c", f"echo said; kill -{number} $$; echo not")
        result = await isolated.runtime.execute(step, lambda _: False)
        assert (result.exit_code, result.stdout, result.stderr) == (128 + number, b"said\n", b"")


async def test_orphans_are_reaped(isolated: Base) -> None:
    await _needs_init(isolated)
    count = "print scalar grep { open F, $_ and <F> =~ /\\) Z / } </proc/[0-9]*/stat>"
    zombies = f"select undef, undef, undef, 0.4; {count}"
    step = isolated.step("sh", "-c", f"(sleep 0.1 &); exec perl -e '{zombies}'")
    result = await isolated.runtime.execute(step, lambda _: False)
    assert result.stdout == b"0"


async def test_the_first_process_is_an_init_unless_told_otherwise(base: Base) -> None:
    if (await base.runtime.isolation()).kind != "oci":
        pytest.skip("chroot isolation has no process namespace of its own")
    await _needs_init(base)
    for init, first in ((True, b"/run/.engine/init"), (False, b"cat")):
        result = await base.runtime.execute(base.step("cat", "/proc/1/cmdline", init=init), lambda _: False)
        assert result.stdout.split(b"\0")[0].endswith(first)


@pytest.mark.parametrize("user", ["", "1000:1000"])
async def test_a_program_that_cannot_start_is_told_alike_with_an_init(isolated: Base, user: str) -> None:
    written = await isolated.runtime.edit(
        isolated.image.snapshot,
        [
            Write("/bare", b"echo read by a shell\n", mode=0o755),
            Write("/usr/bin/bare-on-path", b"echo read by a shell\n", mode=0o755),
            Write("/lost", b"#!/no/such/interpreter\n", mode=0o755),
            Write("/private", b"#!/bin/sh\n", mode=0o700),
        ],
    )
    wanted = {
        "/bare": b"fork/exec /bare: exec format error\n",
        "bare-on-path": b"fork/exec /usr/bin/bare-on-path: exec format error\n",
        "/lost": b"fork/exec /lost: no such file or directory\n",
        "/usr": b"fork/exec /usr: permission denied\n",
        "no-such": b'exec: "no-such": executable file not found in $PATH\n',
    }
    if user:
        wanted["/private"] = b"fork/exec /private: permission denied\n"
    for program, words in wanted.items():
        step = replace(isolated.step(program, user=user), parent=written)
        result = await isolated.runtime.execute(step, lambda _: False)
        assert (result.exit_code, result.stderr) == (1, words)


async def _needs_init(base: Base) -> None:
    found = await base.runtime.isolation()
    if not found.init:
        pytest.skip("no init program is installed")


async def test_an_unknown_user_is_a_setup_failure(isolated: Base) -> None:
    with pytest.raises(SetupFailure, match="unable to find user ghost"):
        await isolated.runtime.execute(isolated.step("true", user="ghost"), bool)


async def test_nothing_of_the_run_is_in_the_layer(isolated: Base, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mounted")
    snapshot = await isolated.shell(
        "cat /run/.engine/ca.pem /run/secrets/token /deep/er/f /etc/hosts; test $PASS = hush; : > /made",
        secret_env=(("PASS", "hush"),),
        secret_files=(SecretFile("/run/secrets/token", b"token-value"),),
        mounts=(Mount("/deep/er", source=tmp_path, read_only=True), Mount("/scratch/x", kind="tmpfs")),
        hosts=(("10.1.2.3", ("db",)),),
    )
    layer = (await isolated.runtime.layers(snapshot))[-1]
    kept = {name for name, member in members(layer).items() if not member.isdir()}
    assert kept == {"made"}
    assert not {"deep", "scratch", "run/.engine", "run/secrets"} & set(members(layer))
    assert {member.mtime for member in members(layer).values()} == {315_532_800}
    async with isolated.runtime.mounted(snapshot) as root:
        assert not (root / "etc/hosts").exists()
        assert not (root / "deep").exists()
        assert not list((root / "run").iterdir()) if (root / "run").exists() else True


async def test_secrets_are_in_no_argument_and_no_file_of_the_state(base: Base, state: Path) -> None:
    secret = "tr4ceable-" + os.urandom(6).hex()
    await base.shell(
        "test -n $PASS", secret_env=(("PASS", secret),), secret_files=(SecretFile("/s", secret.encode()),)
    )
    assert not [line for line in base.commands if secret in line]
    found = await anyio.run_process(["grep", "-rl", secret, str(state)], check=False)
    assert found.stdout == b""


async def test_both_isolations_make_the_same_snapshot(base: Base) -> None:
    found = await base.runtime.isolation()
    first = await base.shell("mkdir /app; echo same > /app/file; chown 7:8 /app/file")
    base.runtime._isolation = Isolation("chroot", found.network, "")
    assert await base.shell("mkdir /app; echo same > /app/file; chown 7:8 /app/file") == first


async def test_a_cancelled_exec_leaves_no_process_mount_or_container(isolated: Base, state: Path) -> None:
    script = "(trap '' TERM HUP INT; exec sleep 31415) & sleep 31415"
    with anyio.move_on_after(1.5) as scope:
        await isolated.runtime.execute(isolated.step("sh", "-c", script), lambda _: True)
    assert scope.cancelled_caught
    assert processes_with("sleep 31415") == []
    assert mounts_below(state) == []
    assert "ee-" not in run_tool(isolated.runtime, ["buildah", "containers", "--all"])
    own = isolated.runtime.state.temp  # the session's, as long as it lives
    assert [path for path in (state / "tools").iterdir() if path.name.startswith("ee-") and path != own] == []
    assert not own.exists() or list(own.iterdir()) == []


def test_a_killed_engine_leaves_nothing_after_the_next_start(home: EngineHome, tmp_path: Path) -> None:
    program = (
        "import sys, anyio; sys.path[:0] = sys.argv[4:]\n"
        "from pathlib import Path\n"
        "from runtime_tools import base_runtime\n"
        "async def main():\n"
        "    async with base_runtime(Path(sys.argv[1]), sys.argv[2]) as base:\n"
        "        await base.shell(sys.argv[3], secret_env=(('S', 'x'),))\n"
        "anyio.run(main)\n"
    )
    tests = Path(__file__).parents[1]
    argv = [str(tmp_path / "state"), home.base, "sleep 27182", str(tests), str(tests.parent)]
    victim = subprocess.Popen([sys.executable, "-c", program, *argv], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not _pids("sleep 27182"):
            assert time.monotonic() < deadline, "the exec did not start"
            time.sleep(0.05)
    finally:
        victim.kill()
        victim.wait()
    time.sleep(0.3)
    assert _pids("sleep 27182") == []
    owner = f"ee-{victim.pid}-"

    async def next_start() -> None:
        async with base_runtime(tmp_path / "state", home.base) as base:
            await base.runtime.isolation()
            assert owner not in run_tool(base.runtime, ["buildah", "containers", "--all"])

    anyio.run(next_start)
    assert mounts_below(tmp_path / "state") == []
    for directory in (Path("/dev/shm"), tmp_path / "state" / "tools"):
        assert not list(directory.glob(f"{owner}*"))


@pytest.mark.parametrize("note", [None, b'{"type": "bui'])
async def test_a_container_that_buildah_never_noted_is_swept_too(base: Base, note: bytes | None) -> None:
    state = base.runtime.state
    run_tool(base.runtime, ["buildah", "from", "--name", "ee-4194303-1-0badcafe", "scratch"])
    ((identity, _),) = [one for one in state.containers() if one[1] == "ee-4194303-1-0badcafe"]
    file = state.storage / f"{state.driver}-containers" / identity / "userdata/buildah.json"
    file.unlink()
    if note is not None:
        file.write_bytes(note)
    await base.runtime.garbage.sweep()
    assert identity not in [one for one, _ in state.containers()]


async def test_nor_does_a_session_leave_one_of_its_own(base: Base) -> None:
    state = base.runtime.state
    async with base.runtime.executor.working.container(SCRATCH) as (name, _):
        ((identity, _),) = [one for one in state.containers() if one[1] == name]
        (state.storage / f"{state.driver}-containers" / identity / "userdata/buildah.json").unlink()
    assert identity not in [one for one, _ in state.containers()]


async def test_a_deleted_state_directory_takes_its_run_root_along(base: Base, tmp_path: Path) -> None:
    gone = open_state(tmp_path / "gone", dict(os.environ))
    shutil.rmtree(gone.root)
    await base.runtime.garbage.sweep()
    assert not gone.runroot.exists()
    assert base.runtime.state.runroot.exists()


async def test_a_run_does_not_reach_the_hosts_loopback(base: Base, loopback_server: int) -> None:
    if (await base.runtime.isolation()).network == "host":
        pytest.skip("runs share the host's network on this machine")
    connect = f"use IO::Socket::INET; exit(IO::Socket::INET->new('127.0.0.1:{loopback_server}') ? 0 : 9)"
    socket_there = "eval { require IO::Socket::INET } or exit 77;"
    result = await base.runtime.execute(base.step("perl", "-e", socket_there + connect), lambda _: False)
    assert result.exit_code == 9


async def test_edits_become_one_layer(base: Base, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/script").write_text("#!/bin/sh\n")
    (tree / "sub/script").chmod(0o755)
    (tree / "link").symlink_to("sub/script")
    edits = [
        Copy(tree, "/opt/tree", owner="app"),
        Write("/opt/note", b"hello", mode=0o640),
        Link("/opt/to", "note"),
        Remove("/etc/passwd"),
    ]
    snapshot = await base.runtime.edit(base.image.snapshot, edits)
    found = members((await base.runtime.layers(snapshot))[-1])
    assert {name: oct(found[name].mode & 0o7777) for name in ("opt/note", "opt/tree/sub/script")} == {
        "opt/note": "0o640",
        "opt/tree/sub/script": "0o755",
    }
    assert found["opt/tree/sub/script"].uid == 1000
    assert found["opt/to"].linkname == "note"
    assert "etc/.wh.passwd" in found


async def test_an_edit_never_follows_a_link_out_of_the_root(base: Base, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    trap = await base.shell(f"ln -s {outside} /trap")
    await base.runtime.edit(trap, [Write("/trap/file", b"x"), Remove("/trap/*")])
    assert list(outside.iterdir()) == []


async def test_scratch_is_an_empty_file_system(base: Base) -> None:
    snapshot = await base.runtime.edit(SCRATCH, [Write("/only", b"this")])
    (layer,) = await base.runtime.layers(snapshot)
    assert [name for name, member in members(layer).items() if not member.isdir()] == ["only"]
    assert b"this" in plain(layer)


async def test_an_edit_that_cannot_be_made_is_told_in_the_users_words(base: Base) -> None:
    with pytest.raises(RuntimeFailure, match="unable to find user ghost"):
        await base.runtime.edit(base.image.snapshot, [Write("/x", b"", owner="ghost")])


@pytest.fixture
def loopback_server() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def _pids(command: str) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if line == command or line.endswith(f"/{command}"):
            found.append(int(file.parent.name))
    return found
