"""A network for one service: a namespace that lives as long as its process, joined to ours by a veth pair.

The namespace is anonymous (`unshare --net`), so when its last process dies the kernel takes away the
namespace, the pair and the route: nothing can be left behind, even if this process is killed. The service has
an address of its own (198.18.0.0/15, RFC 2544, which nobody routes) that every exec on the host's network,
and every other service, reaches; it does not reach the internet, since that would need NAT.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import anyio

from embedded_engine.runtime.process import CommandFailed, Hooks, Runner

NETWORK = "198.18.0.0/15"
"""Where services have their addresses."""
_BASE = int(ipaddress.IPv4Network(NETWORK).network_address)
_COUNT = ipaddress.IPv4Network(NETWORK).num_addresses
_GATEWAY = "169.254.1.1"  # on our end of every pair; only the service at the other end sees it
_WAIT_S = 5
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Link:
    """The pair for the service whose process is ``pid``."""

    pid: int

    @property
    def name(self) -> str:
        """Our end's name."""
        return f"ee{self.pid}"

    @property
    def address(self) -> str:
        """The service's address: process ids are unique on a machine, so are these."""
        return str(ipaddress.IPv4Address(_BASE + 1 + self.pid % (_COUNT - 2)))

    def outside(self) -> str:
        """`ip -batch` commands for our end."""
        return (
            f"link add name {self.name} type veth peer name eth0 netns {self.pid}\n"
            f"address add {_GATEWAY}/32 dev {self.name}\n"
            f"link set {self.name} up\n"
            f"route add {self.address}/32 dev {self.name}\n"
        )

    def inside(self) -> str:
        """`ip -batch` commands for the service's end."""
        return (
            "link set lo up\n"
            f"address add {self.address}/32 dev eth0\n"
            "link set eth0 up\n"
            f"route add {_GATEWAY} dev eth0\n"
            f"route add default via {_GATEWAY} dev eth0\n"
        )


async def connect(runner: Runner, pid: int) -> Link:
    """Join the network namespace ``pid`` has made (it is waited for). Raises CommandFailed."""
    link = Link(pid)
    await own_namespace(pid)
    await runner.run(["ip", "-batch", "-"], stdin=link.outside().encode())
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-batch", "-"]
    await runner.run(inside, stdin=link.inside().encode())
    forwarding = Path(f"/proc/sys/net/ipv4/conf/{link.name}/forwarding")
    # lets services reach one another (no other interface forwards because of it); where /proc/sys is
    # read-only execs still reach the service, which is what it is for
    with contextlib.suppress(OSError):
        forwarding.write_text("1")
    return link


async def can_connect(runner: Runner) -> bool:
    """Whether this process may make network namespaces and veth pairs, found by making one."""
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in ("ip", "nsenter", "unshare")):
        return False
    try:
        hooks = Hooks(gate=lambda pid: _connected(runner, pid))
        await runner.run([*NAMESPACE, "sh", "-c", "read -r _"], stdin=b"\n", hooks=hooks)
    except CommandFailed:
        return False
    return True


NAMESPACE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--net")
"""What a process of its own network is started through."""
START_WHEN_TOLD = ("sh", "-c", 'read -r _; exec "$@"', "sh")
"""Holds a process back until a line comes on stdin, which is when its network is there."""


async def _connected(runner: Runner, pid: int) -> None:
    await connect(runner, pid)


async def own_namespace(pid: int) -> None:
    """Wait until ``pid`` has left our network namespace."""
    ours = Path("/proc/self/ns/net").stat().st_ino
    with anyio.fail_after(_WAIT_S):
        while Path(f"/proc/{pid}/ns/net").stat().st_ino == ours:  # noqa: ASYNC110  # the kernel tells nobody
            await anyio.sleep(0.002)
