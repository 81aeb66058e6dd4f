"""A session's process: its socket, its server, and when it ends."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from embedded_engine.damage import mended
from embedded_engine.disk import advice
from embedded_engine.introspection import IntrospectionCache
from embedded_engine.loading import LoadedApi
from embedded_engine.progress.choose import Showing, Shown, stderr_is_terminal
from embedded_engine.progress.program import Streams, streams_beside
from embedded_engine.runtime.private_mounts import outside
from embedded_engine.server import Application
from embedded_engine.state import StartFailed, state_directory
from embedded_engine.store import Store

if TYPE_CHECKING:
    from embedded_engine.api import Api

END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve_until_stdin_closes(workdir: Path, showing: Showing) -> int:
    """``session``: tell port and token as one JSON line, serve, end with exit code 0."""
    sock, token = _listening(), secrets.token_urlsafe(32)
    store = _opened_store()
    params = {"port": sock.getsockname()[1], "session_token": token}
    try:
        print(json.dumps(params), flush=True)  # noqa: T201  # the protocol: this line, and nothing more on stdout
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter fails once more at its end
        raise StartFailed("the client went away before it was told the port") from None

    async def serve() -> None:
        # stderr may be a terminal that the program writes to as well: no live view unless it is asked for
        shown = showing.on_stderr(os.environ, terminal=False)
        async with _serving(sock, token, store, workdir, shown):
            await _stdin_closed_or_signal()

    _run(serve)
    return 0


def serve_program(command: Sequence[str], workdir: Path, showing: Showing) -> int:
    """``run``: the program gets the session in its environment; the result is its exit code."""
    sock, token = _listening(), secrets.token_urlsafe(32)
    store = _opened_store()
    port = str(sock.getsockname()[1])
    environment = {**os.environ, "DAGGER_SESSION_PORT": port, "DAGGER_SESSION_TOKEN": token}
    codes: list[int] = []

    async def serve() -> None:
        shown = showing.on_stderr(os.environ, terminal=stderr_is_terminal())
        async with _serving(sock, token, store, workdir, shown):
            with streams_beside(shown.screen) as streams:
                codes.append(await _program(command, environment, streams))

    _run(serve)
    return codes[0]


def _run(serve: Callable[[], Awaitable[None]]) -> None:
    """Run the session's loop. Raises StartFailed for what the user can mend."""
    try:
        anyio.run(serve)
    except BaseExceptionGroup as errors:
        from embedded_engine.evaluator import first_error  # noqa: PLC0415
        from embedded_engine.runtime.port import RuntimeFailure  # noqa: PLC0415

        error = first_error(errors)
        if isinstance(error, RuntimeFailure | OSError | sqlite3.Error):
            raise StartFailed(advice(error, getattr(error, "detail", "")) or str(error)) from errors
        raise


async def _program(command: Sequence[str], environment: dict[str, str], streams: Streams) -> int:
    with anyio.open_signal_receiver(*END_SIGNALS) as signals:
        command = outside(command)
        try:
            process = subprocess.Popen(  # noqa: ASYNC220  # quick; waiting is not
                command, env=environment, stdout=streams.stdout, stderr=streams.stderr
            )
        except OSError as error:
            print(f"embedded-engine: {command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
            return 127
        async with anyio.create_task_group() as group:

            async def forward() -> None:
                async for number in signals:
                    if process.poll() is None:
                        process.send_signal(number)

            group.start_soon(forward)
            code = await anyio.to_thread.run_sync(process.wait)
            group.cancel_scope.cancel()
    return code if code >= 0 else 128 - code


def _listening() -> socket.socket:
    # asyncio sends without delay only on sockets that say they are TCP; else answers wait 40 ms for an ACK
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.bind(("127.0.0.1", 0))
        sock.listen(256)
    except OSError as error:
        raise StartFailed(f"cannot listen on 127.0.0.1: {error.strerror}") from error
    return sock


def _opened_store() -> Store:
    state = state_directory()
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        mended(state)
        return Store.open(state / "engine.sqlite")
    except (OSError, sqlite3.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StartFailed(
            f"cannot use the state directory {state} (EMBEDDED_ENGINE_STATE): {advice(error) or reason}"
        ) from error


@contextlib.asynccontextmanager
async def _serving(
    sock: socket.socket, token: str, store: Store, workdir: Path, shown: Shown
) -> AsyncIterator[None]:
    """Serve while the body runs. A request may come at once; it waits until all is loaded."""
    gc.disable()  # while loading, which makes much and drops little: a sixth quicker
    state = state_directory()
    loaded = LoadedApi()
    application = Application(token, loaded, IntrospectionCache(state / "introspection"))
    async with _http(application, sock), anyio.create_task_group() as tasks:
        ended = anyio.Event()

        async def hold_session() -> None:
            try:
                await open_and_hold()
            except Exception as error:
                loaded.fail(error)  # whoever asks is told, instead of waiting for ever
                await ended.wait()
                raise

        async def open_and_hold() -> None:
            api = await anyio.to_thread.run_sync(_load_api)
            from embedded_engine.runtime.open import open_runtime  # noqa: PLC0415
            from embedded_engine.secrets import Secrets, url_passwords  # noqa: PLC0415
            from embedded_engine.session import open_session  # noqa: PLC0415

            known = Secrets.in_session(store, workdir)
            known.learn(token, *url_passwords(os.environ))
            runtime = open_runtime(state, store, secrets=known.known, log=shown.log)
            async with open_session(state, runtime, store, known, shown) as session:
                gc.freeze()  # modules and the schema stay: no need to look at them again
                gc.enable()
                loaded.put(session, api)
                await ended.wait()

        tasks.start_soon(hold_session)
        try:
            yield
        finally:
            application.close()
            ended.set()


def _load_api() -> Api:
    from embedded_engine.api import build_api  # noqa: PLC0415
    from embedded_engine.resolvers.tables import all_fields  # noqa: PLC0415

    return build_api(all_fields())


@contextlib.asynccontextmanager
async def _http(application: Application, sock: socket.socket) -> AsyncIterator[None]:
    """uvicorn without its signal handling and its pauses at the end: both are ours."""
    from uvicorn import Config, Server  # noqa: PLC0415

    config = Config(
        application, log_level="critical", access_log=False, lifespan="off", ws="none", http="h11"
    )
    config.load()
    server = Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[sock])
    try:
        yield
    finally:
        for listener in server.servers:
            listener.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        sock.close()


async def _stdin_closed_or_signal() -> None:
    with anyio.open_signal_receiver(*END_SIGNALS) as signals:
        async with anyio.create_task_group() as group:

            async def stdin_closes() -> None:
                await _stdin_end()
                group.cancel_scope.cancel()

            async def signal_comes() -> None:
                async for _ in signals:
                    group.cancel_scope.cancel()

            group.start_soon(stdin_closes)
            group.start_soon(signal_comes)


async def _stdin_end() -> None:
    """Wait until stdin closes. The reading thread is a daemon: a signal must not wait for it."""
    closed = anyio.Event()
    token = anyio.lowlevel.current_token()

    def drain() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the session has ended meanwhile
            anyio.from_thread.run_sync(closed.set, token=token)

    threading.Thread(target=drain, daemon=True).start()
    await closed.wait()
