"""The first process of a container: a small program of the machine's that starts the command, hands signals
on and reaps orphans.

The kernel spares the first process of a PID namespace every signal that it has no handler for, so a command
in that place can't die by one, and nobody waits for its orphans. The program is copied into the state and
seen by containers at ``TARGET`` while they run, so it has to be static. Where there is none the command stays
the first process. Its own words for a program that it can't start are taken for what they say (outcome.py).
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

TARGET = "/run/.engine/init"
CATATONIT = "catatonit"
_BESIDE_PODMAN = ("/usr/libexec/podman", "/usr/libexec/catatonit", "/usr/lib/podman")
_TINI = ("tini-static", "docker-init", "tini")
_PT_INTERP = 3  # elf(5)


def init_program() -> str:
    """The first program that can be an init in any image here; "" if there is none."""
    return next((program for program in _candidates() if is_static(Path(program))), "")


def init_args(program: str) -> tuple[str, ...]:
    """What stands before a command. tini is told to adopt orphans where it is not the first process."""
    if not program:
        return ()
    return (TARGET, "--") if Path(program).name == CATATONIT else (TARGET, "-s", "--")


def _candidates() -> Iterator[str]:
    places = (shutil.which(CATATONIT), *(f"{place}/{CATATONIT}" for place in _BESIDE_PODMAN))
    for found in (*places, *(shutil.which(name) for name in _TINI)):
        if found is not None and os.access(found, os.X_OK):
            yield found


def is_static(file: Path) -> bool:
    """Whether this is a program of this machine's kind that asks for no loader (elf(5), 64 bits)."""
    try:
        with file.open("rb") as stream:
            head = stream.read(64)
            if len(head) < 64 or head[:5] != b"\x7fELF\x02":
                return False
            offset, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
            stream.seek(offset)
            table = stream.read(size * count)
    except OSError:
        return False
    kinds = [struct.unpack_from("<I", table, at)[0] for at in range(0, len(table) - 3, size)] if size else []
    return bool(kinds) and _PT_INTERP not in kinds
