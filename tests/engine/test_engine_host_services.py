"""The machine's ports and sockets in containers, health checks, and services that die."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import dagger
import pytest
from dagger import dag
from engine_home import EngineHome
from engine_process import SessionProcess, engine_session
from git_server import repository
from test_engine_services import ASK, SERVER

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.timeout(180)]
TALK = """
use IO::Socket::UNIX; use IO::Socket::INET;
my $s = $ARGV[0] =~ m{^/} ? IO::Socket::UNIX->new(Peer => $ARGV[0])
    : IO::Socket::INET->new(PeerAddr => $ARGV[0], Timeout => 5);
die "cannot connect: $!\\n" unless $s;
print $s "hello\\n"; shutdown $s, 1; local $/; print <$s>;
"""


class Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"heard " + self.rfile.read())


@contextlib.contextmanager
def echoing(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def talking(base: dagger.Container, where: str) -> dagger.Container:
    return base.with_new_file("/talk.pl", TALK).with_exec(["perl", "/talk.pl", where])


async def test_a_port_of_this_machine_is_reached_by_name(base: dagger.Container) -> None:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)
    port = server.server_address[1]
    with echoing(server):
        service = dag.host().service([dagger.PortForward(backend=port, frontend=80)])
        bound = base.with_service_binding("machine", service)
        assert await talking(bound, "machine:80").stdout() == "heard hello\n"
        assert await service.endpoint() == f"{await service.hostname()}:80"
        with pytest.raises(dagger.ExecError, match="refused"):
            await talking(bound, "machine:81").stdout()
        await service.stop()


async def test_a_service_reaches_a_port_of_this_machine(base: dagger.Container) -> None:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)
    port = server.server_address[1]
    with echoing(server):
        host = dag.host().service([dagger.PortForward(backend=port)])
        asking = base.with_new_file("/talk.pl", TALK).with_service_binding("machine", host)
        command = f"perl /talk.pl machine:{port} >&2; exit 7"
        with pytest.raises(dagger.ExecError) as caught:
            await asking.with_exposed_port(1).as_service(args=["sh", "-c", command]).start()
    assert "heard hello" in caught.value.stderr


@pytest.mark.parametrize("owner", ["", "app"])
async def test_a_socket_of_this_machine_is_there_for_an_exec_only(
    base: dagger.Container, tmp_path: Path, owner: str
) -> None:
    path = tmp_path / "s"
    with echoing(socketserver.ThreadingUnixStreamServer(str(path), Echo)):
        having = base.with_unix_socket("/run/s", dag.host().unix_socket(str(path)), owner=owner)
        assert await talking(having, "/run/s").stdout() == "heard hello\n"
        shown = await having.with_exec(["stat", "-c", "%U", "/run/s"]).stdout()
        assert shown == (owner or "root") + "\n"
        left = having.with_exec(["sh", "-c", f"true # {owner}"]).without_unix_socket("/run/s")
        assert not await left.exists("/run/s")
        assert path.is_socket() and path.stat().st_uid == 0


def served(base: dagger.Container, mark: str) -> dagger.Container:
    return base.with_new_file("/server.pl", SERVER + f"# {mark}").with_new_file("/ask.pl", ASK)


async def test_a_service_that_died_refuses_connections_at_once(base: dagger.Container) -> None:
    service = served(base, "dies").with_exposed_port(8080).as_service(args=["perl", "/server.pl"])
    command = "perl /ask.pl web /stop; sleep 1; perl /ask.pl web / 2>&1; echo over"
    bound = base.with_new_file("/ask.pl", ASK).with_service_binding("web", service)
    with pytest.raises(dagger.ExecError) as caught:
        await bound.with_exec(["sh", "-c", command]).sync()
    assert "exited: exit code: 9" in str(caught.value)
    begin = time.monotonic()
    with pytest.raises(dagger.ExecError) as caught:
        await bound.with_exec(["sh", "-c", f"{command}; exit 4"]).sync()
    assert "cannot connect: Connection refused" in caught.value.stdout
    assert time.monotonic() - begin < 4


def test_what_answers_for_dead_services_goes_with_the_session(home: EngineHome) -> None:
    chain = home.chain('asService(args: ["sleep", "141.42"])', "start")
    before = routes()
    with engine_session(home.state) as session:
        session.leaf(chain)
        assert len(routes() - before) >= 2
        session.process.kill()
    deadline = time.monotonic() + 10
    while routes() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert routes() - before == set()


def routes() -> set[str]:
    shown = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True)
    return {line for line in shown.stdout.splitlines() if line.startswith("198.1")}


async def test_a_health_check_decides_when_a_service_is_ready(base: dagger.Container) -> None:
    script = "sleep 0.5; echo up > /ready; exec sleep 100"
    checked = base.with_docker_healthcheck(["test -f /ready"], shell=True, start_interval="100ms", retries=50)
    service = checked.as_service(args=["sh", "-c", script])
    begin = time.monotonic()
    await service.start()
    assert time.monotonic() - begin > 0.5
    await service.stop()
    sick = base.with_docker_healthcheck(["sh", "-c", "echo no >&2; exit 3"], interval="10ms", retries=2)
    with pytest.raises(dagger.ExecError, match="health check failed 2 times: no") as caught:
        await sick.as_service(args=["sh", "-c", "echo thinking >&2; sleep 99"]).start()
    assert caught.value.stderr == "thinking\n"


async def test_up_is_reached_on_this_machine_until_it_is_interrupted(base: dagger.Container) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    exposed = served(base, "up").with_exposed_port(8080)

    async def answer() -> bytes:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join([piece async for piece in stream])

    async with anyio.create_task_group() as group:
        forward = dagger.PortForward(backend=8080, frontend=port)

        async def up() -> None:
            await exposed.up(ports=[forward], args=["perl", "/server.pl"])

        group.start_soon(up)
        with anyio.fail_after(20):
            while True:
                with contextlib.suppress(OSError):
                    assert (await answer()).endswith(b"served")
                    break
                await anyio.sleep(0.05)
        group.cancel_scope.cancel()
    with anyio.fail_after(5), contextlib.suppress(OSError):
        while True:
            await answer()
            await anyio.sleep(0.05)


async def test_git_and_http_reach_a_service(base: dagger.Container) -> None:
    service = served(base, "files").with_exposed_port(8080).as_service(args=["perl", "/server.pl"])
    host = await service.hostname()
    file = dag.http(f"http://{host}:8080/x.txt", experimental_service_host=service)
    assert await file.contents() == "served"
    # it was found and answered, though not as a repository does
    with pytest.raises(dagger.QueryError, match='does not contain ref "HEAD"'):
        await dag.git(f"http://{host}:8080/r", experimental_service_host=service).head().commit()


async def test_a_program_builds_from_a_commit(base: dagger.Container, tmp_path: Path) -> None:
    origin = repository(tmp_path / "one")
    source = dag.git(f"file://{origin}").branch("main").tree(discard_git_dir=True)
    assert await base.with_directory("/src", source).with_exec(["cat", "/src/a.txt"]).stdout() == "one\n"
    inner = dag.host().directory(str(origin)).as_git().head()
    assert await inner.commit() == await dag.git(f"file://{origin}").head().commit()
    in_container = base.with_directory("/r", inner.tree()).directory("/r").as_git()
    assert await in_container.branches() == ["main"]


async def test_ids_of_sockets_lead_back(engine: SessionProcess) -> None:
    identity = json.dumps(engine.leaf('host { unixSocket(path: "/x") { id } }'))
    assert json.dumps(engine.leaf(f"loadSocketFromID(id: {identity}) {{ id }}")) == identity
