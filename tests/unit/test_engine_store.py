"""The store: rows are believed only while what they name exists; two sessions share it; no secret gets in."""

from __future__ import annotations

from pathlib import Path

from embedded_engine.image_config import ImageConfig
from embedded_engine.op_exec import Exec
from embedded_engine.operations import Outcome, TreeId
from embedded_engine.runtime.port import Snapshot
from embedded_engine.store import Store
from embedded_engine.values import Container


def an_exec(*args: str) -> Exec:
    return Exec(Container("linux/amd64", ImageConfig()), args)


def test_an_outcome_comes_back_whole(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "engine.sqlite")
    outcome = Outcome(
        snapshot=Snapshot("abc"),
        exit_code=3,
        stdout=b"out\xff",
        stderr=b"err",
        combined=b"outerr",
        mounts=(("/data", TreeId("t1")),),
        config={"config": {"Env": ["A=b"]}},
        data=[1],
    )
    store.keep(an_exec("true"), "true", outcome, 0.5)
    store.close()
    again = Store.open(tmp_path / "engine.sqlite")
    assert again.find(an_exec("true").digest, lambda _: True) == outcome


def test_a_row_whose_snapshot_is_gone_is_not_believed_and_is_replaced_by_the_next_run(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "engine.sqlite")
    operation = an_exec("true")
    store.keep(operation, "true", Outcome(snapshot=Snapshot("gone")), 0.1)
    there = {"new"}
    assert store.find(operation.digest, lambda outcome: outcome.snapshot in there) is None
    store.keep(operation, "true", Outcome(snapshot=Snapshot("new")), 0.1)
    found = store.find(operation.digest, lambda outcome: outcome.snapshot in there)
    assert found == Outcome(snapshot=Snapshot("new"))


def test_two_sessions_see_each_others_rows_and_agree_on_a_fact(tmp_path: Path) -> None:
    one, two = (Store.open(tmp_path / "engine.sqlite") for _ in range(2))
    one.keep(an_exec("a"), "a", Outcome(stdout=b"1"), 0.1)
    two.keep(an_exec("a"), "a", Outcome(stdout=b"1"), 0.1)
    assert two.find(an_exec("a").digest, lambda _: True) is not None
    assert one.remember_once("salt", "x", "first") == "first"
    assert two.remember_once("salt", "x", "second") == "first"


def test_facts_are_replaced(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "engine.sqlite")
    assert store.fact("layer", "sha256:1") is None
    store.remember("layer", "sha256:1", {"size": 1})
    store.remember("layer", "sha256:1", {"size": 2})
    assert store.fact("layer", "sha256:1") == {"size": 2}
