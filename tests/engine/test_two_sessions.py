"""Two sessions on one state directory, one of them killed; a client that goes away and comes back."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine_home import EngineHome
from engine_process import SessionProcess, engine_session

from tests.engine_campaign.remains import Home, below, containers, files, mounts, tool_of

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

LIMIT_S = 60.0
DOCKERFILE = "FROM {base}\nRUN echo {salt}; sleep 100\n"


def until(condition: Callable[[], object]) -> None:
    """Wait for ``condition``, but not for ever."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < LIMIT_S, "it did not come to that"
        time.sleep(0.05)


@contextlib.contextmanager
def asked(session: SessionProcess, query: str) -> Iterator[socket.socket]:
    """A request whose answer nobody waits for; the connection is cut at the end."""
    body = json.dumps({"query": query}).encode()
    headers = {**session.headers(), "Content-Length": str(len(body)), "Host": "engine"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", session.port)) as connection:
        connection.sendall(f"POST /query HTTP/1.1\r\n{lines}\r\n".encode() + body)
        yield connection


def locked_exec(session: SessionProcess, home: EngineHome, command: str) -> str:
    """A query for an exec that has a LOCKED volume to itself."""
    volume = session.leaf('cacheVolume(key: "two-sessions") { id }')
    mount = f'withMountedCache(path: "/cache", cache: "{volume}", sharing: LOCKED)'
    run = f'withExec(args: ["sh", "-c", "{command}"])'
    return "{ " + home.chain(mount, run, "stdout") + " }"


def tools_of(session: SessionProcess) -> set[str]:
    return {tool for pid in below(session.process.pid) if (tool := tool_of(pid))}


def test_a_killed_session_neither_blocks_the_others_nor_leaves_them_its_things(
    home: EngineHome, tmp_path: Path
) -> None:
    """The other goes on; a third begins while it does, has the volume, and clears away what was left."""
    state = Home(home.state)
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE.format(base=home.base, salt=tmp_path))
    slow = home.chain('withExec(args: ["sh", "-c", "sleep 6; echo went on"])', "stdout")
    answers: list[object] = []
    with engine_session(home.state) as staying, engine_session(home.state, workdir=tmp_path) as killed:
        asker = threading.Thread(target=lambda: answers.append(staying.leaf(slow)))
        asker.start()
        build = '{ host { directory(path: "context") { dockerBuild { sync } } } }'
        with (
            asked(killed, locked_exec(killed, home, f"echo {tmp_path}; sleep 100")),
            asked(killed, build),
        ):
            until(lambda: {"buildah run", "buildah bud"} <= tools_of(killed) and len(containers(state)) > 2)
            killed.process.kill()
            killed.process.wait()
        with engine_session(home.state) as third:
            begin = time.monotonic()
            answer = third.ask(locked_exec(third, home, f"echo third {tmp_path.name}"))
            assert answer["data"]["container"]["from"]["withMountedCache"]["withExec"] == {
                "stdout": f"third {tmp_path.name}\n"
            }
            assert time.monotonic() - begin < LIMIT_S
            assert not files(state, dead_only=True)
            assert all(name.startswith("ee-") for name in containers(state))  # none of the build's
            assert third.end() == 0
        asker.join(LIMIT_S)
        assert answers == ["went on\n"]
        assert staying.end() == 0
    assert not containers(state)
    assert not mounts(state)


def test_an_exec_whose_client_went_away_is_killed_and_runs_again_when_asked_again(
    home: EngineHome, tmp_path: Path
) -> None:
    """Not the dying one's error, as Dagger's engine answers; the second run is a run of its own."""
    state = Home(home.state)
    command = f"echo {tmp_path} >> /cache/runs; test $(wc -l < /cache/runs) -gt 1 || sleep 100; echo done"
    with engine_session(home.state) as session:
        session.ask(locked_exec(session, home, f"rm -f /cache/runs; echo {tmp_path}"))
        query = locked_exec(session, home, command)
        with asked(session, query):
            mine = str(tmp_path)  # other tests' volumes may have such a file, too
            until(lambda: any(mine in file.read_text() for file in home.state.glob("volumes/*/runs")))
        begin = time.monotonic()
        answer = session.ask(query)
        assert "errors" not in answer, answer
        assert '"done\\n"' in json.dumps(answer)
        assert time.monotonic() - begin < LIMIT_S
        assert "buildah run" not in tools_of(session)
        assert session.end() == 0
    assert not containers(state)
