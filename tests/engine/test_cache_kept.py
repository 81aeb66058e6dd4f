"""gc, info and reset: what was not used goes, what is in use stays, nothing dangles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from engine_home import EngineHome
from engine_process import engine_session

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


def test_gc_frees_the_oldest_first_and_spares_what_sessions_use(home: EngineHome, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with engine_session(state) as session:
        assert session.leaf(filled(home, "old")) == "old\n"
        identity = session.leaf('cacheVolume(key: "kept") { id }')
        mounted = f'withMountedCache(path: "/c", cache: "{identity}")'
        assert session.leaf(home.chain(mounted, 'withExec(args: ["touch", "/c/x"])', "exitCode")) == 0
    with engine_session(state) as session:
        assert session.leaf(filled(home, "new")) == "new\n"
        # beside a session: what it used stays, whatever the bound
        beside = engine(state, "gc", "--max-size", "0")
        assert "1 at work" in beside.stdout, beside.stderr
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
    assert engine(state, "reset", "--yes").returncode == 0
    assert [path for path in tmp_path.rglob("*") if "stderr" not in path.name and path != state] == []


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


def test_what_busts_the_cache_and_what_does_not(home: EngineHome, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "a").write_text("a")
    (work / "b").write_text("b")
    run = 'withExec(args: ["perl", "-e", "print rand()"])'

    def value(*steps: str, **environment: str) -> object:
        with engine_session(home.state, workdir=work, **environment) as session:
            found = [step(session) if callable(step) else step for step in steps]
            return session.leaf(home.chain(*found, run, "stdout"))

    def directory(session: object) -> str:
        identity = session.leaf('host { directory(path: ".", exclude: ["b"]) { id } }')  # type: ignore[attr-defined]
        return f'withDirectory(path: "/w", source: "{identity}")'

    def secret(uri: str, key: str = "") -> object:
        extra = f', cacheKey: "{key}"' if key else ""
        return lambda session: (
            'withSecretVariable(name: "S", secret: "'
            + session.leaf(f'secret(uri: "{uri}"{extra}) {{ id }}')
            + '")'
        )

    def named(plaintext: str) -> object:
        return lambda session: (
            'withSecretVariable(name: "S", secret: "'
            + session.leaf(f'setSecret(name: "n", plaintext: "{plaintext}") {{ id }}')
            + '")'
        )

    first = value(directory)  # type: ignore[arg-type]
    os.utime(work / "a", (1, 1))
    (work / "b").write_text("another")
    assert value(directory) == first  # type: ignore[arg-type]  # time and excluded files don't count
    (work / "a").chmod(0o755)
    assert value(directory) != first  # type: ignore[arg-type]  # a mode does
    plain = value()
    assert value() == plain
    assert value('withEnvVariable(name: "CACHEBUSTER", value: "1")') != plain
    assert value('withWorkdir(path: "/tmp")') != plain
    one = value(named("value-one"))  # type: ignore[arg-type]
    assert value(named("value-two")) == one  # type: ignore[arg-type]
    by_uri = value(secret("env://SEC"), SEC="value-one")  # type: ignore[arg-type]
    assert value(secret("env://SEC"), SEC="value-one") == by_uri  # type: ignore[arg-type]
    assert value(secret("env://SEC"), SEC="value-two") != by_uri  # type: ignore[arg-type]
    keyed = value(secret("env://SEC", "k"), SEC="value-one")  # type: ignore[arg-type]
    assert value(secret("env://SEC", "k"), SEC="value-two") == keyed  # type: ignore[arg-type]
