"""What test_rootless_sessions.py runs as an ordinary user: a dagger-io program. Prints one JSON object."""

from __future__ import annotations

import json
import sys

import anyio
import dagger
from dagger import dag

DOCKERFILE = """FROM {base}
RUN echo built > /built
USER app
RUN id -u > /tmp/who
"""
SERVER = """
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalPort => {port}, Listen => 5, ReuseAddr => 1) or die "listen: $!";
while (my $client = $server->accept) {{ print $client "served"; close $client }}
"""
ASK = """
use IO::Socket::INET;
my $socket = IO::Socket::INET->new(PeerAddr => "web:{port}", Timeout => 5) or die "cannot connect: $!";
local $/; print <$socket>;
"""


async def main(*arguments: str) -> None:
    """Use most of what an ordinary pipeline does."""
    address, target, port = arguments
    async with dagger.connection(dagger.Config(retry=None)):
        base = dag.container().from_(address)
        ran = base.with_exec(["sh", "-c", "id -u; echo from a run"])
        owned = base.with_new_file("/owned", "x", owner="app:app").with_exec(
            ["stat", "-c", "%u:%g", "/owned"]
        )
        other = base.with_user("app").with_exec(["sh", "-c", "id -u; echo $HOME"])
        context = dag.directory().with_new_file("Dockerfile", DOCKERFILE.format(base=address))
        built = context.docker_build().with_exec(["cat", "/built", "/tmp/who"])
        service = (
            base.with_new_file("/server.pl", SERVER.format(port=port))
            .with_exposed_port(int(port))
            .as_service(args=["perl", "/server.pl"])
        )
        asked = (
            base.with_new_file("/ask.pl", ASK.format(port=port))
            .with_service_binding("web", service)
            .with_exec(["perl", "/ask.pl"])
        )
        cached = base.with_mounted_cache("/cache", dag.cache_volume("rootless"))
        await cached.with_exec(["sh", "-c", "echo kept > /cache/file"]).sync()
        kept = cached.with_exec(["cat", "/cache/file"])
        parent = base.with_exec(["sh", "-c", "{ tr '\\0' ' ' < /proc/$PPID/cmdline; } 2>&- || echo -"])
        result = {
            "parent": await parent.stdout(),
            "exec": await ran.stdout(),
            "owner": await owned.stdout(),
            "user": await other.stdout(),
            "build": await built.stdout(),
            "service": await asked.stdout(),
            "cache": await kept.stdout(),
            "published": await owned.with_exec(["touch", "/more"]).publish(target),
        }
        print(json.dumps(result))  # the test reads it


anyio.run(main, *sys.argv[1:])
