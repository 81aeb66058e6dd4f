"""The border: exit codes, one error line, one hint line, and never a traceback."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
import typer

from pipelines import cli, errors, interrupts
from pipelines.commands import app
from pipelines.console import Console
from pipelines.errors import CheckFailed, Interrupted, PipelineError, Place
from pipelines.record import Stage


def leaves(group: object, above: str = "") -> list[tuple[str, typer.main.TyperCommand]]:
    """Every command with its whole name, those of groups too."""
    found = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]  # click's group
        inner = hasattr(command, "commands")
        found += leaves(command, f"{above}{name} ") if inner else [(above + name, command)]
    return found


def every_error(kind: type[PipelineError] = PipelineError) -> list[type[PipelineError]]:
    return [kind, *(found for sub in kind.__subclasses__() for found in every_error(sub))]


def test_exit_codes_are_those_of_the_design() -> None:
    codes = {kind.__name__: kind.exit_code for kind in every_error() if kind.__module__ == errors.__name__}
    assert codes == {
        "PipelineError": 1,
        "UsageError": 2,
        "ConfigError": 2,
        "SourceError": 2,
        "BuildFailed": 3,
        "CheckFailed": 4,
        "ScanBlocked": 5,
        "PushFailed": 6,
        "PartialPush": 7,
        "EngineUnavailable": 8,
        "TraceFailed": 9,
        "Interrupted": 130,
    }


def test_an_error_is_two_lines_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    err = CheckFailed("expected af", place=Place(Path("golden.jsonl"), 7), hint="look at case 7")
    assert cli.shown(err, debug=False) == 4
    assert capsys.readouterr().err.splitlines() == [
        "error: golden.jsonl:7: expected af",
        "hint: look at case 7",
    ]


def test_an_unknown_error_is_internal_and_shows_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.shown(ZeroDivisionError("division by zero"), debug=False) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "internal error: ZeroDivisionError" in said


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    cli.shown(CheckFailed("x"), debug=True)
    assert "CheckFailed" in capsys.readouterr().err


def test_ctrl_c_inside_parallel_stages_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    group = BaseExceptionGroup("tasks", [CheckFailed("late"), KeyboardInterrupt()])
    assert cli.shown(group, debug=False) == 130
    assert "run again" in capsys.readouterr().err


def test_a_ci_systems_stop_is_an_interrupt_even_where_ctrl_c_is_ignored() -> None:
    async def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        await anyio.sleep(30)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(BaseExceptionGroup) as caught:
            interrupts.await_(work)
    finally:
        signal.signal(signal.SIGINT, before)
    assert isinstance(interrupts.innermost(caught.value), Interrupted)


def test_bad_usage_is_2() -> None:
    assert cli.main(["run", "--engine", "docker"]) == 2
    assert cli.main(["nonsense"]) == 2


def test_help_succeeds() -> None:
    assert cli.main(["--help"]) == 0


def test_schema_prints_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    assert "properties" in json.loads(capsys.readouterr().out)


def test_no_command_is_a_run_of_this_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([]) == 2
    assert "no modelport.yaml" in capsys.readouterr().err


def test_options_without_a_command_are_those_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["--engine", "embedded"]) == 2
    assert "no modelport.yaml" in capsys.readouterr().err


def test_a_wrong_engine_in_the_environment_is_bad_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELPORT_ENGINE", "docker")
    assert cli.main([]) == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("modelport 0.")


def test_ci_main_is_the_same_program() -> None:
    program = Path(__file__).parents[2] / "ci" / "main.py"
    done = subprocess.run(
        [sys.executable, str(program), "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert "registries" in done.stdout


def test_every_command_has_a_line_of_help() -> None:
    group = typer.main.get_command(app)
    for name, command in leaves(group):
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_a_stage_is_one_line() -> None:
    from datetime import UTC, datetime

    out = io.StringIO()
    Console(out=out).stage(
        Stage("build", "1", datetime.now(UTC), status="ok", seconds=12.4, executed=2, cached=3)
    )
    Console("iris", out).stage(
        Stage(
            "check",
            "2",
            datetime.now(UTC),
            status="failed",
            seconds=3.1,
            summary="golden case 7 of 24",
        )
    )
    assert out.getvalue().splitlines() == [
        "  build      ok       12.4 s  3 of 5 steps cached",
        "iris           check      FAILED    3.1 s  golden case 7 of 24",
    ]
