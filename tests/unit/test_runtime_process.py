"""The one place where processes start: ends, masks, tails, and that nothing outlives its call."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import pytest
from runtime_tools import processes_with

from embedded_engine.runtime.logins import private_directory
from embedded_engine.runtime.process import TAIL_LINES, CommandFailed, Hooks, Runner, ToolMissing
from embedded_engine.runtime.process_names import is_orphan, owner_name, start_time

pytestmark = pytest.mark.anyio
ENVIRON = {"PATH": os.environ["PATH"]}


async def test_outputs_come_apart_and_whole() -> None:
    script = "import sys; sys.stdout.write('o' * 3_000_000); sys.stderr.write('e'); print(sys.stdin.read())"
    finished = await Runner(ENVIRON).run([sys.executable, "-c", script], stdin=b"in")
    assert (len(finished.stdout), finished.stderr) == (3_000_003, b"e")
    assert len(finished.combined) == 3_000_004


async def test_a_failure_has_a_masked_and_bounded_tail() -> None:
    lines: list[str] = []
    runner = Runner(ENVIRON, lambda: ["hush-hush"], lines.append)
    script = "seq 1 500 >&2; echo 'Error: password hush-hush is wrong' >&2; exit 4"
    with pytest.raises(CommandFailed) as caught:
        await runner.run(["sh", "-c", script])
    assert str(caught.value) == "sh failed (exit code 4): password *** is wrong"
    assert caught.value.exit_code == 4
    assert len(caught.value.detail.splitlines()) == TAIL_LINES
    assert "hush-hush" not in caught.value.detail + "".join(lines)


async def test_a_missing_tool_is_told_with_what_to_install() -> None:
    with pytest.raises(
        ToolMissing, match=r"skopeo is missing: apt-get install buildah skopeo [|] dnf install buildah skopeo"
    ):
        await Runner({"PATH": "/nonexistent"}).run(["skopeo"])


async def test_death_by_a_signal() -> None:
    finished = await Runner(ENVIRON).run(["sh", "-c", "kill -9 $$"], check=False)
    assert finished.exit_code == 137


async def test_what_clears_away_runs_once_more_when_it_is_killed(tmp_path: Path) -> None:
    count = tmp_path / "count"
    await Runner(ENVIRON).tidy(["sh", "-c", f"echo once >> {count}; kill -9 $$"])
    assert count.read_text() == "once\nonce\n"
    await Runner(ENVIRON).tidy(["sh", "-c", f"echo > {count}; exit 3"])
    assert count.read_text() == "\n"


async def test_cancelling_kills_the_whole_group() -> None:
    mark = f"6{os.getpid()}"
    with anyio.move_on_after(0.3) as scope:
        await Runner(ENVIRON).run(["sh", "-c", f"trap '' TERM; sleep {mark} & sleep {mark}"])
    assert scope.cancelled_caught
    assert processes_with(f"sleep {mark}") == []


async def test_input_nobody_reads_is_no_error() -> None:
    assert (await Runner(ENVIRON).run(["true"], stdin=b"x" * 1_000_000)).exit_code == 0


async def test_a_gate_comes_before_the_input_and_its_failure_ends_the_process() -> None:
    seen: list[int] = []

    async def gate(pid: int) -> None:
        seen.append(pid)

    await Runner(ENVIRON).run(["cat"], stdin=b"x", hooks=Hooks(gate=gate))
    assert seen

    async def broken(pid: int) -> None:
        raise ValueError(pid)

    with pytest.raises(ValueError, match=r"\d+"):
        await Runner(ENVIRON).run(["sleep", "100"], stdin=b"x", hooks=Hooks(gate=broken))


async def test_output_is_handed_on_and_not_kept() -> None:
    pieces: list[tuple[int, bytes]] = []
    hooks = Hooks(lambda stream, piece: pieces.append((stream, piece)), keep_output=False)
    finished = await Runner(ENVIRON).run(["sh", "-c", "echo a; echo b >&2"], hooks=hooks)
    assert sorted(pieces) == [(1, b"a\n"), (2, b"b\n")]
    assert finished.stdout == finished.stderr == b""


def test_names_tell_whether_their_owner_lives() -> None:
    assert not is_orphan(f"{owner_name()}-0123")
    assert is_orphan(f"ee-{os.getpid()}-1-0123")  # the same id, but another process
    assert is_orphan(f"ee-4194399-{start_time(1)}-0123")
    assert not is_orphan("somebody-elses-container")


def test_private_directories_bear_their_owner_and_go_away(tmp_path: Path) -> None:
    with private_directory(tmp_path) as directory:
        assert directory.name.startswith(owner_name())
        assert directory.stat().st_mode & 0o777 == 0o700
    assert not directory.exists()
