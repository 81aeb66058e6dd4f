"""The one tree of errors. Each says what happened, where, and what to do next; each kind has its exit code.

The codes are listed in the README; only ``pipelines.cli.main`` turns an error into one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the user's files an error is: a path and, if known, a line counted from 1.

    Shown from the working directory, where the path is below it.
    """

    file: Path
    line: int | None = None

    def __str__(self) -> str:
        file, here = self.file, Path.cwd()
        shown = file.relative_to(here) if file.is_relative_to(here) else file
        return f"{shown}:{self.line}" if self.line else f"{shown}"


class PipelineError(Exception):
    """What every error of this project is. ``str()`` is one line; ``hint`` is the next thing to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", place: Place | None = None, detail: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.message = message
        self.hint = hint
        self.place = place
        self.detail = detail
        """More lines to show above the error: the end of a failing step's log, a difference."""
        self.report: object = None
        """What the stage had found out by then; the record keeps it as it keeps that of a success."""
        self.log = ""
        """All that the failing step said; the record keeps it in a file beside run.json."""


class UsageError(PipelineError):
    """Bad usage: an argument, the checkout, or two runs at once."""

    exit_code = 2


class ConfigError(UsageError):
    """``modelport.yaml`` or a file that it names is wrong."""


class SourceError(UsageError):
    """The checkout cannot be traced: not a git repository, dirty, or shallow where history is needed."""


class BuildFailed(PipelineError):
    """The image was not built."""

    exit_code = 3


class CheckFailed(PipelineError):
    """The image was built and does not work as promised."""

    exit_code = 4


class ScanBlocked(PipelineError):
    """The policy does not let this image out."""

    exit_code = 5


class PushFailed(PipelineError):
    """No registry holds the release; nothing was named."""

    exit_code = 6


class PartialPush(PipelineError):
    """Some registries hold the release and some do not; the receipt tells which."""

    exit_code = 7


class EngineUnavailable(PipelineError):
    """The asked-for engine can't run here."""

    exit_code = 8


class TraceFailed(PipelineError):
    """A reference could not be traced, or a hop of its trace does not verify."""

    exit_code = 9


class Interrupted(PipelineError):
    """Ctrl-C or a termination signal."""

    exit_code = 130
