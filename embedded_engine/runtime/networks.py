"""The network of one run: a namespace of its own, with the internet through slirp4netns (user-mode NAT).

Why not Buildah's bridge: it needs netavark *and* iptables, forwards for the whole machine, and costs 0.25 s a
run; slirp4netns needs neither root nor firewall rules and costs 20 ms. As in Dagger's engine a run does not
see what listens on the host's loopback, two runs may use one port, and services (links.py) are reached by
their addresses.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio

from embedded_engine.runtime.links import NAMESPACE, START_WHEN_TOLD, own_namespace
from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.runtime.process import Finished, Hooks, Runner

SLIRP = "slirp"
RESOLV_CONF = Path("/etc/resolv.conf")
_DNS = "10.0.2.3"  # slirp4netns forwards it to the host's resolver
_READY_LIMIT_S = 5


async def run_networked(
    runner: Runner, network: str, argv: Sequence[str], *, stdin: bytes = b"", hooks: Hooks | None = None
) -> Finished:
    """Run ``argv`` to its end in the network its isolation has. Raises RuntimeFailure if there is none."""
    hooks = hooks or Hooks()
    if network != SLIRP:
        return await runner.run(argv, stdin=stdin, check=False, hooks=hooks)
    slirp: list[asyncio.Task[Finished]] = []

    async def gate(pid: int) -> None:
        await own_namespace(pid)
        slirp.append(asyncio.create_task(runner.run(slirp_argv(pid), check=False)))
        await _ready(runner, pid, slirp[0])

    whole = [*NAMESPACE, *START_WHEN_TOLD, *argv]
    try:
        finished = await runner.run(whole, stdin=b"\n" + stdin, check=False, hooks=replace(hooks, gate=gate))
        if slirp and slirp[0].done():  # else a command that tolerates it would be remembered without network
            raise runner.failure(["slirp4netns"], slirp[0].result())
        return finished
    finally:
        with anyio.CancelScope(shield=True):
            for task in slirp:
                task.cancel()
                await asyncio.wait([task])


def slirp_argv(pid: int) -> list[str]:
    """The command that joins the namespace of ``pid`` to the internet."""
    options = ["--configure", "--mtu=65520", "--disable-host-loopback"]
    return ["setpriv", "--pdeathsig", "KILL", "slirp4netns", *options, str(pid), "tap0"]


def dns_args(network: str, host: Path = RESOLV_CONF) -> list[str]:
    """Buildah's option for a resolver, where the host's is on a loopback that the namespace does not
    reach."""
    if network != SLIRP or not host.exists():
        return []
    words = [line.split() for line in host.read_text().splitlines()]
    servers = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
    return [f"--dns={_DNS}"] if any(_is_loopback(server) for server in servers) else []


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


async def _ready(runner: Runner, pid: int, slirp: asyncio.Task[Finished]) -> None:
    """Wait until the namespace has its default route."""
    routes = Path(f"/proc/{pid}/net/route")
    with anyio.move_on_after(_READY_LIMIT_S):
        while not any(line.split("\t")[1:2] == ["00000000"] for line in routes.read_text().splitlines()):
            if slirp.done():
                ended = slirp.result()
                if ended.exit_code > 128:
                    raise runner.failure(slirp_argv(pid), ended)
                raise RuntimeFailure("slirp4netns could not join a network", detail=ended.said)
            await anyio.sleep(0.002)
        return
    raise RuntimeFailure(f"slirp4netns did not join a network within {_READY_LIMIT_S} s")
