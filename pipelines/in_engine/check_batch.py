"""Compares the files that a batch model wrote with those that are expected. Python 3.8's own library.

``python3 -m pipelines.in_engine.check_batch PLAN`` prints one line of JSON, a report with the rung "files",
and ends with 1 where a file differs: so no engine keeps that answer. A link is never followed.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Callable  # noqa: UP035  # Python 3.8 runs it

from pipelines.in_engine.check_compare import Tolerances, bytes_apart, differences, shown
from pipelines.in_engine.check_rung import MOST_TOLD, Failure, Piece

LARGEST_READ = 64 << 20
"""A larger file is compared by its bytes."""
LONGEST_FIELD = 1 << 20


class _Compare:
    """One comparison's tolerances and ignored paths."""

    def __init__(self, plan: Piece) -> None:
        self.tolerances: Tolerances = {
            path: (float(a), float(r)) for path, (a, r) in plan["tolerance"].items()
        }
        self.ignore: list[str] = list(plan["ignore"])

    def json(self, expected: str, actual: str) -> list[str]:
        """By value; the path in a message is that of JSON."""
        return differences(_json(expected), _json(actual), self.tolerances, self.ignore)

    def json_lines(self, expected: str, actual: str) -> list[str]:
        """One value a line; the path begins with the line."""
        one, other = (
            [_json(line) for line in text.splitlines() if line.strip()] for text in (expected, actual)
        )
        if len(one) != len(other):
            return [f"it has {len(other)} lines, expected {len(one)}"]
        return [
            f"line {number}: {message}"
            for number, (want, have) in enumerate(zip(one, other), start=1)  # noqa: B905
            for message in differences(want, have, self.tolerances, self.ignore)
        ]

    def table(self, expected: str, actual: str) -> list[str]:
        """CSV: the columns by name, whatever their order; more columns than expected are allowed."""
        one, other = _rows(expected), _rows(actual)
        if len(one) != len(other):
            return [f"it has {len(other)} rows, expected {len(one)}"]
        return [
            f"row {number}: {message}"
            for number, (want, have) in enumerate(zip(one, other), start=1)  # noqa: B905
            for message in differences(want, have, self.tolerances, self.ignore)
        ]

    def text(self, expected: str, actual: str) -> list[str]:
        """By line; how lines end does not matter."""
        one, other = expected.splitlines(), actual.splitlines()
        for number, (want, have) in enumerate(zip(one, other), start=1):  # noqa: B905
            if want != have:
                return [f"line {number} is {shown(have)}, expected {shown(want)} (exact)"]
        return [] if len(one) == len(other) else [f"it has {len(other)} lines, expected {len(one)}"]


def _json(text: str) -> object:
    return json.loads(text)


def _rows(text: str) -> list[dict[str, object]]:
    """The rows by column; what reads as a number is one, so that a tolerance counts for it."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    return [{str(key): _cell(value) for key, value in row.items()} for row in reader]


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value  # more or fewer cells than columns
    try:
        number = float(value)
    except ValueError:
        return value
    return number if number - number == 0 else value  # "nan" and "inf" stay texts


def compared(plan: Piece) -> Piece:
    """The rung."""
    expected, actual = _files(Path(plan["expected"])), _files(Path(plan["actual"]))
    ignored = plan["ignore_files"]
    expected = {name: file for name, file in expected.items() if not _any(name, ignored)}
    compare = _Compare(plan)
    failures = []
    for name, file in sorted(expected.items()):
        messages = _different(compare, file, actual[name]) if name in actual else ["is missing in the output"]
        if messages:
            failures.append(Failure(0, name, messages))
    passed = len(expected) - len(failures)
    failures += [
        Failure(0, name, ["is not expected"])
        for name in sorted(set(actual) - set(expected))
        if not _any(name, ignored)
    ]
    return {
        "name": "files",
        "seconds": 0.0,
        "ok": not failures,
        "detail": f"{passed} of {len(expected)} output files",
        "passed": passed,
        "total": len(expected),
        "failures": failures[:MOST_TOLD],
    }


def _files(root: Path) -> dict[str, Path]:
    """Every file and link below ``root``, by its name from there."""
    return {
        one.relative_to(root).as_posix(): one
        for one in root.rglob("*")
        if one.is_symlink() or not one.is_dir()
    }


def _any(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) or fnmatchcase(Path(name).name, pattern) for pattern in patterns)


def _different(compare: _Compare, expected: Path, actual: Path) -> list[str]:
    """What differs in one file: by value where its name says how to read it, else by line or byte."""
    if actual.is_symlink() or not actual.is_file():
        return ["is not a plain file"]
    if max(expected.stat().st_size, actual.stat().st_size) > LARGEST_READ:
        return _large(expected, actual)
    want, have = expected.read_bytes(), actual.read_bytes()
    if want == have:
        return []
    by_name: dict[str, Callable[[str, str], list[str]]] = {
        ".json": compare.json,
        ".jsonl": compare.json_lines,
        ".ndjson": compare.json_lines,
        ".csv": compare.table,
    }
    try:
        texts = want.decode("utf-8"), have.decode("utf-8")
    except UnicodeDecodeError:
        return [f"{bytes_apart(have, want)} the expected file"]
    try:
        return by_name.get(expected.suffix.lower(), compare.text)(*texts)
    except (ValueError, csv.Error, RecursionError) as err:
        return [f"can't be read as {expected.suffix[1:].upper()}: {err}"]


def _large(expected: Path, actual: Path) -> list[str]:
    sizes = expected.stat().st_size, actual.stat().st_size
    if sizes[0] != sizes[1]:
        return [f"has {sizes[1]} bytes, expected {sizes[0]}"]
    with expected.open("rb") as one, actual.open("rb") as other:
        while block := one.read(1 << 20):
            if block != other.read(1 << 20):
                return ["differs from the expected file"]
    return []


def main(arguments: list[str]) -> int:
    """Compare, tell, and say by the exit code whether all is as expected."""
    csv.field_size_limit(LONGEST_FIELD)
    rung = compared(json.loads(Path(arguments[0]).read_text("utf-8")))
    print(json.dumps({"schema": 1, "ok": rung["ok"], "rungs": [rung]}), flush=True)
    return 0 if rung["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
