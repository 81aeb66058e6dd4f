"""A batch model's cases, held before anything is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.config import Model
from pipelines.errors import ConfigError, Place


@dataclass(frozen=True, slots=True)
class BatchRun:
    """One run of the command: its input, and what has to come out."""

    name: str
    input: Path
    expected: Path


def plan_batch(model: Model) -> tuple[BatchRun, ...]:
    """The runs of ``check: batch:``; none without that section.

    Raises:
        ConfigError: a case's directory has no file, or two cases have one name.
    """
    batch = model.check.batch
    if batch is None:
        return ()
    runs: dict[str, BatchRun] = {}
    for case in batch.cases:
        expected = model.directory / case.expected
        name = case.name or case.expected
        if not any(one.is_file() for one in expected.rglob("*")):
            raise ConfigError(
                f'the batch case "{name}" expects no file',
                place=Place(expected),
                hint="run the command by hand and put what has to come out there",
            )
        if name in runs:
            raise ConfigError(
                f'two batch cases are called "{name}"',
                place=Place(model.file),
                hint="give them a `name:` each",
            )
        runs[name] = BatchRun(name, model.directory / case.input, expected)
    return tuple(runs.values())
