"""A cache that travels: a cold machine (a fresh state directory) becomes warm; damage is not believed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from engine_home import EngineHome
from engine_process import engine_session

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]
SECRET = "planted-7f3a91c4d2"


def chain(home: EngineHome, word: str, *end: str) -> str:
    """Files, an exec on them, an exec on that."""
    return home.chain(
        f'withNewFile(path: "/a", contents: "{word}")',
        'withExec(args: ["sh", "-c", "cat /a > /b; echo made"])',
        *(end or ('withExec(args: ["cat", "/b"])', "stdout")),
    )


def cache(home: EngineHome, state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "embedded_engine", "cache", *arguments],
        env={**os.environ, "EMBEDDED_ENGINE_STATE": str(state)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def ask(state: Path, *chains: str, **environment: str) -> tuple[list[object], list[dict[str, object]], str]:
    """The leaves of the chains in one new session, its events, and what it said."""
    log = state.parent / f"events-{os.urandom(4).hex()}"
    with engine_session(state, EMBEDDED_ENGINE_EVENTS=str(log), **environment) as session:
        leaves = [session.leaf(one) for one in chains]
        session.end()
    found = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return leaves, found, session.errors.read_text()


def ran(events: list[dict[str, object]]) -> list[object]:
    return [event["kind"] for event in events if event.get("cached") is False]


@pytest.fixture(scope="module")
def warm(home: EngineHome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory cache of one chain."""
    root = tmp_path_factory.mktemp("warm")
    mounted = (
        'withMountedDirectory(path: "/m", source: "{id}")',
        'withExec(args: ["sh", "-c", "seq 1 300000 > /m/big; echo small > /m/small"])',
    )
    state = home.state
    with engine_session(state) as session:
        assert session.leaf(chain(home, "one")) == "one"
        identity = session.leaf("directory { id }")
        steps = [step.replace("{id}", identity) for step in mounted]
        assert session.leaf(home.chain(*steps, 'directory(path: "/m")', "entries")) == ["big", "small"]
    done = cache(home, state, "export", str(root / "cache"))
    assert done.returncode == 0, done.stderr
    return root / "cache"


def test_a_cold_machine_runs_nothing_and_fetches_only_what_it_needs(
    home: EngineHome, warm: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    assert cache(home, state, "import", str(warm)).returncode == 0
    leaves, events, _ = ask(state, chain(home, "one"))
    assert leaves == ["one"]
    assert ran(events) == []
    assert not list((state / "blobs" / "sha256").iterdir())  # an output needs no layer
    leaves, events, _ = ask(state, chain(home, "one", 'file(path: "/b")', "contents"))
    assert leaves == ["one"]  # this one does
    assert ran(events) == []
    leaves, events, _ = ask(state, chain(home, "one", 'withExec(args: ["wc", "-c", "/b"])', "stdout"))
    assert leaves == ["3 /b\n"]
    assert ran(events) == ["exec"]


def test_a_tree_comes_from_elsewhere_whole(home: EngineHome, warm: Path, tmp_path: Path) -> None:
    with engine_session(
        tmp_path / "state",
        EMBEDDED_ENGINE_CACHE_FROM=str(warm),
        EMBEDDED_ENGINE_EVENTS=str(tmp_path / "log"),
    ) as session:
        identity = session.leaf("directory { id }")
        mounted = home.chain(
            f'withMountedDirectory(path: "/m", source: "{identity}")',
            'withExec(args: ["sh", "-c", "seq 1 300000 > /m/big; echo small > /m/small"])',
        )
        base = mounted.rstrip("} ")
        depth = mounted.count("{")
        big = base + ' { file(path: "/m/big") { size } }' + " }" * (depth)
        assert session.leaf(big) == 1_988_895
        small = base + ' { file(path: "/m/small") { contents } }' + " }" * (depth)
        assert session.leaf(small) == "small\n"
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert ran(events) == []


def test_a_session_starts_warm_and_leaves_warm(home: EngineHome, tmp_path: Path) -> None:
    to = {"EMBEDDED_ENGINE_CACHE_TO": f"docker://{home.registry.host}/caches/one:main"}
    leaves, _, said = ask(tmp_path / "first", chain(home, "registry"), **to)
    assert leaves == ["registry"]
    assert "cache to" in said, said
    both = {"EMBEDDED_ENGINE_CACHE_FROM": to["EMBEDDED_ENGINE_CACHE_TO"], **to}
    leaves, events, said = ask(
        tmp_path / "second", chain(home, "registry", 'file(path: "/b")', "contents"), **both
    )
    assert leaves == ["registry"]
    assert ran(events) == [], said
    digest = home.registry.tag_digest("caches/one", "main")
    ask(tmp_path / "second", chain(home, "registry"), **both)
    assert home.registry.tag_digest("caches/one", "main") == digest  # nothing new: nothing written


def test_a_second_export_writes_only_what_is_new(home: EngineHome, tmp_path: Path) -> None:
    state, there = tmp_path / "state", tmp_path / "cache"
    ask(state, chain(home, "first"), EMBEDDED_ENGINE_CACHE_TO=str(there))
    before = {file.name: file.stat().st_ino for file in (there / "blobs/sha256").iterdir()}
    index = (there / "index.json").stat().st_ino
    ask(state, chain(home, "first"), EMBEDDED_ENGINE_CACHE_TO=str(there))
    assert (there / "index.json").stat().st_ino == index
    ask(state, chain(home, "second"), EMBEDDED_ENGINE_CACHE_TO=str(there))
    after = {file.name: file.stat().st_ino for file in (there / "blobs/sha256").iterdir()}
    assert before.items() <= after.items()
    # three layers of small things, the rows, the manifest: the base image's layer is not written again
    assert (
        sum((there / "blobs/sha256" / name).stat().st_size for name in after.keys() - before.keys()) < 100_000
    )


@pytest.mark.parametrize("kind", ["directory", "registry"])
def test_writers_at_once_lose_nothing(home: EngineHome, tmp_path: Path, kind: str) -> None:
    registry = f"docker://{home.registry.host}/caches/many"
    there = str(tmp_path / "cache") if kind == "directory" else registry
    words = [f"{kind}-{number}" for number in range(2)]

    def one(word: str) -> None:
        ask(tmp_path / word, chain(home, word), EMBEDDED_ENGINE_CACHE_TO=there)

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, words))
    leaves, events, said = ask(
        tmp_path / "cold", *(chain(home, word) for word in words), EMBEDDED_ENGINE_CACHE_FROM=there
    )
    assert leaves == words
    assert ran(events) == [], said


def damaged(cache_directory: Path, target: Path, what: str) -> Path:
    """A copy for another platform, or one with other bytes in every layer."""
    shutil.copytree(cache_directory, target)
    index = (target / "index.json").read_text()
    if what == "scope":
        (target / "index.json").write_text(index.replace("-linux-", "-plan9-"))
        return target
    blobs = target / "blobs/sha256"
    manifest = json.loads(index)["manifests"][0]["digest"][7:]
    rows = json.loads((blobs / manifest).read_text())["layers"][0]["digest"][7:]
    for file in blobs.iterdir():
        if file.name not in (rows, manifest):
            file.write_bytes(b"\0" * file.stat().st_size)
    return target


@pytest.mark.parametrize("what", ["scope", "changed"])
def test_what_is_damaged_is_not_believed(home: EngineHome, warm: Path, tmp_path: Path, what: str) -> None:
    there = damaged(warm, tmp_path / "cache", what)
    leaves, events, said = ask(
        tmp_path / "state",
        chain(home, "one", 'withExec(args: ["cat", "/b", "/a"])', "stdout"),
        EMBEDDED_ENGINE_CACHE_FROM=str(there),
    )
    assert leaves == ["oneone"]
    assert "exec" in ran(events)
    reasons = {
        "rows": "digest says",
        "scope": "other engines",
        "cut": "digest says",
        "changed": "digest says",
    }
    assert reasons[what] in said


def test_no_secret_travels(home: EngineHome, tmp_path: Path) -> None:
    there = tmp_path / "cache"
    with engine_session(
        tmp_path / "state", EMBEDDED_ENGINE_CACHE_TO=str(there), EMBEDDED_ENGINE_CACHE_FROM=str(there)
    ) as session:
        secret = session.leaf(f'setSecret(name: "token", plaintext: "{SECRET}") {{ id }}')
        steps = [
            f'withSecretVariable(name: "T", secret: "{secret}")',
            'withExec(args: ["sh", "-c", "echo $T; echo $T >&2; echo hash > /h"])',
        ]
        assert session.leaf(home.chain(*steps, "stdout")) == "***\n"
        session.end()
    assert list((there / "blobs/sha256").iterdir())
    for file in there.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            if data[:2] == b"\x1f\x8b":
                data = subprocess.run(["gzip", "-dc", str(file)], capture_output=True, check=True).stdout
            assert SECRET.encode() not in data, file


def test_a_cache_that_fails_costs_a_line_and_no_build(home: EngineHome, tmp_path: Path) -> None:
    nowhere = "docker://127.0.0.1:1/none/there"
    leaves, events, said = ask(
        tmp_path / "state",
        chain(home, "alone"),
        EMBEDDED_ENGINE_CACHE_FROM=f"{nowhere} {tmp_path / 'absent'}",
        EMBEDDED_ENGINE_CACHE_TO=nowhere,
    )
    assert leaves == ["alone"]
    assert "exec" in ran(events)
    assert "cache from docker://127.0.0.1:1" in said
    assert "has no cache yet" in said
    assert "the build is not affected" in said


def test_an_address_that_is_none_is_told(home: EngineHome, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    for address in ("s3://bucket/x", "docker://host"):
        done = cache(home, tmp_path / "state", "import", address)
        assert done.returncode == 1
        assert address in done.stderr
        assert "Traceback" not in done.stderr
