"""What a ``buildah run`` that ended says about the command it ran.

Buildah adds lines of its own to the command's stderr and flattens some exit codes. Measured with 1.28:

    oci     exit 3        ...Error: while running runtime: exit status 3
    oci     killed        ...container exited on killed / Error: while running runtime: exit status 1
    oci     not found     error running container: ... exec: \\"x\\": executable file not found in $PATH ...
    chroot  exit 3        ...subprocess exited with status 3 / subprocess exited with status 3 / Error: exit
    status 3 chroot  killed        ...subprocess exited on killed / subprocess exited with status 1 / Error:
    exit status 1 chroot  not found     process failed to start with error: exec: "x": executable file not
    found in $PATH...

What matches none of these is a failure of Buildah itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from embedded_engine.runtime.port import RuntimeFailure, SetupFailure
from embedded_engine.runtime.process import Finished, tail

# as Go's syscall.Signal.String() names them
_SIGNALS = {
    "hangup": 1,
    "interrupt": 2,
    "quit": 3,
    "illegal instruction": 4,
    "trace/breakpoint trap": 5,
    "aborted": 6,
    "bus error": 7,
    "floating point exception": 8,
    "killed": 9,
    "user defined signal 1": 10,
    "segmentation fault": 11,
    "user defined signal 2": 12,
    "broken pipe": 13,
    "alarm clock": 14,
    "terminated": 15,
}
_ENDED = re.compile(
    rb"(?:(?:container|subprocess|process) exited (?:with status \d+|on (?P<signal>[a-z0-9/ ]+))\n)*"
    rb"Error: (?:while running runtime: )?exit status (?P<code>\d+)\n\Z"
)
_NOT_STARTED = re.compile(
    rb"(?:error running container: .*?exec: \\*\"(?P<program>[^\"\\]+)\\*\": (?P<why>[^\"\\\n]+?)\\*\""
    rb"|process failed to start with error: (?P<whole>.+?)process exited with error: exec: not started)",
    re.DOTALL,
)
_LOOK_AT = 8_000  # bytes: Buildah's own words are at the very end
_UNKNOWN_USER = re.compile(
    r"unknown (?P<kind>user|group) error looking up (?:user|group) \"?(?P<name>[^\"\s]+)"
    r"|unable to find (?P<kind2>user|group) (?P<name2>\S+)"
)
# what runc says on the command's stderr when the kernel refuses the program after all else is set up
_REFUSED = re.compile(rb"\Aexec /[^\n]*: (?:exec format error|no such file or directory)\n\Z")


# what an init says when it can't start the program: catatonit and tini
_INIT = re.compile(
    rb"\A(?:ERROR \(catatonit:\d+\): failed to exec pid1|\[FATAL tini \(\d+\)\] exec .* failed): "
    rb"(?P<why>[^\n]+)\n\Z",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Ending:
    """The command's own exit code and stderr, and how many bytes at the end were Buildah's."""

    exit_code: int
    stderr: bytes
    noise: bytes = b""


def ending(finished: Finished, program: str | None = None) -> Ending:
    """Take Buildah's words off the command's. Raises SetupFailure or RuntimeFailure if no command ever ran.

    ``program`` is what an init was to start, None without one.
    """
    if finished.exit_code == 0:
        return Ending(0, finished.stderr)
    first = max(0, len(finished.stderr) - _LOOK_AT)
    match = _ENDED.search(finished.stderr, first)
    if match is None:
        raise _failed(finished)
    stderr, noise = finished.stderr[: match.start()], finished.stderr[match.start() :]
    started = _NOT_STARTED.search(stderr, first)
    if started is not None and finished.exit_code == 1:
        return Ending(1, stderr[: started.start()] + _why(started), finished.stderr[started.start() :])
    killed = match["signal"]
    if killed is not None:
        return Ending(128 + _SIGNALS.get(killed.decode(), 9), stderr, noise)
    refused = _REFUSED.match(stderr)
    if refused is not None and finished.exit_code == 1:
        return Ending(1, b"fork/" + stderr, finished.stderr)
    unstarted = _INIT.match(stderr) if program is not None and len(stderr) <= _LOOK_AT else None
    if program is not None and unstarted is not None:
        return Ending(1, _words(program.encode(), unstarted["why"]), finished.stderr)
    return Ending(int(match["code"]), stderr, noise)


def without_noise(output: bytes, noise: bytes) -> bytes:
    """``output`` without the last occurrence of ``noise``."""
    before, found, after = output.rpartition(noise) if noise else (output, b"", b"")
    return before + after if found else output


def _why(match: re.Match[bytes]) -> bytes:
    """The reason in the words of Dagger's engine (which are those of Go's os/exec)."""
    if match["whole"] is not None:
        return match["whole"].strip() + b"\n"
    program, why = match["program"], match["why"]
    if why.startswith(b"executable file not found"):
        return b'exec: "' + program + b'": executable file not found in $PATH\n'
    return b"fork/exec " + program + b": " + why.rpartition(b": ")[2] + b"\n"


def _words(program: bytes, why: bytes) -> bytes:
    """The same from execvp(3)'s error; a name is looked up in PATH."""
    if program and b"/" not in program and why in (b"No such file or directory", b"Permission denied"):
        return b'exec: "' + program + b'": executable file not found in $PATH\n'
    return b"fork/exec " + program + b": " + why[:1].lower() + why[1:] + b"\n"


def _failed(finished: Finished) -> RuntimeFailure:
    said = tail(finished.stderr)
    user = _UNKNOWN_USER.search(said)
    if user is not None:
        kind, name = user["kind"] or user["kind2"], user["name"] or user["name2"]
        file = "/etc/passwd" if kind == "user" else "/etc/group"
        return SetupFailure(f"unable to find {kind} {name}: no such entry in {file}", detail=said)
    last = said.splitlines()[-1] if said else f"buildah run ended with exit code {finished.exit_code}"
    return RuntimeFailure(f"the command could not be started: {last.removeprefix('Error: ')}", detail=said)
