"""What people see of a session: lines in a log, a live view, what a step really took."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import anyio
import pytest
from simulated_sessions import IMAGE, simulated_session

from embedded_engine.events import Counts, Events
from embedded_engine.operations import Operation, Outcome, Work
from embedded_engine.progress.choose import asked
from embedded_engine.progress.live import Live
from embedded_engine.progress.plain import AGAIN_S, LONG_S, Plain
from embedded_engine.progress.screens import Ended, Running, duration, fitting, printable


@dataclass(frozen=True)
class Slow:
    """An operation that takes a while once what it stands on is there."""

    keep: ClassVar[bool] = True
    kind: ClassVar[str] = "exec"
    digest: str
    seconds: float
    parent: Operation | None = None

    @property
    def name(self) -> str:
        return f"sleep {self.seconds}"

    async def run(self, work: Work) -> Outcome:
        if self.parent is not None:
            await work.result(self.parent)
        async with work.slot():
            await anyio.sleep(self.seconds)
        return Outcome()


@pytest.mark.anyio
async def test_the_time_of_an_operation_is_its_own(tmp_path: Path) -> None:
    chain: Operation = Slow("0" * 64, 0.3)
    for number in range(1, 4):
        chain = Slow(str(number) * 64, 0.02, chain)
    async with simulated_session(tmp_path) as client:
        evaluator = client.session.evaluator
        await evaluator.result(chain)
        rows = {row.digest[0]: row.seconds for row in evaluator.store.rows()}
        assert evaluator.events.counts.work_s == pytest.approx(sum(rows.values()))
    assert rows["0"] >= 0.3
    assert all(rows[digit] < 0.25 for digit in "123"), rows


def plain_text(act: Callable[[Plain], None]) -> str:
    out = io.StringIO()
    screen = Plain(out)
    act(screen)
    screen.close("")
    return out.getvalue()


def test_a_log_has_a_line_for_what_ended_and_the_tail_of_what_failed() -> None:
    def act(screen: Plain) -> None:
        running = Running("exec make")
        screen.started(running)
        screen.ended(running, Ended(65.2, remark="2 of 3 steps cached"))
        screen.ended(
            running, Ended(1, "exit code 2", tail=("no rule",), chain=("from base", "exec ./configure"))
        )

    done, failed, after, tail = plain_text(act).splitlines()
    assert done.endswith("done    exec make  (1 min 05 s, 2 of 3 steps cached)")
    assert failed.endswith("FAILED  exec make  (1.0 s): exit code 2")
    assert after.split() == ["after", "from", "base", "→", "exec", "./configure"]
    assert tail.strip() == "| no rule"


def test_a_long_operation_is_told_while_it_runs_and_again_each_minute() -> None:
    def act(screen: Plain) -> None:
        running = Running("exec train")
        running.take(1, b"epoch 1\nepoch 2: 40 %\r50 %")
        screen.started(running)
        for after in (LONG_S - 1, LONG_S + 1, LONG_S + 2, LONG_S + 2 + AGAIN_S):
            screen.tick(running.begin + after)

    first, second = plain_text(act).splitlines()
    assert first.endswith("running exec train")
    assert second.endswith("(1 min 05 s so far): 50 %")


def test_what_a_step_says_does_nothing_to_the_terminal() -> None:
    assert printable(b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x08text\x9b") == "red text�"
    assert printable(b"10 %\r55 %\r") == "55 %"


def live_bytes(act: Callable[[Live, int], None]) -> bytes:
    ours, terminal = os.pipe()
    screen = Live(terminal, colours=False)
    act(screen, terminal)
    screen.close("all done")
    os.close(terminal)
    with os.fdopen(ours, "rb") as stream:
        return stream.read()


def test_the_live_view_is_taken_away_before_the_program_writes() -> None:
    def act(screen: Live, terminal: int) -> None:
        screen.started(Running("exec make"))
        screen.note("a note")
        screen.program_wrote(terminal, b"from the program\n")

    drawn = live_bytes(act)
    before, _, after = drawn.partition(b"from the program\n")
    assert b"exec make" in before
    assert before.endswith(b"\r\x1b[J\x1b[?25h"), "cleared, and the cursor is back"
    assert b"exec make" in after
    assert drawn.endswith(b"all done\n")


def test_nothing_is_drawn_into_a_line_that_the_program_has_not_finished() -> None:
    def act(screen: Live, terminal: int) -> None:
        running = Running("exec make")
        screen.started(running)
        screen.program_wrote(terminal, b"Continue? ")
        screen.ended(running, Ended(1))
        time.sleep(0.25)
        screen.program_wrote(terminal, b"yes\n")

    assert b"Continue? yes\n" in live_bytes(act)


@pytest.mark.parametrize(
    ("flag", "variables", "mode"),
    [
        (None, {}, "auto"),
        (None, {"EMBEDDED_ENGINE_QUIET": "1"}, "quiet"),
        (None, {"EMBEDDED_ENGINE_QUIET": "1", "EMBEDDED_ENGINE_PROGRESS": "plain"}, "plain"),
        ("live", {"EMBEDDED_ENGINE_PROGRESS": "plain"}, "live"),
    ],
)
def test_flags_and_their_variables(flag: str | None, variables: dict[str, str], mode: str) -> None:
    assert asked(flag, variables, quiet=False, debug=False).mode == mode


def test_a_mode_that_there_is_not_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="EMBEDDED_ENGINE_PROGRESS=pretty: use one of auto, plain"):
        asked(None, {"EMBEDDED_ENGINE_PROGRESS": "pretty"}, quiet=False, debug=False)


def test_a_terminal_is_drawn_on_only_if_it_can_be_and_nobody_reads_a_log() -> None:
    showing = asked(None, {}, quiet=False, debug=True)
    for environ in ({"TERM": "dumb"}, {"TERM": "xterm", "CI": "true"}):
        assert isinstance(showing.on_stderr(environ, terminal=True).screen, Plain)
    assert showing.on_stderr({}, terminal=False).log is not None


def test_the_summary() -> None:
    counts = Counts(run=1, cached=2, failed=1, work_s=2, saved_s=75)
    assert (
        counts.summary(debug=True)
        == "4 operations: 1 run (2.0 s), 2 from the cache (1 min 15 s saved), 1 failed"
    )
    assert "run with --debug" in counts.summary()
    assert Counts().summary() == ""
    assert duration(7380) == "2 h 03 min"


def test_a_push_that_fails_is_shown_masked() -> None:
    out = io.StringIO()
    events = Events(screen=Plain(out), secrets=lambda: ("pa55-word",))
    with pytest.raises(OSError, match="pa55"), events.activity("publish", "r.test/a:1"):
        raise OSError("no: pa55-word is wrong")
    events.close()
    assert "FAILED  publish r.test/a:1" in out.getvalue()
    assert out.getvalue().rstrip().endswith("no: *** is wrong")


def test_a_line_is_cut_by_the_columns_it_takes() -> None:
    assert fitting("plain text", 10) == "plain text"
    assert fitting("plain text.", 10) == "plain tex…"
    assert fitting("日本語の名前", 8) == "日本語…"
    assert fitting("e\u0301" * 4, 8) == "e\u0301" * 4


@pytest.mark.anyio
async def test_a_secret_that_the_program_puts_into_the_image_is_warned_of_once(tmp_path: Path) -> None:
    notes: list[str] = []
    async with simulated_session(tmp_path) as client:
        client.session.secrets.warn = notes.append
        await client.ask('setSecret(name: "n", plaintext: "hunter2-and-more")', "id")
        start = ("container", f'from(address: "{IMAGE}")')
        for _ in range(2):
            await client.ask(*start, 'withNewFile(path: "/f", contents: "pw=hunter2-and-more")', "sync")
            await client.ask(
                *start,
                'withEnvVariable(name: "V", value: "hunter2-and-more")',
                'publish(address: "r.test/x:1")',
            )
        await client.ask(*start, 'withNewFile(path: "/g", contents: "nothing")', "sync")
    assert [note.split(" stands in ")[1][:12] for note in notes] == ["the new file", "the image's "]
    assert not any("hunter2" in note for note in notes)
