"""The one place where processes start: an argument list, its own process group, its end under our control.

A process never outlives the call that started it: on cancellation its whole group is killed before the call
returns. What it says is kept whole on stdout and stderr, or handed on line by line; an error carries a
bounded, masked tail.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from embedded_engine.masking import Values, compiled, mask_text
from embedded_engine.runtime.machine import package_line
from embedded_engine.runtime.port import RuntimeFailure

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Before a tool: the kernel kills it when this process dies, however that comes (prctl(2)); costs 1 ms."""
_KILLED = (128 + signal.SIGKILL, 128 + signal.SIGTERM, 128 + signal.SIGINT)
TAIL_LINES = 20
TAIL_BYTES = 8_000
_CHUNK = 1 << 16
_NEEDS_ALL = re.compile(r"docker-credential-")  # helpers log in with what they find
_NEEDED = re.compile(
    r"(?i:.*_proxy)$|PATH$|HOME$|USER$|TMPDIR$|TERM$|LANG$|LC_|XDG_|_?CONTAINERS_|GIT_|SSH_|SSL_|REGISTRY_AUTH_FILE$"
)


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a caller wants to do while a process runs.

    ``on_output`` is told each piece of output as it comes: 1 or 2 for the stream, and the bytes (not masked).
    ``gate`` is awaited with the process's id before it is given its stdin. ``keep_output`` False: the output
    is not also kept, for a process that may run long.
    """

    on_output: Callable[[int, bytes], None] | None = None
    gate: Callable[[int], Awaitable[None]] | None = None
    keep_output: bool = True


@dataclass(frozen=True, slots=True)
class Finished:
    """How a process ended. A death by signal N is exit code 128 + N."""

    exit_code: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)
    combined: bytes = field(repr=False, default=b"")

    @property
    def text(self) -> str:
        """Its stdout as text without outer white space."""
        return self.stdout.decode("utf-8", "replace").strip()

    @property
    def said(self) -> str:
        """The end of its stderr (or else stdout) as text."""
        return tail(self.stderr) or tail(self.stdout)


class CommandFailed(RuntimeFailure):
    """A tool exited non-zero; ``detail`` is the masked end of what it said."""

    def __init__(self, message: str, *, exit_code: int, detail: str) -> None:
        super().__init__(message, detail=detail)
        self.exit_code = exit_code


class ToolKilled(CommandFailed):
    """A tool was killed by somebody else: that says nothing of what it was asked to do."""


class ToolMissing(RuntimeFailure):
    """A program is not installed; the message says how to get it."""


@dataclass(slots=True)
class Runner:
    """Starts processes with one environment; ``secrets`` are masked in whatever is told of them.

    ``options`` gives the global options of tools by name.
    """

    environ: Mapping[str, str]
    secrets: Callable[[], Values] = tuple
    log: Callable[[str], None] | None = None
    options: Callable[[], Mapping[str, Sequence[str]]] = dict

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        check: bool = True,
        hooks: Hooks | None = None,
    ) -> Finished:
        """Run ``argv`` to its end. Raises CommandFailed (if ``check``) or ToolMissing."""
        hooks = hooks or Hooks()
        whole = with_options(argv, self.options())
        self.tell(shlex.join(whole))
        async with self._started(whole, stdin=bool(stdin)) as process:
            if hooks.gate is not None:
                await hooks.gate(process.pid)
            finished = await _communicate(process, stdin, hooks)
        if check and finished.exit_code != 0:
            raise self.failure(argv, finished)
        return finished

    async def tidy(self, argv: Sequence[str]) -> None:
        """Run what clears away: that it fails is no error, and one that somebody kills runs once more."""
        if (await self.run(argv, check=False)).exit_code in _KILLED:
            await self.run(argv, check=False)

    def failure(self, argv: Sequence[str], finished: Finished) -> CommandFailed:
        """The error for a tool that exited non-zero: its last line as the message, the tail as detail."""
        detail = mask_text(finished.said, self.secrets())
        last = next((line for line in reversed(detail.splitlines()) if line.strip()), "it said nothing")
        what = " ".join(argv[:2]) if argv[0] in ("buildah", "podman", "skopeo") else argv[0]
        message = f"{what} failed (exit code {finished.exit_code}): {_plain(last)}"
        if finished.exit_code in _KILLED:
            name = signal.Signals(finished.exit_code - 128).name
            message = f"{what} was ended by {name} from outside (is the machine out of memory?): ask again"
            return ToolKilled(message, exit_code=finished.exit_code, detail=detail)
        return CommandFailed(message, exit_code=finished.exit_code, detail=detail)

    def tell(self, text: str) -> None:
        """Put something into the log, masked."""
        if self.log is not None:
            self.log(mask_text(text, self.secrets()))

    @contextlib.asynccontextmanager
    async def _started(
        self, argv: Sequence[str], *, stdin: bool
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        prefix = DIES_WITH_US if argv[0] in self.options() and shutil.which(DIES_WITH_US[0]) else ()
        if prefix and shutil.which(argv[0], path=self.environ.get("PATH")) is None:
            raise missing(argv[0])
        try:
            process = await asyncio.create_subprocess_exec(
                *prefix,
                *argv,
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self.environ
                if _NEEDS_ALL.match(argv[0])
                else without_secrets(self.environ, self.secrets()),
                start_new_session=True,
            )
        except FileNotFoundError:
            raise missing(argv[0]) from None
        try:
            yield process
        finally:
            with anyio.CancelScope(shield=True):
                kill_group(process.pid)
                await process.wait()
                # the transport holds the pipes; closing it now spares a ResourceWarning at the loop's end
                process._transport.close()  # type: ignore[attr-defined]  # asyncio offers no public close


def without_secrets(environ: Mapping[str, str], secrets: Values) -> dict[str, str]:
    """The environment without variables that hold a secret (an ``env://`` one is in ours): tools need none.

    Left alone are the variables that tools do need, such as a proxy with a password.
    """
    hidden = compiled(secrets)
    if not hidden:
        return dict(environ)
    values = {value.strip() for value in hidden}
    return {
        name: value
        for name, value in environ.items()
        if _NEEDED.match(name) or not (value.strip() in values or mask_text(value, hidden) != value)
    }


def with_options(argv: Sequence[str], options: Mapping[str, Sequence[str]]) -> list[str]:
    """``argv`` with a tool's global options after its name, which may follow what encloses it."""
    for at, word in enumerate(argv):
        if word in options:
            return [*argv[: at + 1], *options[word], *argv[at + 1 :]]
    return list(argv)


def missing(program: str) -> ToolMissing:
    """The error for a program that is not there."""
    both = ("buildah", "skopeo")  # neither is of use without the other
    return ToolMissing(f"{program} is missing: {package_line(*(both if program in both else (program,)))}")


def kill_group(pid: int) -> None:
    """Kill the process group a process of ours leads; one that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


async def _communicate(process: asyncio.subprocess.Process, stdin: bytes, hooks: Hooks) -> Finished:
    outputs: dict[int, list[bytes]] = {1: [], 2: []}
    combined: list[bytes] = []

    async def read(stream: asyncio.StreamReader | None, number: int) -> None:
        while stream is not None and (piece := await stream.read(_CHUNK)):
            if hooks.keep_output:
                outputs[number].append(piece)
                combined.append(piece)
            if hooks.on_output is not None:
                hooks.on_output(number, piece)

    async with anyio.create_task_group() as group:
        group.start_soon(read, process.stdout, 1)
        group.start_soon(read, process.stderr, 2)
        group.start_soon(_feed, process.stdin, stdin)
        code = await process.wait()
    return Finished(
        128 - code if code < 0 else code, b"".join(outputs[1]), b"".join(outputs[2]), b"".join(combined)
    )


async def _feed(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    if stream is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may end without reading all
        stream.write(data)
        await stream.drain()
    stream.close()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await stream.wait_closed()


def tail(output: bytes) -> str:
    """The last lines of an output, bounded."""
    text = output[-TAIL_BYTES:].decode("utf-8", "replace").strip()
    return "\n".join(text.splitlines()[-TAIL_LINES:])


def _plain(line: str) -> str:
    """A tool's last line without its log decoration."""
    _, mark, message = line.partition("msg=")
    text = message.strip().strip('"').replace('\\"', '"') if mark else line
    return text.removeprefix("Error: ").removeprefix("error: ")
