"""The cache that travels and its bounds: what is merged, what is refused, what is kept."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from embedded_engine.cache import index as index_module
from embedded_engine.cache.collect import Bounds
from embedded_engine.cache.importing import import_rows
from embedded_engine.cache.index import (
    SCOPE_NOTE,
    Blob,
    CacheDamaged,
    CacheFault,
    Index,
    SnapshotParts,
    TreeParts,
    manifest_of,
    parse_rows,
    rows_blob,
)
from embedded_engine.cache.layout import DirectoryPlace
from embedded_engine.cache.packs import packed, unpack, unpack_file
from embedded_engine.cache.places import Address
from embedded_engine.cache.selection import Item, kept, parse_age, parse_size, shown_size
from embedded_engine.entries import DirEntry
from embedded_engine.operations import Outcome
from embedded_engine.runtime.single_id import is_single
from embedded_engine.store import Store, StoredRow
from embedded_engine.trees import Trees

pytestmark = pytest.mark.anyio
LAYER = Blob("sha256:" + "a" * 64, 10, "application/vnd.oci.image.layer.v1.tar+gzip", "sha256:" + "b" * 64)
PARTS = SnapshotParts({"architecture": "amd64", "os": "linux"}, (LAYER,))


def row(digest: str, *, used: float = 1.0, stdout: bytes = b"out") -> StoredRow:
    outcome = Outcome(snapshot=PARTS.identity, stdout=stdout, exit_code=3, data={"steps": 2})
    return StoredRow(digest, "exec", "true", outcome, 0.5, 1.0, used)


def index(*rows: StoredRow) -> Index:
    return Index({one.digest: one for one in rows}, {PARTS.identity: PARTS})


async def put(place: DirectoryPlace, one: Index) -> None:
    manifest, own = manifest_of(one)
    assert await place.replace(await place.manifest(), manifest, own, Path())


def opened(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "engine.sqlite")


async def test_rows_travel_whole(tmp_path: Path) -> None:
    place, store = DirectoryPlace(tmp_path / "cache", "there"), opened(tmp_path)
    await put(place, index(row("d1")))
    brought = await import_rows(place, store, lambda _: True, tmp_path)
    assert (brought.operations, brought.new) == (1, 1)
    assert store.find("d1", lambda _: True) == row("d1").outcome
    assert store.promise("snapshot", PARTS.identity) == ("there", PARTS.document())
    again = await import_rows(place, store, lambda _: True, tmp_path)
    assert again.unchanged
    store.close()


async def test_an_import_does_not_replace_what_stands_here(tmp_path: Path) -> None:
    place, store = DirectoryPlace(tmp_path / "cache", "there"), opened(tmp_path)
    store.adopt([row("d1", stdout=b"mine"), row("d2", stdout=b"gone")], lambda _: True)
    await put(place, index(row("d1"), row("d2"), row("d3")))
    await import_rows(place, store, lambda outcome: outcome.stdout != b"gone", tmp_path)
    found = {one.digest: one.outcome.stdout for one in store.rows()}
    assert found == {"d1": b"mine", "d2": b"out", "d3": b"out"}
    store.close()


@pytest.mark.parametrize("part", ["rows", "manifest", "index", "cut"])
async def test_a_damaged_cache_changes_nothing(tmp_path: Path, part: str) -> None:
    place, store = DirectoryPlace(tmp_path / "cache", "there"), opened(tmp_path)
    await put(place, index(row("d1")))
    manifest = await place.manifest()
    assert manifest is not None
    name = json.loads((place.root / "index.json").read_text())["manifests"][0]["digest"][7:]
    rows = place.root / "blobs/sha256" / rows_blob(manifest, "there").digest[7:]
    file = {"manifest": place.root / "blobs/sha256" / name, "index": place.root / "index.json"}.get(
        part, rows
    )
    data = file.read_bytes()
    file.write_bytes(data[:-9] if part == "cut" else data[:-9] + b"x" * 9)
    with pytest.raises(CacheDamaged, match="there"):
        await import_rows(place, store, lambda _: True, tmp_path)
    assert list(store.rows()) == []
    store.close()


async def test_a_cache_of_another_engine_is_refused_with_the_reason(tmp_path: Path) -> None:
    manifest, _ = manifest_of(index(row("d1")))
    other = json.loads(manifest)
    other["annotations"][SCOPE_NOTE] = "1-9.9.9-linux-amd64"
    with pytest.raises(CacheFault, match=r"another engine or platform \(1-9.9.9"):
        rows_blob(json.dumps(other).encode(), "there")
    del other["annotations"]
    with pytest.raises(CacheFault, match="no cache of the embedded engine"):
        rows_blob(json.dumps(other).encode(), "an image")


def test_what_was_made_without_owners_is_of_a_scope_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, _ = manifest_of(Index())
    monkeypatch.setattr(index_module, "is_single", lambda: not is_single())
    with pytest.raises(CacheFault, match="another engine or platform"):
        rows_blob(manifest, "dir:/cache")
    rows_blob(manifest_of(Index())[0], "dir:/cache")


def test_a_row_without_its_parts_is_not_believed() -> None:
    alone = Index({"d1": row("d1")}, {PARTS.identity: PARTS})
    text = gzip.decompress(next(iter(manifest_of(alone)[1].values())))
    document = json.loads(text)
    document["snapshots"] = {}
    with pytest.raises(CacheDamaged, match="names what is not"):
        parse_rows(gzip.compress(json.dumps(document).encode()), "there")
    document["snapshots"] = {"f" * 64: PARTS.document()}
    with pytest.raises(CacheDamaged, match="not those it names"):
        parse_rows(gzip.compress(json.dumps(document).encode()), "there")


def test_a_blob_name_cannot_leave_the_directory() -> None:
    with pytest.raises(CacheDamaged):
        TreeParts.parse({"pack": ["sha256:../../etc/passwd", 1, "", ""], "files": {}})


async def test_an_index_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    place = DirectoryPlace(tmp_path / "cache", "there")
    await put(place, index(row("d1")))
    old = await place.manifest()
    await put(place, index(row("d1"), row("d2")))
    manifest, own = manifest_of(index(row("d3")))
    assert not await place.replace(old, manifest, own, Path())


def test_merging_keeps_what_is_there_and_says_whether_it_is_worth_writing() -> None:
    there = index(row("d1", stdout=b"theirs"))
    assert not there.add(index(row("d1", used=60.0)))
    assert there.add(index(row("d1", used=10_000.0)))
    assert there.add(index(row("d2")))
    assert there.rows["d1"].outcome.stdout == b"theirs"
    assert there.rows["d1"].used == 10_000.0


async def test_blobs_nobody_names_are_swept_once_they_are_old(tmp_path: Path) -> None:
    place = DirectoryPlace(tmp_path / "cache", "there")
    await put(place, index(row("d1")))
    await put(place, index(row("d1"), row("d2")))  # the first rows and manifest are of no use now
    assert await place.sweep() == 0
    for file in (place.root / "blobs/sha256").iterdir():
        os.utime(file, (1, 1))
    assert await place.sweep() > 0
    assert len(list((place.root / "blobs/sha256").iterdir())) == 3
    assert await place.manifest() is not None


def test_a_tree_goes_into_blobs_and_back(tmp_path: Path) -> None:
    one, two = Trees(tmp_path / "one"), Trees(tmp_path / "two")
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    big = one.blobs.add_bytes(b"big" * 500_000, mode=0o755)
    tree = one.put(DirEntry({"big": big, "in": DirEntry({"small": one.blobs.add_bytes(b"small")})}))
    parts = packed(one, tree, tmp_path / "blobs", lambda _: None)
    assert list(parts.files) == [big.sha256]
    assert packed(one, tree, tmp_path / "blobs", parts.files.get) == parts
    with pytest.raises(CacheDamaged):
        unpack_file(two, blob_file(tmp_path, parts.files[big.sha256]), "0" * 64)
    unpack_file(two, blob_file(tmp_path, parts.files[big.sha256]), big.sha256)
    assert not two.complete(tree)
    unpack(two, blob_file(tmp_path, parts.pack))
    assert two.complete(tree)
    assert (two.path(tree) / "in/small").read_bytes() == b"small"
    broken = tmp_path / "broken"
    whole = blob_file(tmp_path, parts.pack).read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CacheDamaged):
        unpack(two, broken)
    one.close()
    two.close()


def blob_file(tmp_path: Path, blob: Blob) -> Path:
    return tmp_path / "blobs/sha256" / blob.digest.removeprefix("sha256:")


def test_addresses_are_skopeos() -> None:
    assert str(Address.parse("docker://r.example/a/b:tag")) == "docker://r.example/a/b:tag"
    assert str(Address.parse("docker://r.example:5000/a")).startswith("docker://r.example:5000/a:1-")
    assert str(Address.parse("oci:/x/y")) == str(Address.parse("/x/y")) == "oci:/x/y"
    for wrong in ("docker://r.example", "s3://b/c", "", "docker://r/a@sha256:1"):
        with pytest.raises(CacheFault):
            Address.parse(wrong)


def test_the_least_recently_used_goes_first_but_what_is_built_on_stays() -> None:
    items = [
        Item("base", 1.0, ("a",)),
        Item("step", 2.0, ("a", "b")),
        Item("old", 3.0, ("x",)),
        Item("last", 9.0, ("a", "b", "c")),
        Item("output only", 0.0),
    ]
    sizes = {"a": 10, "b": 10, "c": 10, "x": 10}
    bounds = {"oldest": 0.0, "now": 10.0}
    assert kept(items, sizes, max_size=30, **bounds) == {"base", "step", "last", "output only"}
    assert kept(items, sizes, max_size=40, **bounds) == {one.name for one in items}
    assert kept(items, sizes, max_size=10**9, oldest=4.0, now=10.0) == {"base", "step", "last"}
    assert kept(items, sizes, max_size=0, **bounds) == {"output only"}
    assert Bounds().max_size == float("inf")


def test_sizes_and_ages_are_read_as_people_write_them() -> None:
    assert [parse_size(text) for text in ("20GB", "1.5 MB", "1GiB", "7")] == [20 * 10**9, 1_500_000, 2**30, 7]
    assert [parse_age(text) for text in ("14d", "2h")] == [14 * 86_400, 7200]
    for wrong in ("", "GB", "-1GB", "ten", "1PB"):
        with pytest.raises(ValueError, match="is no size"):
            parse_size(wrong)
    for wrong in ("", "d", "3", "1.5d"):
        with pytest.raises(ValueError, match="is no age"):
            parse_age(wrong)
    assert shown_size(1_500_000_000) == "1.5 GB"


def test_a_row_used_since_is_not_forgotten(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.adopt([row("d1"), row("d2")], lambda _: True)
    assert store.find("d1", lambda _: True) is not None
    assert store.forget(["d1", "d2"], unused_since=1000.0) == ["d2"]
    assert store.find("d2", lambda _: True) is None
    assert store.forget(["d1"]) == ["d1"]
    store.close()
