"""A scan's program runs within limits, and what no scan does is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.in_engine.confined import LEAST_MEMORY, LEAST_SECONDS, MIB, MOST_MEMORY, limits_for, size_of

PROGRAMS = Path(__file__).parents[2] / "pipelines" / "in_engine"


def confined(
    tmp_path: Path, code: str, *options: str, prelude: str = "pass"
) -> subprocess.CompletedProcess[str]:
    """``code`` as a program of the directory, under the limits."""
    package = tmp_path / "pipelines" / "in_engine"
    package.mkdir(parents=True, exist_ok=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "confined.py").write_text((PROGRAMS / "confined.py").read_text())
    (package / "trial.py").write_text(code)
    (tmp_path / "image").mkdir(exist_ok=True)
    arguments = [*options, "trial", "image", "x"]
    start = f"from pipelines.in_engine import confined; {prelude}; confined.main({arguments!r})"
    command = [sys.executable, "-c", start]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)


def test_a_program_gets_its_arguments_and_its_exit_code_is_kept(tmp_path: Path) -> None:
    done = confined(tmp_path, "import sys, json\nprint(json.dumps([__name__, *sys.argv[1:]]))\nsys.exit(1)\n")
    assert (done.returncode, json.loads(done.stdout)) == (1, ["__main__", "image", "x"])


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import os; os.fork()",
        "import pickle; pickle.loads(b'cos\\nsystem\\n(S\"touch canary\"\\ntR.')",
        "import ctypes; ctypes.CDLL(None)",
    ],
)
def test_network_processes_and_unpickling_are_refused(tmp_path: Path, code: str) -> None:
    done = confined(tmp_path, code)
    assert done.returncode == 1
    assert "RefusedError: a scan's program may not do this" in done.stderr
    assert not (tmp_path / "canary").exists()


def test_a_program_that_says_what_for_has_the_network_and_still_unpickles_nothing(tmp_path: Path) -> None:
    asked = "import socket\ntry: socket.create_connection(('127.0.0.1', 9))\nexcept OSError: print('asked')\n"
    assert confined(tmp_path, asked, "--network").stdout == "asked\n"
    loaded = confined(tmp_path, "import pickle; pickle.loads(b'cos\\nsystem\\n.')", "--network")
    assert "RefusedError" in loaded.stderr


def test_memory_and_time_have_an_end_that_is_told(tmp_path: Path) -> None:
    done = confined(tmp_path, "x = bytearray(700 << 20)")
    assert (done.returncode, "MemoryError" in done.stderr) == (1, True)
    endless = confined(tmp_path, "while True: pass", prelude="confined.LEAST_SECONDS = 1")
    assert endless.stderr.strip() == "it needed more than 1 seconds of processor time"
    assert endless.returncode == 1


def test_the_limits_grow_with_the_image_up_to_an_end(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "kcore").write_bytes(b"x" * 1000)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "model").write_bytes(b"x" * 100)
    (tmp_path / "app" / "link").symlink_to("model")
    assert size_of(tmp_path) == 100
    assert limits_for(0) == (LEAST_MEMORY, LEAST_SECONDS)
    assert limits_for(400 * MIB) == (LEAST_MEMORY + 50 * MIB, LEAST_SECONDS + 100)
    assert limits_for(100_000 * MIB) == (MOST_MEMORY, LEAST_SECONDS + 25_000)
