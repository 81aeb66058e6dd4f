"""How failures look to a client: a message in the user's words, and the payload SDKs understand."""

from __future__ import annotations

import sqlite3
import sys
import traceback
from typing import Any

from embedded_engine.disk import advice
from embedded_engine.failures import CommandFailure
from embedded_engine.flights import RunCancelled
from embedded_engine.masking import Values, compiled, mask_text
from embedded_engine.objects import UnknownId
from embedded_engine.resolvers.registry import ApiError
from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.secrets import SecretUnavailable

_PLAIN = (ApiError, UnknownId, SecretUnavailable, RunCancelled, ValueError, OSError)
DETAIL_LINES = 15


def for_client(error: BaseException, secrets: Values) -> tuple[str, dict[str, Any] | None]:
    """Message and extensions for ``error``. An unforeseen one is told so, its traceback on stderr."""
    masks = compiled(secrets)
    if isinstance(error, CommandFailure):
        return mask_text(str(error), masks), {
            "_type": "EXEC_ERROR",
            "cmd": [mask_text(arg, masks) for arg in error.step_args],
            "exitCode": error.exit_code,
            "stdout": mask_text(error.stdout, masks),
            "stderr": mask_text(error.stderr, masks),
        }
    if isinstance(error, RuntimeFailure | OSError | sqlite3.Error) and (
        told := advice(error, getattr(error, "detail", ""))
    ):
        return mask_text(f"{told}\n{error}", masks), None
    if isinstance(error, RuntimeFailure):
        tail = "\n".join(error.detail.strip().splitlines()[-DETAIL_LINES:])
        return mask_text(f"{error}\n{tail}" if tail else str(error), masks), None
    if isinstance(error, ApiError):
        return mask_text(str(error), masks), error.extensions
    if type(error) is Exception or isinstance(error, _PLAIN):
        return mask_text(str(error), masks), None
    report = mask_text("".join(traceback.format_exception(error)), masks)
    print(report, file=sys.stderr)  # noqa: T201  # a fault of ours: the log needs the traceback, the client doesn't
    return mask_text(f"fault in the embedded engine: {type(error).__name__}: {error}", masks), None
