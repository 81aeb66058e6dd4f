"""The engine's mounts are in a mount namespace of its own: when its last process dies, so do they.

Else an overlay mount of a session that was killed would stay on the machine until the next session, and
whatever made itself a mount namespace meanwhile (a container, another engine) would hold on to a copy of it.
Without root the engine is in such a namespace anyway (rootless.py).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

_CLONE_NEWNS = 0x00020000  # unshare(2)
_MS_REC, _MS_SLAVE = 0x4000, 0x80000  # mount(2): what the machine mounts is still seen here, not the reverse
_NAMESPACE = "/proc/self/ns/mnt"
_MACHINES: list[int] = []
"""An open file that stands for the namespace that this process came from, once it has left it."""


def enter() -> None:
    """Leave the machine's mount namespace. To be called before any thread starts; where it is not allowed,
    nothing is done."""
    if os.geteuid() != 0 or _MACHINES or _is_chrooted() or shutil.which("nsenter") is None:
        return
    import ctypes  # noqa: PLC0415  # 5 ms that only a session needs

    libc = ctypes.CDLL(None, use_errno=True)
    machines = os.open(_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    if libc.unshare(_CLONE_NEWNS) != 0:  # no CAP_SYS_ADMIN: mounts are not possible either
        os.close(machines)
        return
    _MACHINES.append(machines)
    if libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None) != 0:
        raise OSError(ctypes.get_errno(), "cannot make the engine's mounts private")


def outside(command: Sequence[str]) -> list[str]:
    """The command line that runs a user's program where the engine was started: what it mounts is seen by
    all."""
    if not _MACHINES or shutil.which(command[0]) is None:
        return list(command)
    namespace = f"--mount=/proc/{os.getpid()}/fd/{_MACHINES[0]}"
    return ["nsenter", namespace, "--", "env", f"--chdir={Path.cwd()}", *command]


def _is_chrooted() -> bool:
    """Whether no mount is seen at "/": then nsenter would lead out of the root that was chosen for us."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return not any(line.split()[4] == "/" for line in lines)
