"""Which screen a session gets: as asked, else a live view on a terminal and lines everywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from embedded_engine.progress.live import Live
from embedded_engine.progress.plain import Plain
from embedded_engine.progress.screens import Quiet, Screen

Mode = Literal["auto", "plain", "live", "quiet"]
MODES = ("auto", "plain", "live", "quiet")


@dataclass(frozen=True, slots=True)
class Showing:
    """What was asked for."""

    mode: str = "auto"
    debug: bool = False

    def on_stderr(self, environ: Mapping[str, str], *, terminal: bool) -> Shown:
        """A screen on stderr. ``terminal``: it is one that nobody else writes to behind our back."""
        mode = self.mode
        if mode == "auto":
            able = terminal and environ.get("TERM", "dumb") != "dumb" and not environ.get("CI")
            mode = "live" if able else "plain"
        if mode == "live":
            return Shown(Live(sys.stderr.fileno(), colours=not environ.get("NO_COLOR")), self.debug)
        # with --debug its lines are shown, whatever else is not
        return Shown(Plain(sys.stderr) if mode == "plain" or self.debug else Quiet(), self.debug)


@dataclass(frozen=True, slots=True)
class Shown:
    """The screen of a session, and whether it is told every command line."""

    screen: Screen
    debug: bool = False

    @property
    def log(self) -> Callable[[str], None] | None:
        """Who is to be told command lines, if anybody."""
        return self.command if self.debug else None

    def command(self, text: str) -> None:
        """Show a command line that was started (as ``sh -x`` does), or lines to paste (they begin with #)."""
        self.screen.debug(text if text.startswith("#") else f"+ {text}")


def asked(mode: str | None, environ: Mapping[str, str], *, quiet: bool, debug: bool) -> Showing:
    """The flags and their twins: EMBEDDED_ENGINE_PROGRESS, EMBEDDED_ENGINE_QUIET, EMBEDDED_ENGINE_DEBUG.

    Raises ValueError for a mode there is not.
    """
    chosen = mode or ("quiet" if quiet else environ.get("EMBEDDED_ENGINE_PROGRESS") or "")
    chosen = chosen or ("quiet" if environ.get("EMBEDDED_ENGINE_QUIET") else "auto")
    if chosen not in MODES:
        raise ValueError(f"EMBEDDED_ENGINE_PROGRESS={chosen}: use one of {', '.join(MODES)}")
    return Showing(chosen, debug or bool(environ.get("EMBEDDED_ENGINE_DEBUG")))


def stderr_is_terminal() -> bool:
    """Whether stderr is a terminal."""
    try:
        return os.isatty(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
