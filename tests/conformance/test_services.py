"""Services: bound, reached, started, stopped, and failing."""

from __future__ import annotations

import urllib.request

import anyio.to_thread
import pytest
from dagger import Container, PortForward, dag

from .case import Answer, Theme
from .checking import test_answers_as_dagger_does  # noqa: F401  # the test of each case below
from .site import Site, attempt

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
THEME = Theme("services")
case = THEME.case
SERVER = """use Socket; socket(S, PF_INET, SOCK_STREAM, 0); setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1);
bind(S, sockaddr_in($ENV{PORT} || 8080, INADDR_ANY)) or die; listen(S, 9); $| = 1; print "ready\\n";
while (accept(C, S)) { sysread(C, $_, 4096);
  syswrite(C, "HTTP/1.0 200 OK\\r\\n\\r\\n" . ($ENV{SAY} || "hello") . "\\n"); close(C) }
"""
CLIENT = """use Socket; my ($h, $p) = @ARGV; my $a = inet_aton($h) or die "no address for $h\\n";
socket(S, PF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in($p, $a)) or die "no connection: $!\\n";
syswrite(S, "GET / HTTP/1.0\\r\\n\\r\\n"); local $/; $_ = <S>; s/.*\\r\\n\\r\\n//s; print;
"""


def server(site: Site, *, port: int = 8080, exposed: bool = True, **environment: str) -> Container:
    """A small HTTP server of the case's own."""
    made = site.base.with_env_variable("CASE", f"{site.name}-{site.nonce}").with_env_variable(
        "PORT", str(port)
    )
    for name, value in environment.items():
        made = made.with_env_variable(name, value)
    made = made.with_exposed_port(port) if exposed else made
    return made.with_default_args(["perl", "-e", SERVER])


def client(site: Site) -> Container:
    """What asks it."""
    return site.fresh.with_env_variable("CASE", site.name)


def asked(container: Container, host: str, port: int = 8080) -> Container:
    return container.with_exec(["perl", "-e", CLIENT, host, str(port)])


@case
async def bound(site: Site) -> Answer:
    made = client(site).with_service_binding("web", server(site).as_service())
    first = asked(made, "web")
    return [await first.stdout(), await asked(first, "web").stdout()]


@case
async def two_bound_under_two_names(site: Site) -> Answer:
    one, two = server(site, SAY="one").as_service(), server(site, SAY="two", port=8081).as_service()
    made = client(site).with_service_binding("a", one).with_service_binding("b", two)
    return [await asked(made, "a").stdout(), await asked(made, "b", 8081).stdout()]


@case
async def bound_with_arguments(site: Site) -> Answer:
    service = server(site, SAY="given").as_service(args=["perl", "-e", SERVER])
    return await asked(client(site).with_service_binding("web", service), "web").stdout()


@case
async def bound_with_the_entrypoint(site: Site) -> Answer:
    made = server(site, SAY="entry").with_entrypoint(["perl"]).with_default_args(["-e", SERVER])
    service = made.as_service(use_entrypoint=True)
    return await asked(client(site).with_service_binding("web", service), "web").stdout()


@case
async def without_a_command(site: Site) -> Answer:
    return await attempt(site.base.without_default_args().as_service().hostname())


@case
async def bound_without_a_command(site: Site) -> Answer:
    service = site.base.without_default_args().as_service()
    return await attempt(client(site).with_service_binding("web", service).with_exec(["true"]).stdout())


@case
async def that_dies_at_once(site: Site) -> Answer:
    service = server(site).as_service(args=["sh", "-c", "echo said; echo why >&2; exit 5"])
    return await attempt(client(site).with_service_binding("web", service).with_exec(["true"]).stdout())


@case
async def that_dies_during_the_exec(site: Site) -> Answer:
    mortal = ["sh", "-c", 'perl -e "$SERVER" & sleep 1.5; exit 9']
    service = server(site).with_env_variable("SERVER", SERVER).as_service(args=mortal)
    made = client(site).with_service_binding("web", service)
    error = await attempt(made.with_exec(["sh", "-c", "echo said; sleep 4; exit 1"]).stdout())
    return [error["error"], error.get("exit_code"), error.get("stdout"), "exit code: 9" in error["message"]]


@case
async def that_is_no_program(site: Site) -> Answer:
    service = server(site).as_service(args=["no-such-program"])
    error = await attempt(client(site).with_service_binding("web", service).with_exec(["true"]).stdout())
    return [error["error"], error.get("exit_code"), error.get("command")]


@case
async def ports_and_endpoints(site: Site) -> Answer:
    service = server(site).with_exposed_port(9090).as_service()
    host = await service.hostname()
    return [
        [await one.port() for one in await service.ports()],
        (await service.endpoint()).removeprefix(host),
        (await service.endpoint(port=9090)).removeprefix(host),
        (await service.endpoint(scheme="http")).replace(host, "<host>"),
        (await service.endpoint(port=1234, scheme="tcp")).replace(host, "<host>"),
        await attempt(server(site, exposed=False).as_service().endpoint()),
    ]


@case
async def the_same_recipe_is_the_same_host(site: Site) -> Answer:
    host = await server(site).as_service().hostname()
    return [
        host == await server(site).as_service().hostname(),
        host == await server(site, SAY="other").as_service().hostname(),
        await server(site).as_service().with_hostname("named").hostname(),
    ]


@case
async def started_and_stopped(site: Site) -> Answer:
    service = await server(site).as_service().start()
    host = await service.hostname()
    answer = await asked(client(site).with_service_binding("web", service), "web").stdout()
    await service.stop()
    await service.stop()
    return [answer, host == await service.hostname()]


@case
async def started_that_dies(site: Site) -> Answer:
    service = server(site).as_service(args=["sh", "-c", "echo said; exit 5"])
    return await attempt(service.start())


@case
async def stopped_that_never_started(site: Site) -> Answer:
    service = server(site, SAY="never").as_service()
    return [await attempt(service.stop()), await attempt(service.stop(kill=True))]


@case
async def without_ports_it_is_ready_at_once(site: Site) -> Answer:
    service = server(site, exposed=False).as_service(args=["sh", "-c", "sleep 30"])
    return await client(site).with_service_binding("web", service).with_exec(["echo", "ran"]).stdout()


@case
async def the_binding_is_in_hosts(site: Site) -> Answer:
    made = client(site).with_service_binding("web", server(site).as_service())
    return await made.with_exec(["sh", "-c", "grep -c -w web /etc/hosts"]).stdout()


@case
async def a_service_of_a_service(site: Site) -> Answer:
    inner = server(site, SAY="inner").as_service()
    outer = server(site, SAY="outer", port=8081).with_service_binding("inner", inner).as_service()
    return await asked(client(site).with_service_binding("web", outer), "web", 8081).stdout()


@case
async def a_tunnel_from_the_host(site: Site) -> Answer:
    tunnel = await dag.host().tunnel(server(site, SAY="through").as_service()).start()
    endpoint = await tunnel.endpoint(scheme="http")

    def get() -> str:
        with urllib.request.urlopen(endpoint, timeout=20) as response:
            return str(response.read().decode())

    answer = await anyio.to_thread.run_sync(get)
    await tunnel.stop()
    return [answer, endpoint.rpartition(":")[0]]


@case
async def a_tunnel_of_a_service_without_ports(site: Site) -> Answer:
    service = server(site, exposed=False).as_service()
    return await attempt(dag.host().tunnel(service).start())


@case
async def a_tunnel_to_a_wanted_port(site: Site) -> Answer:
    service = server(site, exposed=False, SAY="wanted").as_service()
    tunnel = await dag.host().tunnel(service, ports=[PortForward(backend=8080)]).start()
    endpoint = await tunnel.endpoint(scheme="http")

    def get() -> str:
        with urllib.request.urlopen(endpoint, timeout=20) as response:
            return str(response.read().decode())

    answer = await anyio.to_thread.run_sync(get)
    await tunnel.stop()
    return answer
