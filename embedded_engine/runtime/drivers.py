"""How layers are stored here: overlay by the kernel, overlay by fuse-overlayfs, or whole copies (vfs).

Found by making a container, committing it and looking into one made of the result. What vfs costs is measured
in the same way, with a payload.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from embedded_engine.runtime.port import SCRATCH, RuntimeFailure
from embedded_engine.runtime.process import Runner, ToolKilled
from embedded_engine.runtime.state import State, use_driver
from embedded_engine.runtime.working import Working

PAYLOAD_MB = 32
_MARK = b"it is stored"


@dataclass(frozen=True, slots=True)
class Driver:
    """A way of storing layers."""

    name: str  # as containers-storage calls it
    mount_program: str = ""

    @property
    def told(self) -> str:
        """For people."""
        if self.mount_program:
            return "overlay (fuse-overlayfs)"
        return "overlay (the kernel's)" if self.name == "overlay" else "vfs (whole copies)"


@dataclass(slots=True)
class Drivers:
    """Tries drivers on a state."""

    state: State
    runner: Runner
    working: Working
    mounted_by: str = ""  # the kind of file system that the last container was on

    def current(self) -> Driver:
        """The one in use."""
        return Driver(self.state.driver, self.state.mount_program)

    def candidates(self) -> Iterator[Driver]:
        """What to try, best first. Where images are stored already, only what can read them."""
        every = [Driver("overlay")]
        program = shutil.which("fuse-overlayfs")
        if program is not None:
            every.append(Driver("overlay", program))
        every.append(Driver("vfs"))
        kept = self.current() if self.state.present() else None
        if kept is not None:
            every = [kept, *(driver for driver in every if driver.name == kept.name and driver != kept)]
        yield from every

    async def why_not(self, driver: Driver) -> str:
        """Settle on ``driver`` and try it: why it doesn't work, "" if it does."""
        use_driver(self.state, driver.name, driver.mount_program)
        try:
            await self._stored(_MARK)
        except RuntimeFailure as failure:
            if says_nothing_of_the_machine(failure):
                raise
            return whole_reason(failure)
        if self.mounted_by == "fuse" and not driver.mount_program:
            return "the tools take fuse-overlayfs for it"  # they do so by themselves where it is installed
        return ""

    async def cost_of_copies(self) -> float:
        """Seconds that a container of ``PAYLOAD_MB`` takes with the present driver. Raises RuntimeFailure."""
        return await self._stored(os.urandom(PAYLOAD_MB << 20))

    async def _stored(self, data: bytes) -> float:
        """Commit a file and look at it in a container of the image; the time it took to make that one."""
        async with self.working.container(SCRATCH) as (name, root):
            await anyio.to_thread.run_sync((root / "payload").write_bytes, data)
            snapshot = await self.working.commit(name)
        try:
            began = time.monotonic()
            async with self.working.container(snapshot) as (_, root):
                seconds = time.monotonic() - began
                self.mounted_by = kind_of_mount(root).partition(".")[0]
                if not (root / "payload").is_file():
                    raise RuntimeFailure("a committed file was not in the image")
        finally:
            await self.runner.run(["buildah", "rmi", snapshot], check=False)
        return seconds


def says_nothing_of_the_machine(failure: RuntimeFailure) -> bool:
    """Whether an attempt failed for what passes: the tool was killed, or the disk is full."""
    text = f"{failure} {failure.detail}".lower()
    return isinstance(failure, ToolKilled) or "no space left on device" in text


def kind_of_mount(point: Path) -> str:
    """The type of the file system mounted at ``point``, "" if none is (proc(5), mountinfo)."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, rest = line.partition(" - ")
        if mount.split()[4] == str(point):
            return rest.split()[0]
    return ""


def whole_reason(failure: RuntimeFailure) -> str:
    """A failure with what the tool said before its last line, which often says no more than that it ended."""
    before = [line.strip() for line in failure.detail.splitlines() if line.strip()][-3:-1]
    return "; ".join([*before, str(failure).rstrip("\\")])


def copies_warning(seconds: float, reason: str) -> str:
    """What vfs costs, in numbers measured here."""
    per_gb = seconds / PAYLOAD_MB * 1000
    return (
        f"layers are stored as whole copies (vfs), since {reason}. Measured: a container on {PAYLOAD_MB} MB "
        f"copies {PAYLOAD_MB} MB in {seconds:.1f} s, so each step on an image of 1 GB takes about "
        f"{per_gb:.0f} s and 1 GB of disk. `embedded-engine doctor` says how to get overlay"
    )
