"""What a check will ask, read and held on our side: every wrong line is told before anything is built."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipelines.config import Model
from pipelines.config_check import Check, Quality
from pipelines.errors import ConfigError, Place
from pipelines.in_engine.check_cases import Case, LineError, Row, golden_cases, quality_rows
from pipelines.in_engine.check_metrics import NUMERIC

T = TypeVar("T", Case, Row)

FILES = "/modelport/files"
"""Where the client finds the model's files: golden cases, data, bodies."""
HOST = "model"
"""The name that the model's service has for the client."""
LARGEST_FILE = 64 << 20


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """The requests of one check. ``files`` is what the client needs, relative to the model's directory."""

    check: Check
    directory: Path
    cases: tuple[Case, ...] = ()
    rows: tuple[Row, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def longest_s(self) -> float:
        """An upper bound of the client's time, should every answer take as long as it may."""
        lanes = self.check.quality.concurrency if self.check.quality else 1
        waits = len(self.cases) + len(self.rows) / lanes + 2
        return self.check.start_timeout_s + waits * self.check.request_timeout_s

    def to_client(self) -> str:
        """The client's plan: JSON, the same for the same configuration, for it is part of the cache's key."""
        check = self.check
        plan = {
            "host": HOST,
            "port": check.port,
            "health": check.health,
            "path": check.path,
            "start_timeout_s": check.start_timeout_s,
            "request_timeout_s": check.request_timeout_s,
            "files": FILES,
            "golden": check.golden,
            "tolerance": {path: (t.absolute, t.relative) for path, t in check.tolerance.items()},
            "ignore": check.ignore,
            "quality": check.quality and quality_to_client(check.quality, check),
        }
        return json.dumps(plan, sort_keys=True)


def quality_to_client(quality: Quality, check: Check) -> dict[str, object]:
    """The section ``quality``, with what it leaves to ``check``."""
    return {**quality.model_dump(mode="json"), "path": quality.path or check.path}


def plan_check(model: Model) -> CheckPlan:
    """Read the files that ``model``'s check names.

    Raises:
        ConfigError: a file or a line of it is wrong; with its place.
    """
    check, directory = model.check, model.directory
    cases: list[Case] = []
    rows: list[Row] = []
    files: set[str] = set()
    if check.golden:
        file = directory / check.golden
        cases = _read(file, lambda text: golden_cases(text, check.path))
        files |= {check.golden, *_bodies(file, directory, cases)}
    if check.quality:
        file = directory / check.quality.data
        path, numbers = check.quality.path or check.path, check.quality.metric in NUMERIC
        rows = _read(file, lambda text: quality_rows(text, path, numbers=numbers))
        files |= {check.quality.data, *_bodies(file, directory, rows)}
    return CheckPlan(check, directory, tuple(cases), tuple(rows), tuple(sorted(files)))


def _read(file: Path, parse: Callable[[str], list[T]]) -> list[T]:
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise ConfigError(
                f"the file has more than {LARGEST_FILE >> 20} MB",
                place=Place(file),
                hint="check with fewer cases",
            )
        return parse(file.read_text("utf-8"))
    except LineError as err:
        raise ConfigError(str(err), place=Place(file, err.line or None), hint=err.hint) from err
    except UnicodeDecodeError as err:
        raise ConfigError("the file is not UTF-8 text", place=Place(file), hint="save it as UTF-8") from err
    except OSError as err:
        raise ConfigError(
            f"the file can't be read: {err.strerror}", place=Place(file), hint="is it there?"
        ) from err


def _bodies(file: Path, directory: Path, cases: Sequence[Case | Row]) -> set[str]:
    """The body files that ``cases`` of ``file`` name, relative to ``directory``."""
    found = set()
    for case in cases:
        if case.request.body_file is None:
            continue
        body = file.parent / case.request.body_file
        if not body.is_file():
            raise ConfigError(
                f'there is no file "{case.request.body_file}"',
                place=Place(file, case.line),
                hint=f"body_file is relative to the directory of {file.name}",
            )
        found.add(body.relative_to(directory).as_posix())
    return found


def as_pattern(path: str) -> str:
    """``path`` as a pattern that matches itself only."""
    return re.sub(r"([\\*?\[\]!])", r"\\\1", path)
