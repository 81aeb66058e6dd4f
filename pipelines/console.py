"""What a person sees of a run: a line a stage as it ends, then the release or the error (design, section 12).

Talk goes to standard error; standard output has the result only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from pipelines.errors import PipelineError
from pipelines.progress import CLEAR
from pipelines.record import Run, Stage

QUIET_STAGES = frozenset({"export", "tag", "attest"})
"""Parts of the push that are told only when they fail; the record has them."""


class Console:
    """Lines of one run, with the model's name in front where several models run at once."""

    def __init__(self, name: str = "", out: TextIO | None = None) -> None:
        self.prefix = f"{name:<12} " if name else ""
        self.out = out or sys.stderr
        self.terminal = self.out.isatty()

    def line(self, text: str) -> None:
        """One line of talk."""
        clear = CLEAR if self.terminal else ""
        print(f"{clear}{self.prefix}{text}", file=self.out, flush=True)

    def stage(self, stage: Stage) -> None:
        """The line of a stage that has ended."""
        if stage.name in QUIET_STAGES and stage.status == "ok":
            return
        word = {"failed": self._styled("FAILED", 31), "interrupted": self._styled("stopped", 33)}.get(
            stage.status, stage.status
        )
        padding = " " * max(0, 7 - len(stage.status if stage.status != "interrupted" else "stopped"))
        self.line(f"  {stage.name:<10} {word}{padding}{stage.seconds:6.1f} s  {told(stage)}".rstrip())

    def tables(self, run: Run) -> None:
        """What stages that went well have to show, and where all of it is."""
        for stage in run.stages:
            if stage.table and stage.status == "ok":
                for line in stage.table.splitlines():
                    self.line(f"  {line}")
                self.line(f"  all of it: {run.directory / 'run.json'}")

    def _styled(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.terminal else text

    def error(self, err: PipelineError, annotate: Callable[[PipelineError], str] | None = None) -> None:
        """The detail, one ``error:`` line and one ``hint:`` line; the CI's annotation where it has one."""
        if err.detail:
            self.line("")
            for line in err.detail.splitlines():
                self.line(f"  | {line}")
        self.line(f"{self._styled('error:', 31)} {err}")
        if err.hint:
            self.line(f"{self._styled('hint:', 36)} {err.hint}")
        if annotate is not None and (text := annotate(err)):
            print(text, file=self.out, flush=True)


def told(stage: Stage) -> str:
    """The text after a stage's time."""
    if stage.summary or stage.executed is None or stage.status == "failed":
        return stage.summary
    total = stage.executed + (stage.cached or 0)
    return f"{stage.cached} of {total} steps cached"
