"""Services on real Buildah: an address of their own, readiness, early ends, and that they always end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from engine_home import EngineHome
from runtime_tools import Base, Facts, base_runtime, mounts_below, processes_with

from embedded_engine.runtime.port import Readiness, ServiceFailed, ServicePort

pytestmark = [pytest.mark.anyio, pytest.mark.engine]
FACTS = Facts()
SERVER = """
use IO::Socket::INET;
$SIG{TERM} = sub { print STDERR "bye\\n"; exit 0 };
my $s = IO::Socket::INET->new(LocalAddr => '0.0.0.0', LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die;
$| = 1; print "listening\\n";
while (1) { my $c = $s->accept() or next; print $c "from $ENV{NAME}"; close $c; }
"""
CLIENT = """
use IO::Socket::INET;
my $c = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => 8080, Timeout => 3) or exit 9;
local $/; print <$c>;
"""
PORT = Readiness((ServicePort(8080),))
NONE = Readiness()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runtime-state")


@pytest.fixture
async def base(home: EngineHome, state: Path) -> AsyncIterator[Base]:
    async with base_runtime(state, home.base, FACTS) as running:
        yield running


def server(base: Base, name: str) -> dict[str, object]:
    step = base.step("perl", "-e", SERVER)
    return {"step": step.__class__(step.parent, step.args, env=(*step.env, ("NAME", name))), "hostname": name}


async def test_two_services_with_one_port_each_answer_as_themselves(base: Base) -> None:
    one = await base.runtime.start_service(**server(base, "one"), wanted=PORT)  # type: ignore[arg-type]
    if one.address == "127.0.0.1":
        pytest.skip("services share the host's network on this machine")
    two = await base.runtime.start_service(**server(base, "two"), wanted=PORT)  # type: ignore[arg-type]
    for service, name in ((one, "one"), (two, "two")):
        step = base.step(
            "perl", "-e", CLIENT, "web", hosts=((service.address, ("web",)),), services=(service,)
        )
        assert (await base.runtime.execute(step, bool)).stdout == f"from {name}".encode()
        async with await anyio.connect_tcp(*service.reach(8080)) as stream:
            assert await stream.receive() == f"from {name}".encode()


async def test_a_service_reaches_another(base: Base) -> None:
    one = await base.runtime.start_service(**server(base, "one"), wanted=PORT)  # type: ignore[arg-type]
    step = base.step("perl", "-e", CLIENT, "first", hosts=((one.address, ("first",)),))
    client = await base.runtime.start_service(step, "client", NONE)
    with anyio.fail_after(10):
        while client.exit_code() is None:  # noqa: ASYNC110  # the port has no event
            await anyio.sleep(0.02)
    assert (client.exit_code(), client.logs()[0]) == (0, "from one")


async def test_stop_lets_it_end_by_itself(base: Base) -> None:
    service = await base.runtime.start_service(**server(base, "one"), wanted=PORT)  # type: ignore[arg-type]
    assert service.exit_code() is None
    await service.stop()
    assert service.exit_code() == 0
    assert service.logs() == ("listening\n", "bye\n")
    await service.stop()


@pytest.mark.parametrize(("init", "code"), [(True, 143), (False, 137)])
async def test_stop_ends_one_that_handles_no_signal_at_once(base: Base, init: bool, code: int) -> None:
    if init and not (await base.runtime.isolation()).init:
        pytest.skip("no init program is installed")
    step = base.step("sh", "-c", "echo up; exec sleep 27182", init=init)
    service = await base.runtime.start_service(step, "deaf", NONE)
    with anyio.fail_after(8):
        while not service.logs()[0]:  # noqa: ASYNC110  # the port has no event
            await anyio.sleep(0.02)
        await service.stop()
    assert service.exit_code() == code
    assert service.logs() == ("up\n", "")
    assert processes_with("sleep 27182") == []


async def test_one_that_ends_early_tells_code_and_outputs(base: Base) -> None:
    step = base.step("sh", "-c", "echo out; echo broken >&2; exit 5")
    with pytest.raises(ServiceFailed, match="exit code: 5") as caught:
        await base.runtime.start_service(step, "early", PORT)
    assert (caught.value.exit_code, caught.value.stdout, caught.value.stderr) == (5, "out\n", "broken\n")


async def test_one_that_never_listens_is_given_up_with_its_log(base: Base, state: Path) -> None:
    step = base.step("sh", "-c", "echo thinking >&2; sleep 14142")
    started = time.monotonic()
    with pytest.raises(ServiceFailed, match=r"port 8080 did not accept a connection within 1 s") as caught:
        await base.runtime.start_service(step, "mute", Readiness(PORT.ports, timeout_s=1))
    assert time.monotonic() - started < 5
    assert caught.value.stderr == "thinking\n"
    assert str(caught.value).endswith("\nthinking"), "its log's end is in the message"
    assert processes_with("sleep 14142") == []
    assert mounts_below(state) == []


async def test_close_ends_what_still_runs(home: EngineHome, state: Path) -> None:
    async with base_runtime(state, home.base, FACTS) as base:
        await base.runtime.start_service(base.step("sleep", "16180"), "sleeper", NONE)
        assert processes_with("sleep 16180")
    assert processes_with("sleep 16180") == []
    assert mounts_below(state) == []


async def test_cancelling_the_start_leaves_nothing(base: Base, state: Path) -> None:
    with anyio.move_on_after(1) as scope:
        await base.runtime.start_service(base.step("sleep", "17320"), "slow", PORT)
    assert scope.cancelled_caught
    assert processes_with("sleep 17320") == []
    assert mounts_below(state) == []
