"""A person who waits sees what is under way; a CI log gets a sign of life."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from pipelines import progress
from pipelines.console import Console
from pipelines.record import Run, Stage
from pipelines.values import JSON

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_run(model: str, tmp_path: Path, **stages: str) -> Run:
    run = Run(model, tmp_path, tmp_path / "none")
    run.stages = [
        Stage(name, "1", NOW - timedelta(seconds=12), status=status) for name, status in stages.items()
    ]
    return run


def test_only_what_runs_is_told(tmp_path: Path) -> None:
    run = a_run("iris", tmp_path, build="ok", check="running", scan="running")
    assert progress.under_way([run], NOW) == "  running: check 12 s, scan 12 s"
    assert progress.under_way([a_run("iris", tmp_path, build="ok")], NOW) == ""


def test_models_are_named_where_several_run(tmp_path: Path) -> None:
    runs = [a_run("iris", tmp_path, build="running"), a_run("mood", tmp_path, check="running")]
    assert progress.under_way(runs, NOW) == "  running: iris build 12 s, mood check 12 s"


@pytest.mark.anyio
@pytest.mark.parametrize(("out", "start"), [(Terminal(), "\r\x1b[K  running"), (io.StringIO(), "  running")])
async def test_a_terminal_gets_one_line_that_renews_itself_and_a_log_gets_lines(
    out: io.StringIO, start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "TERMINAL_EVERY_S", 0.01)
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.01)
    run = a_run("iris", tmp_path, build="running")
    with anyio.move_on_after(0.2):
        await progress.show([run], out)
    assert out.getvalue().startswith(start)
    assert ("\n" in out.getvalue()) is not out.isatty()


def test_a_line_of_the_console_clears_the_renewed_one() -> None:
    terminal = Terminal()
    Console(out=terminal).line("done")
    assert terminal.getvalue() == "\r\x1b[Kdone\n"


class Findings:
    """The report of a scan that passed with findings."""

    def summary(self) -> str:
        return "2 found"

    def table(self) -> str:
        return "high  CVE-1\nlow   CVE-2"

    def to_json(self) -> dict[str, JSON]:
        return {"findings": 2}


@pytest.mark.anyio
async def test_what_a_stage_found_stands_below_the_runs_lines_with_the_path_of_all_of_it(
    tmp_path: Path,
) -> None:
    out = io.StringIO()
    console = Console(out=out)
    run = Run("iris", tmp_path, tmp_path / "none", tell=console.stage)

    async def scan() -> Findings:
        return Findings()

    await run.stage("scan", scan())
    console.tables(run)
    line, *below = out.getvalue().splitlines()
    assert line.endswith("2 found")
    assert below == ["  high  CVE-1", "  low   CVE-2", f"  all of it: {tmp_path / 'run.json'}"]
    run.stages[0].status = "failed"  # its error has the table
    console.tables(run)
    assert len(out.getvalue().splitlines()) == 4
