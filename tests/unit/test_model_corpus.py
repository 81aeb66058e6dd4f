"""The corpus: every hostile model file blocked, no honest one, nothing executed, time and memory bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from corpus.hostile import MAKERS

from pipelines.config_scan import ScanPolicy
from pipelines.scanners.model_files import result_of
from pipelines.scanners.policy import judge
from pipelines.scanners.port import ScannerResult

CORPUS = Path(__file__).parent.parent / "corpus"
HONEST = CORPUS / "honest"
MANIFEST = json.loads((HONEST / "manifest.json").read_text())
SECONDS, MEGABYTES = 2.0, 200

ONE_BY_ONE = """
import json, sys, time
from pathlib import Path
from pipelines.in_engine import model_files
for directory in sorted(Path(sys.argv[1]).iterdir()):
    started = time.process_time()
    model_files.main([str(directory)])
    status = Path("/proc/self/status").read_text()  # ru_maxrss would begin with the parent's peak
    peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
    print(json.dumps([directory.name, time.process_time() - started, peak]))
"""
"""Runs the program on one file after the other, in one process, and says what each took."""


@dataclass(frozen=True)
class Looked:
    result: ScannerResult
    seconds: float
    megabytes: int

    @property
    def blocked(self) -> bool:
        return judge([self.result], ScanPolicy(), date(2026, 1, 1)).blocks


def look(files: dict[str, bytes], root: Path) -> dict[str, Looked]:
    """What is said of each, by the program as a process of its own whose working directory is watched."""
    watched = root / "watched"
    watched.mkdir()
    for number, (name, data) in enumerate(files.items()):
        place = root / "images" / f"{number:04}"
        place.mkdir(parents=True)
        (place / name).write_bytes(data)
    command = [sys.executable, "-B", "-c", ONE_BY_ONE, str(root / "images")]
    environment = {"PYTHONPATH": str(CORPUS.parent.parent)}
    done = subprocess.run(command, cwd=watched, env=environment, capture_output=True, text=True, check=True)
    assert list(watched.iterdir()) == [], "something was executed"
    assert list(root.glob("images/*/CANARY")) == [], "something was executed"
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = list(files)
    found = {}
    for answer, (number, seconds, megabytes) in zip(lines[::2], lines[1::2], strict=True):
        result = result_of(answer, ScanPolicy().model_files)
        found[names[int(number)]] = Looked(result, seconds, megabytes)
    return found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Looked]:
    return look({name: make() for name, make in MAKERS.items()}, tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Looked]:
    files = {name.replace("/", "_"): (HONEST / name).read_bytes() for name in MANIFEST}
    return look(files, tmp_path_factory.mktemp("honest"))


def test_every_hostile_file_is_blocked(hostile: dict[str, Looked]) -> None:
    assert len(hostile) >= 40
    for name, looked in hostile.items():
        worst = min(looked.result.findings, key=lambda one: one.rank, default=None)
        print(f"{name:32} {(MAKERS[name].__doc__ or '').strip():84.84} {worst.id if worst else 'PASSED'}")
    assert [name for name, looked in hostile.items() if not looked.blocked] == []


def test_no_honest_file_is_blocked_or_even_suspected(honest: dict[str, Looked]) -> None:
    assert len(honest) >= 40
    found = {name: [str(one) for one in looked.result.findings] for name, looked in honest.items()}
    assert {name: titles for name, titles in found.items() if titles} == {}


def test_time_and_memory_are_bounded(hostile: dict[str, Looked], honest: dict[str, Looked]) -> None:
    everything = {**hostile, **honest}
    assert {name: one.seconds for name, one in everything.items() if one.seconds > SECONDS} == {}
    assert max(one.megabytes for one in everything.values()) < MEGABYTES


def test_each_technique_is_told_by_what_it_would_run(hostile: dict[str, Looked]) -> None:
    """Blocked for the right reason: a call that can be named is named, not only "unreadable"."""
    unnamed = {
        name
        for name, looked in hostile.items()
        if {one.id for one in looked.result.findings} == {"unreadable"}
    }
    assert unnamed == {
        "array_disguised.joblib",
        "bomb.joblib",
        "bomb.zip",
        "counts.gguf",
        "deep.bin",
        "deep_header.safetensors",
        "hole.safetensors",
        "long_header.safetensors",
        "no_config.h5",
        "other_file.joblib",
        "outside.safetensors",
        "overlap.safetensors",
        "packed.lz4.joblib",
        "root.tflite",
        "truncated_early.pkl",
        "wrong_size.safetensors",
    }


@pytest.mark.parametrize("name", ["raw_array.joblib", "compress3.joblib"])
def test_what_other_scanners_pass_is_blocked(name: str, hostile: dict[str, Looked]) -> None:
    """picklescan 1.0.5 and modelscan 0.8.8 answer "0 infected" and "skipped" for these two."""
    assert hostile[name].blocked


def test_the_manifest_names_every_honest_file_with_its_library() -> None:
    files = {str(path.relative_to(HONEST)) for path in HONEST.rglob("*") if path.is_file()} - {
        "manifest.json"
    }
    assert files == set(MANIFEST)
    libraries: dict[str, set[str]] = {}
    for entry in MANIFEST.values():
        for library, version in entry["library"].items():
            libraries.setdefault(library, set()).add(version)
    assert {"sklearn", "joblib", "numpy", "torch", "onnx", "safetensors", "skops"} <= set(libraries)
    assert min(len(libraries[one]) for one in ("sklearn", "joblib", "numpy", "torch")) >= 2
    sizes: list[int] = [(HONEST / name).stat().st_size for name in MANIFEST]
    assert max(sizes) < 50_000
    assert sum(sizes) < 1_500_000


def test_a_finding_says_the_member_and_the_byte(hostile: dict[str, Looked]) -> None:
    titles: dict[str, Any] = {
        name: [one.title for one in looked.result.findings] for name, looked in hostile.items()
    }
    assert titles["protocol0.pkl"] == ["loading it would call os.system (byte 0)"]
    assert titles["torch.pt"] == ["loading it would call posix.system (byte 23 of !archive/data.pkl)"]
