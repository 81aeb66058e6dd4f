"""What Buildah 1.28 says around a command's own output, as recorded, and what is made of it."""

from __future__ import annotations

import pytest

from embedded_engine.runtime.build_log import BuildLog
from embedded_engine.runtime.outcome import ending, without_noise
from embedded_engine.runtime.port import RuntimeFailure, SetupFailure
from embedded_engine.runtime.probe import reason_of
from embedded_engine.runtime.process import Finished

OCI_NOT_FOUND = (
    b'error running container: from /usr/bin/runc creating container for [x]: time="2026-11-22T21:02:57Z" '
    b'level=error msg="runc create failed: unable to start container process: exec: \\"x\\": %s"\n'
    b": exit status 1\nError: while running runtime: exit status 1\n"
)


def said(stderr: bytes, exit_code: int) -> Finished:
    return Finished(exit_code, b"", stderr)


@pytest.mark.parametrize(
    ("stderr", "buildah_code", "code", "own"),
    [
        (b"err\nError: while running runtime: exit status 3\n", 3, 3, b"err\n"),
        (b"no newlineError: while running runtime: exit status 125\n", 125, 125, b"no newline"),
        (b"subprocess exited with status 3\n" * 2 + b"Error: exit status 3\n", 3, 3, b""),
        (b"e\ncontainer exited on killed\nError: while running runtime: exit status 1\n", 1, 137, b"e\n"),
        (
            b"subprocess exited on terminated\nsubprocess exited with status 1\nError: exit status 1\n",
            *(1, 143, b""),
        ),
        (
            b"container exited on segmentation fault\nError: while running runtime: exit status 1\n",
            1,
            139,
            b"",
        ),
        (
            OCI_NOT_FOUND % b"executable file not found in $PATH",
            *(1, 1, b'exec: "x": executable file not found in $PATH\n'),
        ),
        (OCI_NOT_FOUND % b"permission denied", 1, 1, b"fork/exec x: permission denied\n"),
        (
            OCI_NOT_FOUND % b"stat x: no such file or directory",
            *(1, 1, b"fork/exec x: no such file or directory\n"),
        ),
        (
            b'process failed to start with error: exec: "x": executable file not found in $PATHprocess '
            b"exited with error: exec: not startedsubprocess exited with status 1\nError: exit status 1\n",
            *(1, 1, b'exec: "x": executable file not found in $PATH\n'),
        ),
        (b"all well\n", 0, 0, b"all well\n"),
    ],
)
def test_the_commands_own_ending(stderr: bytes, buildah_code: int, code: int, own: bytes) -> None:
    end = ending(said(stderr, buildah_code))
    assert (end.exit_code, end.stderr) == (code, own)


NOISE = b"Error: while running runtime: exit status %d\n"


@pytest.mark.parametrize(
    ("program", "said_by_init", "code", "own"),
    [
        ("x", b"ERROR (catatonit:2): failed to exec pid1: No such file or directory\n", 1, "path"),
        ("x", b"[FATAL tini (7)] exec x failed: Permission denied\n", 126, "path"),
        (
            *("/x", b"ERROR (catatonit:2): failed to exec pid1: Permission denied\n"),
            *(1, b"fork/exec /x: permission denied\n"),
        ),
        (
            *("a/x", b"[FATAL tini (2)] exec a/x failed: Exec format error\n"),
            *(126, b"fork/exec a/x: exec format error\n"),
        ),
        (
            *("", b"ERROR (catatonit:2): failed to exec pid1: No such file or directory\n"),
            *(1, b"fork/exec : no such file or directory\n"),
        ),
    ],
)
def test_what_an_init_could_not_start(program: str, said_by_init: bytes, code: int, own: bytes | str) -> None:
    words = b'exec: "x": executable file not found in $PATH\n' if own == "path" else own
    end = ending(said(said_by_init + NOISE % code, code), program)
    assert (end.exit_code, end.stderr) == (1, words)
    alone = ending(said(said_by_init + NOISE % code, code))  # a command's own words, without an init
    assert (alone.exit_code, alone.stderr) == (code, said_by_init)


def test_a_command_that_only_mentions_an_init_keeps_its_words() -> None:
    spoken = b"first\nERROR (catatonit:2): failed to exec pid1: No such file or directory\n"
    end = ending(said(spoken + NOISE % 3, 3), "sh")
    assert (end.exit_code, end.stderr) == (3, spoken)


def test_a_command_that_imitates_buildah_is_believed_only_at_the_very_end() -> None:
    imitation = b"Error: while running runtime: exit status 9\nmore\n"
    end = ending(said(imitation + b"Error: while running runtime: exit status 2\n", 2))
    assert (end.exit_code, end.stderr) == (2, imitation)


def test_an_unknown_user_is_a_setup_failure_and_buildahs_own_failure_an_error() -> None:
    unknown = b'Error: determining run uid: user: unknown user error looking up user "ghost"\n'
    with pytest.raises(SetupFailure, match="unable to find user ghost"):
        ending(said(unknown, 125))
    with pytest.raises(RuntimeFailure, match="could not be started: netavark: no such file") as caught:
        ending(said(b"Error: netavark: no such file\n", 125))
    assert not isinstance(caught.value, SetupFailure)


def test_noise_goes_from_the_combined_output_too() -> None:
    assert without_noise(b"out\nERRerr\n", b"ERR") == b"out\nerr\n"
    assert without_noise(b"out\n", b"") == b"out\n"


def test_the_reason_of_a_failed_attempt_is_its_telling_line() -> None:
    stderr = (
        b"cgroups in hybrid mode not supported\n"
        b": exit status 1\nError: while running runtime: exit status 1\n"
    )
    assert reason_of(said(stderr, 1)) == "cgroups in hybrid mode not supported"


def test_a_builds_steps_are_counted_without_ours() -> None:
    log = BuildLog(hidden_args=True)
    log.add(1, b"STEP 1/5: FROM base\nSTEP 2/5: ARG PIP_CERT A\n--> Using cache aa\nSTEP 3/5: RUN a\n--> Usi")
    log.add(1, b"ng cache bb\nSTEP 4/5: COPY x /\nSTEP 5/5: RUN --mount=type=cache,target=/c  b && c\nout\n")
    log.add(2, b'err\nError: building at STEP "RUN b && c": while running runtime: exit status 4\n')
    assert (log.steps, log.cached) == (3, 1)
    assert log.failed_command('Error: building at STEP "RUN b": while running runtime: exit status 4') == (
        *("/bin/sh", "-c", "b && c"),
    )
    assert (log.stdout(), log.stderr()) == ("out\n", "err\n")


def test_a_failure_that_is_no_runs_has_no_command() -> None:
    log = BuildLog(hidden_args=False)
    log.add(1, b'STEP 1/2: FROM base\nSTEP 2/2: RUN ["a", "b"]\n')
    assert log.failed_command('Error: building at STEP "RUN a b": exit status 2') == ("a", "b")
    assert log.failed_command("Error: no space left on device") is None
