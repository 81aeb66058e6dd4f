"""The border between the SDK's errors and ours: what the engine raises becomes what this project raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagger

from pipelines.errors import EngineUnavailable, PipelineError

TAIL_LINES = 20


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last ``lines`` lines of ``text``, without trailing white space."""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def whole(err: dagger.ExecError) -> str:
    """All that a failed command said (engines keep the last 100 kB of each stream)."""
    return "\n".join(text.rstrip() for text in (err.stdout, err.stderr) if text.strip())


def told(err: dagger.ExecError) -> str:
    """What a failed command said: standard error, or standard output where that is empty."""
    return tail(err.stderr or err.stdout)


@contextmanager
def engine_errors(kind: type[PipelineError], doing: str) -> Iterator[None]:
    """Turn an SDK error into ``kind`` (or EngineUnavailable, when the engine itself is gone).

    Raises:
        PipelineError: of ``kind``, with the command, the exit code and the end of what it said.
    """
    try:
        yield
    except dagger.ExecError as err:
        command = " ".join(err.command)
        failure = kind(
            f"{doing}: `{command[:200]}` ended with exit code {err.exit_code}",
            hint="the end of its output stands above; all of it is in the log",
            detail=told(err),
        )
        failure.log = whole(err)
        raise failure from err
    except dagger.QueryError as err:
        raise kind(
            f"{doing}: {first_line(err)}", hint="`--debug` shows the whole answer", detail=tail(str(err))
        ) from err
    except dagger.TransportError as err:
        raise EngineUnavailable(
            f"the engine ended while {doing}", hint="its last words are in engine.log of this run; run again"
        ) from err


def first_line(err: Exception) -> str:
    """The first line of an error's text."""
    return next(iter(str(err).strip().splitlines()), type(err).__name__)
