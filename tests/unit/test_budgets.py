"""Budgets: the section, the judgement, what is recorded, and what measures beside a model."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.budget_judgement import better, judge_figures, recorded_figures, rounded, shown
from pipelines.config_budgets import Budgets
from pipelines.in_engine import measured


def budgets(**section: Any) -> Budgets:
    return Budgets.model_validate(section)


def test_a_figure_is_told_with_its_limit_and_what_is_published() -> None:
    judged = judge_figures(budgets(p95_ms=50), {"p95_ms": 12.04}, {}, {"p95_ms": 11})
    assert judged.detail == "p95 12 ms (≤ 50; published 11)"
    assert not judged.over and not judged.unknown


def test_a_figure_above_its_limit_is_named() -> None:
    judged = judge_figures(budgets(p95_ms=50, p50_ms=50), {"p95_ms": 81.6, "p50_ms": 10}, {}, {})
    assert dict(judged.over) == {"p95_ms": "p95 81.6 ms is above its limit of 50"}


def test_a_figure_at_its_limit_keeps_it() -> None:
    assert not judge_figures(budgets(memory_mb=100), {"memory_mb": 100.0}, {}, {}).over


def test_what_could_not_be_measured_is_never_within_its_limit() -> None:
    judged = judge_figures(budgets(memory_mb=100), {}, {"memory_mb": "no python3"}, {})
    assert dict(judged.unknown) == {"memory_mb": "memory not measured: no python3"}


@pytest.mark.parametrize(("now", "over"), [(13.2, False), (13.6, True)])
def test_a_trend_is_judged_with_the_digits_that_are_recorded(now: float, over: bool) -> None:
    section = budgets(worse_than_published={"p95": "20%"})
    judged = judge_figures(section, {"p95_ms": now}, {}, {"p95_ms": 11})
    assert bool(judged.over) is over


def test_a_trend_without_a_published_version_is_no_problem() -> None:
    assert not judge_figures(budgets(worse_than_published={"p50_ms": 5}), {"p50_ms": 9}, {}, {}).over


def test_of_two_measurements_the_better_counts() -> None:
    assert better({"p95_ms": 80, "memory_mb": 5}, {"p95_ms": 40, "memory_mb": 6}) == {
        "p95_ms": 40,
        "memory_mb": 5,
    }


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(0.04561, 0.046, "0.0456"), (1234.5, 1200.0, "1234"), (9.96, 10.0, "9.96")]
)
def test_rounding(value: float, digits: float, text: str) -> None:
    assert rounded(value) == digits
    assert shown(value) == text


def test_recorded_figures_of_other_shapes_are_none() -> None:
    assert recorded_figures({"figures": {"p95_ms": "12", "x": "1", "p50_ms": 3, "memory_mb": "many"}}) == {
        "p95_ms": 12
    }
    assert recorded_figures(None) == recorded_figures({"figures": []}) == {}


@pytest.mark.parametrize(
    "section",
    [
        {"p95_ms": 0},
        {"worse_than_published": {"p95": "much"}},
        {"worse_than_published": {"p99": 1}},
        {"load": {"concurrency": 65}},
    ],
)
def test_wrong_sections_are_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        budgets(**section)


SERVER = """
import http.server, os, sys
block = bytearray(60_000_000)
for i in range(0, len(block), 4096): block[i] = 1
del block
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *a): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_the_runner_tells_cold_start_and_a_peak_that_is_over_already(tmp_path: Path) -> None:
    report, port = free_ports(2)
    (tmp_path / "server.py").write_text(SERVER)
    command = [sys.executable, "server.py", str(port)]
    program = [sys.executable, "-I", measured.__file__, str(report), str(port), "/", "--", *command]
    with subprocess.Popen(program, cwd=tmp_path) as process:
        try:
            figures = ask_until(report, lambda told: told["cold_start_s"] is not None)
            assert 0 < figures["cold_start_s"] < 30
            assert figures["memory_mb"] > 60  # freed before the first answer: only the high-water mark has it
            process.terminate()
            assert process.wait(10) == 128 + 15
        finally:
            process.kill()


def ask_until(port: int, holds: Any) -> dict[str, Any]:
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/figures", timeout=5) as answer:
                told: dict[str, Any] = json.load(answer)
        except OSError:
            told = {}
        if told and holds(told):
            return told
        time.sleep(0.05)
    raise AssertionError("no figures")


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 137)])
def test_the_runner_ends_as_its_command(script: str, code: int) -> None:
    report, port = free_ports(2)
    program = [sys.executable, "-I", measured.__file__, str(report), str(port), "/", "--", "sh", "-c", script]
    assert subprocess.run(program, timeout=20, check=False).returncode == code


def test_a_command_that_is_not_there_ends_as_in_a_shell() -> None:
    report, port = free_ports(2)
    program = [sys.executable, "-I", measured.__file__, str(report), str(port), "/", "--", "/no/such"]
    done = subprocess.run(program, timeout=20, check=False, capture_output=True)
    assert done.returncode == 127
    assert b"/no/such" in done.stderr


def test_several_processes_count_what_they_share_once() -> None:
    pid = os.getpid()
    share = measured.field_of(Path(f"/proc/{pid}/smaps_rollup"), b"Pss:")
    whole = measured.field_of(Path(f"/proc/{pid}/status"), b"VmHWM:")
    assert share and whole and share <= whole * 1.5
