"""gc, info and reset: what was not used goes, what is in use stays, nothing dangles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from engine_home import EngineHome
from engine_process import SessionProcess, engine_session
from git_server import repository

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]
FILL = "perl -e 'print rand() for 1..200000' > /data; echo "


def engine(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "embedded_engine", *arguments],
        env={**os.environ, "EMBEDDED_ENGINE_STATE": str(state)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def facts(state: Path) -> dict[str, object]:
    done = engine(state, "info", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def filled(home: EngineHome, word: str) -> str:
    return home.chain(f'withExec(args: ["sh", "-c", "{FILL}{word}"])', "stdout")


def read_from(origin: Path) -> str:
    return f'git(url: "file://{origin}") {{ head {{ tree(discardGitDir: true) {{ entries }} }} }}'


def test_gc_frees_the_oldest_first_and_spares_what_sessions_use(home: EngineHome, tmp_path: Path) -> None:
    state = tmp_path / "state"
    origin = repository(tmp_path / "origin")
    with engine_session(state) as session:
        assert session.leaf(filled(home, "old")) == "old\n"
        assert session.leaf(read_from(origin)) == ["a.txt"]
        identity = session.leaf('cacheVolume(key: "kept") { id }')
        mounted = f'withMountedCache(path: "/c", cache: "{identity}")'
        assert session.leaf(home.chain(mounted, 'withExec(args: ["touch", "/c/x"])', "exitCode")) == 0
    with engine_session(state) as session:
        assert session.leaf(filled(home, "new")) == "new\n"
        # beside a session: what it used stays, whatever the bound
        beside = engine(state, "gc", "--max-size", "0")
        assert "1 at work" in beside.stdout, beside.stderr
        assert "1 git repositories" in beside.stdout  # used by a session that has ended
        assert facts(state)["bytes"]["git"] == 0  # type: ignore[index]
        assert engine(state, "reset", "--yes").returncode == 1
        assert session.leaf(filled(home, "new")) == "new\n"
        after = home.chain(f'withExec(args: ["sh", "-c", "{FILL}new"])', 'file(path: "/data")', "size")
        assert session.leaf(after) > 1_000_000
    before = facts(state)
    assert before["sessions"] == 0
    dry = engine(state, "gc", "--max-size", "0", "--dry-run")
    assert dry.stdout.startswith("would free")
    assert facts(state)["bytes"] == before["bytes"]
    done = engine(state, "gc", "--max-size", "0")
    assert done.returncode == 0, done.stderr
    now = facts(state)
    assert now["bytes"]["snapshots"] == 0  # type: ignore[index]  # a dictionary
    assert now["operations"] == 0
    assert [one["key"] for one in now["volumes"]] == ["kept"]  # type: ignore[attr-defined]
    assert (
        "1 cache volumes"
        in engine(state, "gc", "--volumes", "--max-size", "0").stdout
        + engine(state, "gc", "--volumes", "--max-age", "0s").stdout
    )
    with engine_session(state) as session:
        assert session.leaf(filled(home, "old")) == "old\n"
        assert session.leaf(read_from(origin)) == ["a.txt"]
        assert "git" not in engine(state, "gc", "--max-size", "0").stdout  # used by a session at work
        assert facts(state)["bytes"]["git"] > 0  # type: ignore[index]
    assert engine(state, "reset", "--yes").returncode == 0
    assert not state.exists()


def test_a_session_collects_when_it_ends_above_the_bound(home: EngineHome, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with engine_session(state, EMBEDDED_ENGINE_MAX_SIZE="1MB") as session:
        assert session.leaf(filled(home, "large")) == "large\n"
        session.end()
        assert "above 1.0 MB" in session.errors.read_text()
    assert facts(state)["bytes"]["snapshots"] < 1_000_000  # type: ignore[index]


@pytest.mark.parametrize(("sharing", "together"), [("SHARED", True), ("LOCKED", False), ("PRIVATE", False)])
def test_two_sessions_share_a_volume_as_its_sharing_says(
    home: EngineHome, sharing: str, together: bool
) -> None:
    # each says how many were in the volume with it
    script = "echo > /c/$N; sleep 0.7; ls /c | wc -l; rm /c/$N"

    def one(name: str) -> int:
        with engine_session(home.state) as session:
            volume = session.leaf(f'cacheVolume(key: "at-once", sharing: {sharing}) {{ id }}')
            steps = [
                f'withMountedCache(path: "/c", cache: "{volume}", sharing: {sharing})',
                f'withEnvVariable(name: "N", value: "{name}-{os.urandom(4).hex()}")',
                f'withExec(args: ["sh", "-c", "{script}"])',
            ]
            return int(session.leaf(home.chain(*steps, "stdout")))

    with ThreadPoolExecutor() as pool:
        counts = list(pool.map(one, ["a", "b"]))
    assert (max(counts) == 2) is together


def test_two_sessions_asked_for_one_exec_agree(home: EngineHome) -> None:
    chain = home.chain(
        'withExec(args: ["sh", "-c", "sleep 0.5; echo agreed > /f"])', 'file(path: "/f")', "contents"
    )

    def one(_: int) -> object:
        with engine_session(home.state) as session:
            return session.leaf(chain)

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(one, range(2))) == ["agreed\n"] * 2


Step = Callable[[SessionProcess], str]


def secret(uri: str, key: str = "") -> Step:
    extra = f', cacheKey: "{key}"' if key else ""
    return lambda session: held(session, f'secret(uri: "{uri}"{extra}) {{ id }}')


def named(plaintext: str) -> Step:
    return lambda session: held(session, f'setSecret(name: "n", plaintext: "{plaintext}") {{ id }}')


def held(session: SessionProcess, chain: str) -> str:
    return f'withSecretVariable(name: "S", secret: "{session.leaf(chain)}")'


def host_directory(session: SessionProcess) -> str:
    identity = session.leaf('host { directory(path: ".", exclude: ["b"]) { id } }')
    return f'withDirectory(path: "/w", source: "{identity}")'


def nothing(_: SessionProcess) -> str:
    return 'withEnvVariable(name: "SAME", value: "1")'


def always(step: str) -> Step:
    return lambda _: step


def test_what_busts_the_cache_and_what_does_not(home: EngineHome, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "a").write_text("a")
    (work / "b").write_text("b")

    def values(value: str, **steps: Step) -> dict[str, object]:
        """What a command that gives another answer at every run answers after each step."""
        run = 'withExec(args: ["perl", "-e", "print rand()"])'
        with engine_session(home.state, workdir=work, SEC=value) as session:
            return {
                name: session.leaf(home.chain(step(session), run, "stdout")) for name, step in steps.items()
            }

    by_uri, keyed = secret("env://SEC"), secret("env://SEC", "k")
    first = values("value-one", host=host_directory, same=nothing, named=named("1234"), uri=by_uri, key=keyed)
    os.utime(work / "a", (1, 1))
    (work / "b").write_text("another")
    again = values("value-one", host=host_directory, same=nothing, named=named("5678"), uri=by_uri, key=keyed)
    assert again == first  # times, excluded files and values of named secrets don't count
    (work / "a").chmod(0o755)
    buster = always('withEnvVariable(name: "CACHEBUSTER", value: "1")')
    moved = always('withWorkdir(path: "/tmp")')
    other = values("value-two", host=host_directory, same=buster, named=moved, uri=by_uri, key=keyed)
    assert other.pop("key") == first["key"]  # a cache key stands for the value
    assert not set(other.values()) & set(first.values())  # a mode, a variable, the directory, a secret by URI


def test_a_host_directory_is_read_once_in_a_session_unless_told_otherwise(
    home: EngineHome, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("1")
    with engine_session(home.state, workdir=tmp_path) as session:

        def read(extra: str = "") -> object:
            return session.leaf(
                f'host {{ directory(path: "."{extra}) {{ file(path: "f") {{ contents }} }} }}'
            )

        assert read() == "1"
        (tmp_path / "f").write_text("2")
        assert read() == "1"
        assert read(", noCache: true") == "2"
