"""Opens the chosen engine for the length of a run, and always closes it: the second half of ``engines``.

The embedded engine is started as a process before the SDK is imported (the import takes about a second, and
both can go on at once); the SDK then finds it by ``DAGGER_SESSION_PORT``, as under ``dagger run``.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from pipelines.engines import CLI_BIN, Choice
from pipelines.errors import EngineUnavailable

START_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
EVENTS = "EMBEDDED_ENGINE_EVENTS"
OPTIMIZE = "PYTHONOPTIMIZE"


@asynccontextmanager
async def connected(choice: Choice, workdir: Path, log: Path, events: Path) -> AsyncIterator[None]:
    """An open connection of the SDK's global client (``dagger.dag``) to the chosen engine.

    ``log`` gets what the engine says; ``events`` gets the embedded engine's operations, a JSON line each.

    Raises:
        EngineUnavailable: the engine did not start, or did not answer in time.
    """
    if choice.kind == "embedded":
        async with _embedded(workdir, log, events), _sdk(None, workdir, log):
            yield
    else:
        async with _sdk(choice, workdir, log):
            yield


def load_graph() -> None:
    """Import the SDK and the stages, about a second's work; safe to call from several threads."""
    without_call_checks()
    importlib.import_module("pipelines.model_image")


def without_call_checks() -> None:
    """Have the SDK imported as under ``python -O``: without a check of argument types around each method.

    Making these 800 checks is half of the SDK's import. Our calls are typed, and checked before they run.
    beartype reads the variable when it is first imported (``beartype.beartype``), so no
    child of ours sees it. To be called while no other thread reads the environment.
    """
    if "beartype" in sys.modules:
        return
    before = os.environ.get(OPTIMIZE)
    os.environ[OPTIMIZE] = "1"
    try:
        importlib.import_module("beartype")
    finally:
        if before is None:
            del os.environ[OPTIMIZE]
        else:
            os.environ[OPTIMIZE] = before


@asynccontextmanager
async def _embedded(workdir: Path, log: Path, events: Path) -> AsyncIterator[None]:
    argv = [sys.executable, "-m", "embedded_engine", "session", "--workdir", str(workdir)]
    with log.open("ab") as sink:
        process = await anyio.open_process(
            argv,
            stdin=-1,
            stdout=-1,
            stderr=sink,
            env={**os.environ, EVENTS: str(events)},
            start_new_session=True,
        )
    answered = False
    try:
        await anyio.to_thread.run_sync(load_graph, abandon_on_cancel=True)  # meanwhile the engine starts
        port, token = await _handshake(process, log)
        answered = True
        os.environ["DAGGER_SESSION_PORT"], os.environ["DAGGER_SESSION_TOKEN"] = str(port), token
        yield
    finally:
        os.environ.pop("DAGGER_SESSION_PORT", None)
        os.environ.pop("DAGGER_SESSION_TOKEN", None)
        if not answered:  # it has nothing to tidy up, and would only read the end of its input once it is up
            process.terminate()
        with anyio.CancelScope(shield=True):
            await _stop(process)


async def _handshake(process: Process, log: Path) -> tuple[int, str]:
    assert process.stdout is not None  # noqa: S101  # asked for as a pipe above
    try:
        with anyio.fail_after(START_TIMEOUT_S):
            line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 65536)
        answer = json.loads(line)
        return int(answer["port"]), str(answer["session_token"])
    except (anyio.IncompleteRead, anyio.EndOfStream, TimeoutError, ValueError, KeyError) as err:
        said = log.read_text(errors="replace").strip().splitlines()
        raise EngineUnavailable(
            f"the embedded engine did not start: {said[-1] if said else 'it said nothing'}",
            hint="`embedded-engine doctor` shows what this machine can run",
        ) from err


async def _stop(process: Process) -> None:
    """Close its stdin: the session ends, and takes its containers with it. Harder when it does not."""
    if process.stdin is not None:
        await process.stdin.aclose()
    with anyio.move_on_after(STOP_TIMEOUT_S):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
    if process.stdout is not None:
        await process.stdout.aclose()


@asynccontextmanager
async def _sdk(choice: Choice | None, workdir: Path, log: Path) -> AsyncIterator[None]:
    import dagger  # noqa: PLC0415  # slow to import: not before a run needs it

    async with AsyncExitStack() as stack:
        config = dagger.Config(retry=None)
        if choice is not None and choice.kind == "dagger":
            os.environ[CLI_BIN] = choice.cli
            config = dagger.Config(
                retry=None, workdir=str(workdir), log_output=stack.enter_context(log.open("a"))
            )
        try:
            with anyio.fail_after(CONNECT_TIMEOUT_S):
                await stack.enter_async_context(dagger.connection(config))
        except (dagger.DaggerError, TimeoutError, OSError) as err:
            raise EngineUnavailable(
                f"the engine did not answer: {err or f'no session within {CONNECT_TIMEOUT_S:.0f} s'}",
                hint=f"its own words are in {log}; `--engine embedded` needs no Dagger",
            ) from err
        yield
