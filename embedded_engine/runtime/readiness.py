"""When a service is ready: its ports accept, or its health check passes; in bounded time, with its log's end.

A health check is Docker's HEALTHCHECK as Dagger's engine reads it: it replaces the wait for ports; between
two runs are ``startInterval``, else ``interval``, else 5 s; ``retries`` failures after ``startPeriod`` end
it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

import anyio

from embedded_engine.runtime.port import ExecStep, HealthCheck, RunningService, ServiceFailed

Run = Callable[[tuple[str, ...]], Awaitable[tuple[int, bytes]]]
"""Runs a command where the service is: its exit code and the end of what it said."""
_LOG_LINES = 12


async def until_ready(
    service: RunningService, step: ExecStep, ports: Sequence[int], health: HealthCheck | None, run: Run
) -> None:
    """Return when the service is ready. Raises ServiceFailed when it ends before that, or is unhealthy."""
    if health is not None:
        await _healthy(service, step, health, run)
    else:
        for port in ports:
            await _accepting(service, step, port)
    check_alive(service, step)


async def _accepting(service: RunningService, step: ExecStep, port: int) -> None:
    pause_s = 0.01
    while True:
        check_alive(service, step)
        with anyio.move_on_after(1):
            try:
                stream = await anyio.connect_tcp(*service.reach(port))
            except OSError:
                pass
            else:
                await stream.aclose()
                return
        await anyio.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.1)


async def _healthy(service: RunningService, step: ExecStep, health: HealthCheck, run: Run) -> None:
    forgiven_until = time.monotonic() + health.start_period_s
    failures = 0
    while True:
        check_alive(service, step)
        code, said = -1, f"no answer within {health.timeout_s:g} s".encode()
        with anyio.move_on_after(health.timeout_s):
            code, said = await run(health.args)
        if code == 0:
            return
        check_alive(service, step)
        if time.monotonic() >= forgiven_until:
            failures += 1
        if failures >= health.retries:
            text = said.decode("utf-8", "replace").strip()
            raise failed(service, step, f"its health check failed {failures} times: {text[-500:]}")
        await anyio.sleep(health.pause_s)


def waited_for(ports: Sequence[int], health: HealthCheck | None) -> str:
    """For people, what did not happen."""
    if health is not None:
        return "its health check did not pass"
    if not ports:
        return "it did not start"
    return f"port {', '.join(str(port) for port in ports)} did not accept a connection"


def check_alive(service: RunningService, step: ExecStep) -> None:
    """Raises ServiceFailed if it has ended."""
    code = service.exit_code()
    if code is not None:
        raise failed(service, step, f"exit code: {code}", code)


def failed(service: RunningService, step: ExecStep, why: str, code: int | None = None) -> ServiceFailed:
    """The error, with the end of the service's log in its text too: many see nothing else of it."""
    stdout, stderr = service.logs()
    lines = (stderr or stdout).strip().splitlines()[-_LOG_LINES:]
    text = "\n".join([why, *(line[:500] for line in lines)])
    return ServiceFailed(text, exit_code=code, stdout=stdout, stderr=stderr, args=step.args)
