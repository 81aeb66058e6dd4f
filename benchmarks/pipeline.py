"""How long the pipeline takes: cold, again with no change, after one changed line. Prints a table.

    .venv/bin/python benchmarks/pipeline.py [MODEL ...]

Each model is run in a clone of this repository, with an engine state of its own, against the registry that
MODELPORT_REGISTRY names (a loopback registry; `make demo` leaves one). Times are of the whole process; the
SDK's own import is measured in the same run, for machines differ.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = {"langid": "serve.py", "filetype": "serve.py", "embeddings": "serve.py"}
WARM_RUNS = 5


@dataclass(frozen=True)
class Measured:
    what: str
    seconds: float
    executed: int | None
    uploaded: int
    total: int

    def line(self) -> str:
        executed = "-" if self.executed is None else str(self.executed)
        megabytes = f"{self.uploaded / 1e6:8.2f} of {self.total / 1e6:.0f} MB"
        return f"{self.what:<34} {self.seconds:7.2f} s  {executed:>8}  {megabytes}"


def run(clone: Path, model: str, what: str) -> Measured:
    """One whole process of the pipeline."""
    began = time.monotonic()
    command = [sys.executable, "ci/main.py", "run", f"examples/{model}"]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(done.stderr)
    newest = max((clone / ".modelport/runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime)
    record = json.loads(newest.read_text())
    counts = [stage["operations"] for stage in record["stages"] if stage["name"] != "preflight"]
    executed = None if None in counts else sum(count["executed"] for count in counts)
    (delivery, *_) = record["receipt"]["deliveries"]
    return Measured(what, seconds, executed, delivery["uploaded_bytes"], delivery["total_bytes"])


def sdk_import_s() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import dagger"], check=True)
    return time.monotonic() - began


def change_a_line(clone: Path, model: str) -> None:
    file = clone / "examples" / model / CODE[model]
    file.write_text(file.read_text() + "# one more line\n")
    who = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.com"]
    subprocess.run(["git", *who, "commit", "-qam", "one line"], cwd=clone, check=True)


def measure(clone: Path, model: str) -> None:
    print(run(clone, model, f"{model}: cold").line(), flush=True)
    imports, warm = [], []
    for _ in range(WARM_RUNS):
        imports.append(sdk_import_s())
        warm.append(run(clone, model, f"{model}: no change (median of {WARM_RUNS})"))
    middle = sorted(warm, key=lambda one: one.seconds)[WARM_RUNS // 2]
    ratio = middle.seconds / statistics.median(imports)
    print(
        f"{middle.line()}   {ratio:.2f} x the SDK's import ({statistics.median(imports):.2f} s)", flush=True
    )
    change_a_line(clone, model)
    print(run(clone, model, f"{model}: one changed line").line(), flush=True)


def main() -> None:
    models = sys.argv[1:] or list(CODE)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        clone = Path(directory) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        os.environ["EMBEDDED_ENGINE_STATE"] = str(Path(directory) / "engine")
        print(f"{'':<34} {'time':>9}  {'executed':>8}  uploaded")
        for model in models:
            measure(clone, model)


if __name__ == "__main__":
    main()
