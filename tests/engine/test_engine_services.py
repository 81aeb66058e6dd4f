"""Services: bound, started, reached from the host, dying, and always gone at the end."""

from __future__ import annotations

import urllib.request

import anyio.to_thread
import dagger
import pytest
from dagger import dag
from engine_home import EngineHome
from engine_process import engine_session

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.timeout(180)]

SERVER = """
use IO::Socket::INET;
$| = 1;
print "server begins\\n";
my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die "cannot listen: $!";
while (my $client = $server->accept) {
    my $line = <$client>;
    print "asked: $line";
    if ($line =~ m{/stop}) { exit 9 }
    print $client "HTTP/1.0 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\nserved";
    close $client;
}
"""
ASK = """
use IO::Socket::INET;
my $socket = IO::Socket::INET->new(PeerAddr => "$ARGV[0]:8080", Timeout => 5) or die "cannot connect: $!";
print $socket "GET $ARGV[1] HTTP/1.0\\r\\n\\r\\n";
local $/; print((split /\\r\\n\\r\\n/, <$socket>)[1]);
"""


def server(base: dagger.Container, mark: str = "") -> dagger.Service:
    container = base.with_new_file("/server.pl", SERVER + f"# {mark}").with_exposed_port(8080)
    return container.as_service(args=["perl", "/server.pl"])


def client(base: dagger.Container, service: dagger.Service, path: str = "/") -> dagger.Container:
    bound = base.with_new_file("/ask.pl", ASK).with_service_binding("web", service)
    return bound.with_exec(["perl", "/ask.pl", "web", path])


async def test_an_exec_reaches_a_bound_service_by_its_alias(base: dagger.Container) -> None:
    assert await client(base, server(base)).stdout() == "served"


async def test_a_started_service_is_the_same_one_when_bound_and_when_asked(base: dagger.Container) -> None:
    service = server(base, "started")
    started = await service.start()
    assert await client(base, service, "/x").stdout() == "served"
    assert await service.endpoint(scheme="http") == f"http://{await started.hostname()}:8080"
    assert [await port.port() for port in await service.ports()] == [8080]
    await service.stop()
    await service.stop()


async def test_a_tunnel_leads_from_the_host_to_the_service(base: dagger.Container) -> None:
    tunnel = await dag.host().tunnel(server(base, "tunnel")).start()
    endpoint = await tunnel.endpoint(scheme="http")
    assert endpoint.startswith("http://127.0.0.1:")

    def fetch() -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(endpoint, timeout=10) as response:
            body: bytes = response.read()
        return body

    assert await anyio.to_thread.run_sync(fetch) == b"served"
    await tunnel.stop()
    with pytest.raises(OSError):
        await anyio.to_thread.run_sync(fetch)


async def test_a_service_that_ends_early_tells_its_code_and_log(base: dagger.Container) -> None:
    service = base.with_exposed_port(80).as_service(args=["sh", "-c", "echo no config >&2; exit 5"])
    with pytest.raises(dagger.ExecError) as caught:
        await client(base, service).sync()
    assert caught.value.exit_code == 5
    assert "no config" in caught.value.stderr
    assert "(aliased as web): exit code: 5" in str(caught.value)


async def test_a_service_that_dies_during_the_exec_is_named(base: dagger.Container) -> None:
    with pytest.raises(dagger.ExecError) as caught:
        await client(base, server(base, "dies"), "/stop").sync()
    assert "exited" in str(caught.value) and "exit code: 9" in str(caught.value)


async def test_without_a_command_there_is_no_service(base: dagger.Container) -> None:
    with pytest.raises(dagger.QueryError, match="no service command has been set"):
        await base.without_default_args().as_service().start()


def test_services_end_with_their_session(home: EngineHome) -> None:
    marker = "sleep 161.803"
    from test_engine_cache import running, wait_until

    chain = home.chain('asService(args: ["sleep", "161.803"])', "start")
    with engine_session(home.state) as session:
        assert session.leaf(chain)
        assert running(marker)
        assert session.end() == 0
    wait_until(lambda: not running(marker))
