"""The cache over sessions, and what a session leaves behind when it ends, also badly."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from engine_home import EngineHome
from engine_process import SessionProcess, engine_session

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]


def events(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_later_session_executes_nothing_and_is_quick(home: EngineHome, tmp_path: Path) -> None:
    steps = [f'withExec(args: ["sh", "-c", "echo {number} >> /log"])' for number in range(3)]
    chain = home.chain('withNewFile(path: "/a", contents: "b")', *steps, 'file(path: "/log")', "contents")
    chain_out = home.chain(
        'withNewFile(path: "/a", contents: "b")', *steps, 'withExec(args: ["cat", "/log"])', "stdout"
    )
    log = tmp_path / "events"
    with engine_session(home.state, EMBEDDED_ENGINE_EVENTS=str(log)) as session:
        assert session.leaf(chain) == session.leaf(chain_out) == "0\n1\n2\n"
    log.unlink()
    with engine_session(home.state, EMBEDDED_ENGINE_EVENTS=str(log)) as session:
        session.leaf("version")
        begin = time.monotonic()
        assert session.leaf(chain_out) == "0\n1\n2\n"
        took = time.monotonic() - begin
    assert all(event["cached"] for event in events(log))
    assert took < 1


def test_a_failed_exec_runs_again_in_a_later_session(home: EngineHome) -> None:
    volume = 'withMountedCache(path: "/c", cache: "{id}")'
    script = 'withExec(args: ["sh", "-c", "echo x >> /c/runs; wc -l < /c/runs; exit 1"])'
    outputs = []
    for _ in range(2):
        with engine_session(home.state) as session:
            identity = session.leaf('cacheVolume(key: "failures") { id }')
            answer = session.ask("{ " + home.chain(volume.replace("{id}", identity), script, "stdout") + " }")
            outputs.append(answer["errors"][0]["extensions"]["stdout"])
    assert outputs == ["1", "2"]


def test_two_sessions_at_once_share_the_store(home: EngineHome) -> None:
    chain = home.chain('withExec(args: ["sh", "-c", "sleep 0.3; echo both"])', "stdout")
    with engine_session(home.state) as one, engine_session(home.state) as two:
        assert one.leaf(chain) == two.leaf(chain) == "both\n"


def running(marker: str) -> list[int]:
    found = subprocess.run(["pgrep", "-f", marker], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def wait_until(condition: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]  # a lambda
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def begin(session: SessionProcess, chain: str) -> http.client.HTTPConnection:
    """Send a query and do not wait for its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", session.port, timeout=60)
    connection.request(
        "POST", "/query", json.dumps({"query": "{ " + chain + " }"}).encode(), session.headers()
    )
    return connection


def test_a_client_that_goes_away_kills_its_exec_and_the_next_one_gets_a_fresh_run(home: EngineHome) -> None:
    chain = home.chain('withExec(args: ["sleep", "3.1415"])', "exitCode")
    with engine_session(home.state) as session:
        connection = begin(session, chain)
        wait_until(lambda: running("sleep 3.1415"))
        connection.close()
        wait_until(lambda: not running("sleep 3.1415"))
        assert session.leaf(chain) == 0


@pytest.mark.parametrize("ending", ["stdin", "SIGTERM", "SIGKILL"])
def test_nothing_runs_on_when_the_session_ends(home: EngineHome, ending: str) -> None:
    marker = f"sleep 271.8{len(ending)}"
    with engine_session(home.state) as session:
        connection = begin(
            session, home.chain(f'withExec(args: ["sleep", "{marker.split()[1]}"])', "exitCode")
        )
        wait_until(lambda: running(marker))
        if ending == "stdin":
            assert session.end() == 0
        else:
            session.process.send_signal(signal.Signals[ending])
            session.process.wait(20)
        wait_until(lambda: not running(marker))
        connection.close()


def test_a_killed_sessions_half_done_work_is_not_believed(home: EngineHome) -> None:
    chain = home.chain(
        'withExec(args: ["sh", "-c", "echo begun > /f; sleep 2; echo done >> /f"])',
        'file(path: "/f")',
        "contents",
    )
    with engine_session(home.state) as session:
        connection = begin(session, chain)
        wait_until(lambda: running("echo done >> /f"))
        session.process.kill()
        session.process.wait(20)
        connection.close()
    with engine_session(home.state) as session:
        assert session.leaf(chain) == "begun\ndone\n"


def test_thirty_cached_operations_take_a_moment(home: EngineHome) -> None:
    files = [f'withNewFile(path: "/f{number}", contents: "x")' for number in range(9)]
    execs = [f'withExec(args: ["sh", "-c", "echo {number}"])' for number in range(5)]
    chain = home.chain(*files, *execs, *files, *execs, "stdout")
    with engine_session(home.state) as session:
        assert session.leaf(chain) == "4\n"
    with engine_session(home.state) as session:
        session.leaf("container { id }")  # all is loaded
        begin_s = time.monotonic()
        assert session.leaf(chain) == "4\n"
        assert time.monotonic() - begin_s < 1.5  # 0.1 s on a quiet machine; run anew they take 10 s
