"""A session as a process: the CLI protocol, HTTP, and how it ends. No container is needed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_process import COMMAND, SessionProcess, engine_session

SDK_ARGUMENTS = (
    "--label",
    "dagger.io/sdk.name:python",
    "--label",
    "dagger.io/sdk.version:0.21.11",
    "--project",
    ".",
    "--load-workspace-modules",
)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionProcess]:
    workdir = tmp_path_factory.mktemp("work")
    (workdir / "here.txt").write_text("found")
    state = tmp_path_factory.mktemp("state")
    with engine_session(state, *SDK_ARGUMENTS, "--workdir", str(workdir)) as running:
        yield running


def test_the_first_line_has_exactly_the_two_keys_an_sdk_reads(session: SessionProcess) -> None:
    assert set(session.params) == {"port", "session_token"}
    assert len(session.params["session_token"]) >= 32


def test_a_wrong_or_missing_token_gets_401_and_an_empty_body(session: SessionProcess) -> None:
    for token in ("", "wrong", session.params["session_token"] + "x"):
        status, headers, body = session.post(b'{"query": "{ version }"}', token=token)
        assert (status, body) == (401, b"")
        assert headers["WWW-Authenticate"].startswith("Basic")


def test_only_loopback_listens(session: SessionProcess) -> None:
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in others - {"127.0.0.1"}:
        with pytest.raises(OSError), socket.create_connection((address, session.port), 1):
            pass


def test_statuses(session: SessionProcess) -> None:
    assert session.post(b'{"query": "{ version }"}', path="/other")[0] == 404
    assert session.post(b"", method="GET")[0] == 405
    assert session.post(b"{nonsense")[0] == 400
    assert json.loads(session.post(b"{nonsense")[2])["data"] is None
    assert session.post(b'["no object"]')[0] == 400
    assert session.post(b"{}")[0] == 422
    assert session.post(b'{"query": "{ container {"}')[0] == 422
    assert session.post(b'{"query": "{ nope }"}')[0] == 422
    assert session.post(b'{"query": "{ version }"}')[0] == 200


def test_variables_and_operation_names_are_accepted(session: SessionProcess) -> None:
    body = {
        "query": "query A { version } query B($n: String!)"
        ' { container { withLabel(name: $n, value: "v") { label(name: $n) } } }',
        "operationName": "B",
        "variables": {"n": "x"},
    }
    answer = json.loads(session.post(json.dumps(body).encode())[2])
    assert answer == {"data": {"container": {"withLabel": {"label": "v"}}}}


def test_host_paths_are_relative_to_the_working_directory(session: SessionProcess) -> None:
    assert session.leaf('host { file(path: "here.txt") { contents } }') == "found"


def test_a_chain_of_five_hundred_calls(session: SessionProcess) -> None:
    chain = "container"
    for number in range(500):
        chain += f' {{ withEnvVariable(name: "V{number}", value: "x")'
    assert session.leaf(chain + ' { envVariable(name: "V499")' + " }" * 501) == "x"


def test_answers_on_a_kept_connection_come_at_once(session: SessionProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", session.port, timeout=10)
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        connection.request("POST", "/query", b'{"query": "{ version }"}', session.headers())
        connection.getresponse().read()
        times.append(time.perf_counter() - begin)
    connection.close()
    assert sorted(times)[10] < 0.03  # 40 ms is what a delayed ACK costs


def test_the_second_session_answers_an_sdks_introspection_from_the_first_ones(tmp_path: Path) -> None:
    query = "query IntrospectionQuery { __schema { types { name } } }"
    answers = []
    for _ in range(2):
        with engine_session(tmp_path / "state") as running:
            answers.append(running.ask(query))
    assert answers[0] == answers[1]
    assert "Container" in {one["name"] for one in answers[0]["data"]["__schema"]["types"]}
    assert len(list((tmp_path / "state" / "introspection").glob("*.json"))) == 1


def test_it_ends_with_exit_code_0_when_stdin_closes_and_prints_nothing_more(tmp_path: Path) -> None:
    with engine_session(tmp_path / "state") as running:
        assert running.leaf("version")
        assert running.end() == 0
        assert running.process.stdout is not None
        assert running.process.stdout.read() == ""
        assert running.errors.read_text() == ""


def test_it_ends_when_stdin_closes_before_anything_was_loaded(tmp_path: Path) -> None:
    with engine_session(tmp_path / "state") as running:
        assert running.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_signals(tmp_path: Path, number: signal.Signals) -> None:
    with engine_session(tmp_path / "state") as running:
        assert running.leaf("version")
        running.process.send_signal(number)
        assert running.process.wait(20) == 0


def failed_start(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_start_failure_is_one_line_on_stderr(tmp_path: Path) -> None:
    file = tmp_path / "a-file"
    file.touch()
    assert "a-file" in failed_start("session", EMBEDDED_ENGINE_STATE=str(file / "below"))
    assert "no such directory" in failed_start("session", "--workdir", str(tmp_path / "nowhere"))


# --- run


def run(state: Path, *command: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]  # options as subprocess.run has them
        [*COMMAND, "run", *command],
        env={**os.environ, "EMBEDDED_ENGINE_STATE": str(state)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


ASK = """
import base64, json, os, urllib.request
token = base64.b64encode((os.environ["DAGGER_SESSION_TOKEN"] + ":").encode()).decode()
url = f"http://127.0.0.1:{os.environ['DAGGER_SESSION_PORT']}/query"
request = urllib.request.Request(url, b'{"query": "{ version }"}', {"Authorization": "Basic " + token})
print(json.load(urllib.request.urlopen(request))["data"]["version"])
raise SystemExit(7)
"""


def test_run_gives_the_program_a_session_and_ends_with_its_exit_code(tmp_path: Path) -> None:
    done = run(tmp_path / "state", sys.executable, "-c", ASK)
    assert (done.returncode, done.stdout) == (7, "v0.21.8\n")


def test_run_passes_options_of_the_program_through(tmp_path: Path) -> None:
    done = run(tmp_path / "state", "sh", "-c", 'echo "$@"', "sh", "--quiet", "--workdir", "x")
    assert done.stdout == "--quiet --workdir x\n"


def test_run_of_a_program_that_is_not_there(tmp_path: Path) -> None:
    done = run(tmp_path / "state", "no-such-program-anywhere")
    assert done.returncode == 127
    assert "no-such-program-anywhere" in done.stderr


def test_run_forwards_signals_and_tells_death_by_one(tmp_path: Path) -> None:
    done = run(tmp_path / "state", "sh", "-c", "kill -TERM $$")
    assert done.returncode == 128 + signal.SIGTERM
    process = subprocess.Popen(
        [*COMMAND, "run", "sh", "-c", "trap 'exit 9' TERM; echo ready; while true; do sleep 0.05; done"],
        env={**os.environ, "EMBEDDED_ENGINE_STATE": str(tmp_path / "state")},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.wait(20) == 9
    process.stdout.close()


def test_version() -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("embedded-engine ")
