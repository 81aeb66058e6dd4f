"""Sockets, host services, tunnels, patches and errors by request, on a simulated runtime."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from simulated_sessions import BASE, Client, simulated_session

from embedded_engine.runtime.port import HealthCheck

pytestmark = pytest.mark.anyio
SERVICE = (*BASE, "withExposedPort(port: 80)", 'asService(args: ["sleep", "9"])')


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with simulated_session(tmp_path) as session:
        yield session


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


async def test_a_socket_is_in_the_way_of_an_exec_and_in_its_key_by_path(
    client: Client, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "agent"))
        source = await client.id("host", f'unixSocket(path: "{tmp_path}/agent")')
        having = (*BASE, f'withUnixSocket(path: "/run/agent", source: {source})')
        assert await client.ask(*having, 'withExec(args: ["true"])', "exitCode") == 0
        (mount,) = client.runtime.executed[0].mounts
        assert (mount.target, mount.source) == ("/run/agent", tmp_path / "agent")
        assert await client.ask(*having, "mounts") == []
        gone = (*having, 'withoutUnixSocket(path: "/run/agent")', 'withExec(args: ["true"])', "exitCode")
        assert await client.ask(*gone) == 0
    assert [len(step.mounts) for step in client.runtime.executed] == [1, 0]
    assert await client.ask(*having, 'withExec(args: ["true"])', "exitCode") == 0, (
        "cached: nobody need listen"
    )


async def test_a_socket_that_is_not_there_is_named_when_it_is_used(client: Client) -> None:
    source = await client.id("host", 'unixSocket(path: "none.sock")')
    message = await client.fails(
        *BASE, f'withUnixSocket(path: "/s", source: {source})', 'withExec(args: ["true"])', "stdout"
    )
    assert message == f"unix socket {client.session.workdir}/none.sock: No such file or directory"
    assert await client.ask(f"loadSocketFromID(id: {source})", "id") == json.loads(source)


async def test_host_ports_are_a_service_by_name(client: Client) -> None:
    service = await client.id("host", "service(ports: [{frontend: 80, backend: 8080}, {backend: 5432}])")
    loaded = f"loadServiceFromID(id: {service})"
    name = await client.ask(loaded, "hostname")
    assert await client.ask(loaded, "endpoint") == f"{name}:80"
    assert [
        await client.ask(f"node(id: {json.dumps(one['id'])})", "... on Port", "port")
        for one in (await client.raw("{ " + loaded + " { ports { id } } }"))["data"]["loadServiceFromID"][
            "ports"
        ]
    ] == [80, 5432]
    bound = (
        *BASE,
        f'withServiceBinding(alias: "db", service: {service})',
        'withExec(args: ["true"])',
        "exitCode",
    )
    assert await client.ask(*bound) == 0
    (relay,) = client.runtime.services
    assert relay.step.args == ("localhost", "(80, 8080)", "(5432, 5432)")
    assert client.runtime.executed[0].hosts == (("10.0.0.2", ("db", name)),)


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (("host", "service(ports: [])"), "no ports specified"),
        (
            ("host", "service(ports: [{backend: 70000}])"),
            "Host.service: ports are between 1 and 65535, not 70000",
        ),
    ],
)
async def test_ports_that_cannot_be_are_refused(client: Client, chain: tuple[str, ...], message: str) -> None:
    assert await client.fails(*chain, "id") == message


async def test_udp_terminals_and_gpus_are_refused_before_anything_runs(client: Client) -> None:
    chains = {
        "PortForward(protocol: UDP)": ("host", "service(ports: [{backend: 53, protocol: UDP}])", "id"),
        "Container.terminal": (*BASE, "terminal", "id"),
        "Directory.terminal": ("directory", "terminal", "id"),
        "Service.terminal": (*SERVICE, "terminal", "id"),
        "Container.experimentalWithGPU": (*BASE, 'experimentalWithGPU(devices: ["0"])', "id"),
        "Container.withEnvFileVariables": (*BASE, 'withEnvFileVariables(source: "x")', "id"),
    }
    for name, chain in chains.items():
        body = await client.raw("{ version " + " { ".join(chain) + " }" * len(chain))
        assert body["status"] == 422
        assert f"{name} is not supported by the embedded engine: needs Dagger's engine" in str(body["errors"])
    assert client.runtime.resolved == []


async def test_a_udp_port_in_a_variable_is_refused_too(client: Client) -> None:
    query = "query($p: [PortForward!]!) { host { service(ports: $p) { id } } }"
    variables = {"p": [{"backend": 53, "protocol": "UDP"}]}
    answer = await client.api.answer(client.session, query, variables, None)
    assert "needs Dagger's engine" in answer.body["errors"][0]["message"]


async def test_a_tunnel_has_the_ports_asked_for(client: Client) -> None:
    service = await client.id(*SERVICE)
    wanted = free_port()
    chain = (
        "host",
        f"tunnel(service: {service}, ports: [{{frontend: {wanted}, backend: 80}}, {{backend: 81}}])",
    )
    assert await client.ask(*chain, "endpoint(port: 80)") == f"127.0.0.1:{wanted}"
    assert await client.ask(*chain, 'endpoint(scheme: "tcp")') == f"tcp://127.0.0.1:{wanted}"
    other = int((await client.ask(*chain, "endpoint(port: 81)")).rpartition(":")[2])
    assert other not in (wanted, 81)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        chain = (
            "host",
            f"tunnel(service: {service}, ports: [{{backend: 80}}, {{frontend: {port}, backend: 80}}])",
        )
        assert await client.fails(*chain, "start") == f"cannot listen on 127.0.0.1:{port}: it is taken"


async def test_a_tunnel_to_what_is_no_container_or_has_no_port_is_refused(client: Client) -> None:
    host = await client.id("host", "service(ports: [{backend: 80}])")
    assert "non-Container" in await client.fails("host", f"tunnel(service: {host})", "id")
    bare = await client.id(*BASE, 'asService(args: ["sleep"])')
    assert "no ports to forward" in await client.fails("host", f"tunnel(service: {bare})", "id")
    tunnel = await client.id("host", f"tunnel(service: {await client.id(*SERVICE)})")
    bind = f'withServiceBinding(alias: "t", service: {tunnel})'
    assert "a tunnel can't be bound" in await client.fails(*BASE, bind, "id")


async def test_up_lasts_until_its_service_ends(client: Client) -> None:
    port = free_port()
    told: list[str] = []

    async def go_up() -> None:
        told.append(await client.fails(*SERVICE, f"up(ports: [{{frontend: {port}, backend: 80}}])"))

    async with anyio.create_task_group() as group:
        group.start_soon(go_up)
        with anyio.fail_after(5):
            while not listens(port):  # noqa: ASYNC110  # a port tells nobody
                await anyio.sleep(0.02)
        client.runtime.services[0].code = 3
    assert "exited: exit code: 3" in told[0]
    assert not listens(port)


async def test_up_ends_with_its_request(client: Client) -> None:
    port = free_port()
    with anyio.move_on_after(0.3):
        await client.ask(
            *BASE,
            "withExposedPort(port: 80)",
            f'up(ports: [{{frontend: {port}, backend: 80}}], args: ["sleep", "9"])',
        )
    assert not listens(port)
    assert len(client.runtime.services) == 1


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


async def test_a_health_check_is_handed_to_the_runtime(client: Client) -> None:
    checked = (
        *BASE,
        "withExposedPort(port: 80)",
        'withDockerHealthcheck(args: ["ask"], shell: true, interval: "2s", startPeriod: "1m", retries: 7)',
        'asService(args: ["sleep"])',
        "start",
    )
    await client.ask(*checked)
    wanted = client.runtime.services[0].wanted
    assert wanted is not None
    assert wanted.health == HealthCheck(("/bin/sh", "-c", "ask"), 30, 60, 2, 7)
    assert [port.port for port in wanted.ports] == [80]


PATCH = """diff --git a/a.txt b/a.txt
--- a/a.txt
+++ b/a.txt
@@ -1 +1 @@
-one
+two
diff --git a/new/b.sh b/new/b.sh
new file mode 100755
--- /dev/null
+++ b/new/b.sh
@@ -0,0 +1 @@
+echo
"""
FILES = (
    "directory",
    'withNewFile(path: "a.txt", contents: "one\\n")',
    'withNewFile(path: "c", contents: "c")',
)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
async def test_a_patch_changes_files_and_modes(client: Client) -> None:
    patched = (*FILES, "withTimestamps(timestamp: 7)", f"withPatch(patch: {json.dumps(PATCH)})")
    assert await client.ask(*patched, 'file(path: "a.txt")', "contents") == "two\n"
    assert await client.ask(*patched, 'stat(path: "new/b.sh")', "permissions") == 0o755
    assert await client.ask(*patched, "entries") == ["a.txt", "c", "new/"]
    file = await client.id(f'file(name: "p", contents: {json.dumps(PATCH)})')
    assert (
        await client.ask(*FILES, f"withPatchFile(patch: {file})", 'file(path: "a.txt")', "contents")
        == "two\n"
    )
    untouched = await client.ask(*FILES, "withTimestamps(timestamp: 7)", 'file(path: "c")', "digest")
    assert await client.ask(*patched, 'file(path: "c")', "digest") == untouched


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
async def test_a_patch_that_does_not_fit_or_leads_out_is_an_error(client: Client, tmp_path: Path) -> None:
    message = await client.fails("directory", f"withPatch(patch: {json.dumps(PATCH)})", "entries")
    assert "a.txt: No such file or directory" in message
    out = PATCH.replace("new/b.sh", "../../escaped")
    assert "invalid path" in await client.fails(*FILES, f"withPatch(patch: {json.dumps(out)})", "entries")
    linked = (*FILES, f'withSymlink(target: "{tmp_path}", linkName: "new")')
    assert "beyond a symbolic link" in await client.fails(
        *linked, f"withPatch(patch: {json.dumps(PATCH)})", "entries"
    )
    assert not list(tmp_path.rglob("escaped")) and not (tmp_path / "b.sh").exists()
    assert await client.ask(*FILES, 'withPatch(patch: "")', "entries") == ["a.txt", "c"]


async def test_errors_by_request(client: Client) -> None:
    assert await client.fails("directory", 'withError(err: "not today")', "entries") == "not today"
    assert await client.fails(*BASE, 'withError(err: "nor here")', "id") == "nor here"
    assert await client.ask("directory", 'withError(err: "")', "entries") == []
    same = await client.ask(*BASE, "id")
    assert await client.ask(*BASE, 'withDefaultTerminalCmd(args: ["sh"])', "id") == same
