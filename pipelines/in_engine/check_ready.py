"""The first two rungs: the model's port opens, and its health path answers. Python 3.8's own library."""

from __future__ import annotations

from time import monotonic, sleep
from typing import Callable  # noqa: UP035  # Python 3.8 runs it

from pipelines.in_engine.check_compare import shown
from pipelines.in_engine.check_http import NoAnswerError, Target
from pipelines.in_engine.check_rung import Context, Piece


def starts(context: Context) -> Piece:
    """The port accepts."""
    ok = _until(context, context.target.connects)
    where = f"port {context.plan['port']}"
    limit = context.plan["start_timeout_s"]
    return {"ok": ok, "detail": where if ok else f"{where} did not open within {limit:g} s"}


def healthy(context: Context) -> Piece:
    """The health path answers 200."""
    ok, last = answers_healthy(context, context.target)
    limit, path = context.plan["start_timeout_s"], context.plan["health"]
    late = f"GET {path} was not answered with 200 within {limit:g} s; the last: {last}"
    return {"ok": ok, "detail": "healthy" if ok else late}


def answers_healthy(context: Context, target: Target) -> tuple[bool, str]:
    """Whether ``target`` becomes healthy in the time that a model has, and what it said last."""
    last = ""

    def answers() -> bool:
        nonlocal last
        try:
            answer = target.ask("GET", context.plan["health"])
        except NoAnswerError as err:
            last = str(err)
            return False
        last = f"status {answer.status}: {shown(answer.body[:200].decode('utf-8', 'replace').strip())}"
        return answer.status == 200

    return _until(context, answers), last


def _until(context: Context, holds: Callable[[], bool]) -> bool:
    """Ask again and again until it holds or the model's time to start is over."""
    pause = 0.05
    while not holds():
        if monotonic() - context.began + pause > context.plan["start_timeout_s"]:
            return False
        sleep(pause)
        pause = min(pause * 1.5, 0.5)
    return True
