"""The border of the command line: the one tree of errors becomes exit codes here. Nothing else does so."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import typer

from pipelines.commands import app
from pipelines.console import Console
from pipelines.errors import PipelineError
from pipelines.interrupts import innermost, interrupted

OWN_OPTIONS = ("--help", "--version")
"""Without a command, and with none of these, it is a run."""


def entry() -> NoReturn:
    """``main`` as a program: it ends at once, without taking the interpreter's objects apart (0.2 s)."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """The border: every error becomes an ``error:`` and a ``hint:`` line and its exit code; no traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0] not in OWN_OPTIONS):
        words.insert(0, "run")
    try:
        result = app(words, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except BaseException as err:  # the border
        return shown(err, debug="--debug" in words or bool(os.environ.get("MODELPORT_DEBUG")))


def shown(err: BaseException, *, debug: bool) -> int:
    """Print ``err`` as the user needs it; its exit code."""
    err = innermost(err)
    if debug and not isinstance(err, SystemExit):
        traceback.print_exception(err)
    if isinstance(err, KeyboardInterrupt):
        err = interrupted()
    if isinstance(err, PipelineError):
        Console().error(err)
        return err.exit_code
    if isinstance(err, typer.Exit):
        return err.exit_code
    if hasattr(err, "show") and hasattr(err, "exit_code"):  # click's own: bad usage
        err.show()
        return int(err.exit_code)
    if isinstance(err, SystemExit):
        return err.code if isinstance(err.code, int) else 1
    unknown = PipelineError(
        f"internal error: {type(err).__name__}: {err}", hint="`--debug` shows where; please report it"
    )
    Console().error(unknown)
    return unknown.exit_code
