"""A user namespace with one id, made to carry images that have several.

Without subordinate ids the kernel maps one user and nobody else: `chown` to another answers EINVAL,
`setgroups` EPERM, and neither an image unpacks nor a command starts as its user. A seccomp filter answers
those calls with success and does nothing (as Charliecloud's "zero consistency" mode does), for this process
and all that it starts: every file is root's, every command runs as root of the namespace, which outside is
the user. What is told of a machine that has to work like this is ``COST``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

COST = (
    "this user has no subordinate ids, so a namespace has one id: all files become root's (also in the "
    "images made, whatever an owner or USER says), commands of other users run as root of the namespace, and "
    "device files are not made"
)
_LD_ABS, _JEQ, _JSET, _RET = 0x20, 0x15, 0x45, 0x06  # of struct sock_filter's code, linux/bpf_common.h
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data, linux/seccomp.h
_ALLOW, _DONE_NOTHING = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with errno 0
_DEVICE = 0o020000  # set in S_IFCHR and in S_IFBLK, in neither S_IFREG nor S_IFIFO
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2


@dataclass(frozen=True, slots=True)
class Calls:
    """The numbers of an architecture's system calls (asm/unistd.h)."""

    audit: int  # AUDIT_ARCH_..., linux/audit.h
    owning: tuple[int, ...]  # chown and its kin, and what changes a process's user or groups
    devices: tuple[tuple[int, int], ...]  # (mknod's number, which argument is its mode)


CALLS = {
    "x86_64": Calls(
        0xC000003E,
        (92, 93, 94, 260, 105, 106, 113, 114, 116, 117, 119, 122, 123),
        ((133, 1), (259, 2)),
    ),
    "aarch64": Calls(0xC00000B7, (54, 55, 143, 144, 145, 146, 147, 149, 151, 152, 159), ((33, 2),)),
}


def is_single(uid_map: Path = Path("/proc/self/uid_map")) -> bool:
    """Whether this process's user namespace maps one id only."""
    try:
        lines = uid_map.read_text().splitlines()
    except OSError:
        return False
    return sum(int(line.split()[2]) for line in lines) == 1


def pretend() -> bool:
    """From now on changes of owner and user succeed and do nothing; False where this can't be had."""
    import ctypes  # noqa: PLC0415  # few starts need it

    calls = CALLS.get(os.uname().machine)
    if calls is None:
        return False
    program = b"".join(filter_program(calls))
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a length, padding, a pointer
    argument = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    long = ctypes.c_ulong
    if libc.prctl(_PR_SET_SECCOMP, long(_FILTER), argument, long(0), long(0)) == 0:
        return True  # as root of a namespace; else the kernel wants a promise first
    libc.prctl(_PR_SET_NO_NEW_PRIVS, long(1), long(0), long(0), long(0))
    return bool(libc.prctl(_PR_SET_SECCOMP, long(_FILTER), argument, long(0), long(0)) == 0)


def filter_program(calls: Calls) -> Iterable[bytes]:
    """The filter in classic BPF: one instruction each."""
    yield _code(_LD_ABS, _ARCHITECTURE)
    yield _code(_JEQ, calls.audit, met=1)
    yield _code(_RET, _ALLOW)
    yield _code(_LD_ABS, _NUMBER)
    for number in calls.owning:
        yield _code(_JEQ, number, unmet=1)
        yield _code(_RET, _DONE_NOTHING)
    for number, argument in calls.devices:
        yield _code(_JEQ, number, unmet=6)
        yield _code(_LD_ABS, _ARGUMENTS + 8 * argument)  # the low half: both architectures are little-endian
        yield _code(_JSET, _DEVICE, unmet=3)
        yield _code(_LD_ABS, _ARGUMENTS + 8 * (argument + 1))
        yield _code(_JEQ, 0, met=1)  # device 0:0 is overlayfs's mark of a deleted file, which anyone may make
        yield _code(_RET, _DONE_NOTHING)
        yield _code(_RET, _ALLOW)
    yield _code(_RET, _ALLOW)


def _code(code: int, value: int, *, met: int = 0, unmet: int = 0) -> bytes:
    """One struct sock_filter: what to do, how many instructions to skip if a test is met or not."""
    return struct.pack("HBBI", code, met, unmet, value)
