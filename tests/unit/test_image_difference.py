"""What a conflict says of the image that holds the tag: the layer, the file, the setting."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from images import names, release_image
from registries_fake import FakeRegistry, error, target

from pipelines import image_difference, layer_difference
from pipelines.image_difference import Differences, config_difference
from pipelines.layer_difference import CannotCompareError, differing_files, members
from pipelines.receipt import NothingPushed
from pipelines.registries.descriptors import Manifest, canonical_json
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.layout import ImageLayout
from pipelines.release_image import ReleaseImage
from pipelines.stages.push import push

pytestmark = pytest.mark.anyio


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().running() as registry:
        yield registry


def tar(path: Path, *entries: tarfile.TarInfo | tuple[str, bytes], packed: bool = True) -> Path:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                member = tarfile.TarInfo(entry[0])
                member.size, member.mode = len(entry[1]), 0o644
                archive.addfile(member, io.BytesIO(entry[1]))
    path.write_bytes(gzip.compress(raw.getvalue()) if packed else raw.getvalue())
    return path


def entry(name: str, **parts: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for part, value in parts.items():
        setattr(member, part, value)
    return member


async def test_a_conflict_names_the_layer_and_the_file(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names("1.2.0")
    await push(release_image(tmp_path / "there", wanted, "base", "one"), wanted, [target(fake.host)])
    with pytest.raises(NothingPushed) as caught:
        await push(release_image(tmp_path / "here", wanted, "base", "two"), wanted, [target(fake.host)])
    assert str(caught.value).endswith(": layer 2 of 2 differs: hello has other content")
    left = [path.name for path in (tmp_path / "here").iterdir() if path.name.startswith(".part-")]
    assert left == []


async def test_a_conflict_names_the_labels_that_differ(fake: FakeRegistry, tmp_path: Path) -> None:
    first, second = names("1.2.0", commit="a" * 40), names("1.2.0", commit="b" * 40)
    await push(release_image(tmp_path, first), first, [target(fake.host)])
    with pytest.raises(NothingPushed) as caught:
        await push(release_image(tmp_path, second), second, [target(fake.host)])
    told = f'label org.opencontainers.image.revision is "{"a" * 40}" there and "{"b" * 40}" here'
    assert told in str(caught.value)
    assert "layer" not in str(caught.value).partition("already")[2]


async def test_the_registry_refuses_the_tag_itself(fake: FakeRegistry, tmp_path: Path) -> None:
    """Another run sets the immutable tag between our look and our write."""
    wanted = names("1.2.0")
    there = release_image(tmp_path / "there", wanted, "base", "one")
    await push(there, names("other"), [target(fake.host)])

    def race(_: object) -> object:
        fake.tags["1.2.0"] = there.digest
        return error(409, "TAG_INVALID", "The image tag '1.2.0' already exists and can't be overwritten")

    fake.fault("PUT", r"/manifests/1\.2\.0", race)
    with pytest.raises(NothingPushed, match=r"layer 2 of 2 differs: hello has other content"):
        await push(release_image(tmp_path / "here", wanted, "base", "two"), wanted, [target(fake.host)])
    assert fake.tags["1.2.0"] == there.digest


async def test_a_layer_that_is_too_big_is_not_fetched(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_difference, "LAYER_LIMIT", 10)
    wanted = names("1.2.0")
    await push(release_image(tmp_path / "there", wanted, "base", "one"), wanted, [target(fake.host)])
    fake.log.clear()
    with pytest.raises(NothingPushed, match=r"layer 2 of 2 differs .* would have to be fetched"):
        await push(release_image(tmp_path / "here", wanted, "base", "two"), wanted, [target(fake.host)])
    assert len(fake.asked("GET", "/blobs/")) == 1  # the config


async def test_what_the_tag_names_is_fetched_once_for_all_registries(tmp_path: Path) -> None:
    wanted = names("1.2.0")
    there = release_image(tmp_path / "there", wanted, "base", "one")
    here = release_image(tmp_path / "here", wanted, "base", "two")
    async with FakeRegistry().running() as one, FakeRegistry().running() as other:
        await push(there, wanted, [target(one.host), target(other.host)])
        one.log.clear()
        other.log.clear()
        with pytest.raises(NothingPushed):
            await push(here, wanted, [target(one.host), target(other.host)])
        assert sorted(len(fake.asked("GET", "/blobs/")) for fake in (one, other)) == [0, 2]


async def test_what_can_not_be_found_out_is_said(tmp_path: Path) -> None:
    wanted = names()
    release = release_image(tmp_path / "here", wanted)
    empty = LayoutRegistry(ImageLayout.create(tmp_path / "empty"))
    async with empty.open() as opened:
        told = await Differences().told(opened, "sha256:" + "1" * 64, release)
    assert told.startswith("what differs can't be found out (")


async def test_more_layers_and_other_packing(fake: FakeRegistry, tmp_path: Path) -> None:
    wanted = names("1.2.0")
    longer = release_image(tmp_path, wanted, "base", "one", "more")
    await push(longer, wanted, [target(fake.host)])
    shorter = release_image(tmp_path, wanted, "base", "one")
    repacked = _repacked(longer)
    async with target(fake.host).open() as opened:
        told = await Differences().told(opened, longer.digest, shorter)
        assert told.startswith("it has 3 layers and this build 2, the first 2 the same")
        again = await Differences().told(opened, longer.digest, repacked)
        assert again == "the layers hold the same files and are packed differently"


def _repacked(release: ReleaseImage) -> ReleaseImage:
    """The same layers, packed by another level of gzip."""
    content = json.loads(release.manifest.body)
    for layer in content["layers"]:
        raw = gzip.decompress(release.layout.path(layer["digest"]).read_bytes())
        packed = gzip.compress(raw, 1, mtime=1)
        layer |= {"digest": release.layout.write_blob(packed), "size": len(packed)}
    return ReleaseImage(release.layout, Manifest(release.manifest.media_type, canonical_json(content)))


@pytest.mark.parametrize(
    ("there", "here", "told"),
    [
        ([("a", b"1")], [("a", b"2")], "a has other content"),
        ([("a", b"1")], [("a", b"1"), ("b", b"")], "b is only in this build"),
        ([("a", b"1"), ("b", b"")], [("a", b"1")], "b is not in this build"),
        ([entry("a", mode=0o644)], [entry("a", mode=0o755)], "a has another mode"),
        ([entry("a", uid=0)], [entry("a", uid=1000)], "a has another owner"),
        ([entry("a", mtime=1)], [entry("a", mtime=2)], "a has another time"),
        ([entry("a")], [entry("a", type=tarfile.DIRTYPE)], "a is of another kind"),
        (
            [entry("a", type=tarfile.SYMTYPE, linkname="x")],
            [entry("a", type=tarfile.SYMTYPE, linkname="y")],
            "a links to something else",
        ),
        (
            [entry("a", pax_headers={"SCHILY.xattr.user.x": "1"})],
            [entry("a", pax_headers={"SCHILY.xattr.user.x": "2"})],
            "a has other extended attributes",
        ),
        ([("a", b""), ("b", b"")], [("./b", b""), ("./a", b"")], ""),
    ],
)
def test_what_differs_of_a_file(tmp_path: Path, there: list[Any], here: list[Any], told: str) -> None:
    assert (
        differing_files(tar(tmp_path / "there", *there), tar(tmp_path / "here", *here, packed=False)) == told
    )


def test_the_changed_file_comes_before_the_times_that_follow_it(tmp_path: Path) -> None:
    def layer(path: Path, time: int, text: bytes) -> Path:
        return tar(
            path, entry("app/", type=tarfile.DIRTYPE, mtime=time), entry("app/z", mtime=time), ("app/b", text)
        )

    told = differing_files(layer(tmp_path / "there", 1, b"1"), layer(tmp_path / "here", 2, b"2"))
    assert told == "app/b has other content, app/z has another time, app has another time"


def test_many_differences_are_counted(tmp_path: Path) -> None:
    there = tar(tmp_path / "there")
    here = tar(tmp_path / "here", *((f"file{number}", b"") for number in range(9)))
    assert differing_files(there, here).endswith("file2 is only in this build, and 6 more")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\x28\xb5\x2f\xfd" + bytes(600), "zstd"),
        (gzip.compress(b"x" * 2000), "can't be read"),
        (gzip.compress(bytes(4096))[:-9], "can't be read"),
    ],
    ids=["zstd", "no tar", "cut off"],
)
def test_layers_that_can_not_be_compared(tmp_path: Path, body: bytes, says: str) -> None:
    (tmp_path / "there").write_bytes(body)
    with pytest.raises(CannotCompareError, match=says):
        differing_files(tmp_path / "there", tar(tmp_path / "here"))


def test_a_layer_that_unpacks_to_too_much_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_difference, "MOST_BYTES", 1 << 20)
    bomb = tar(tmp_path / "bomb", ("zeros", bytes(2 << 20)))
    with pytest.raises(CannotCompareError):
        list(members(bomb))
    monkeypatch.setattr(layer_difference, "MOST_FILES", 2)
    many = tar(tmp_path / "many", ("a", b""), ("b", b""), ("c", b""))
    with pytest.raises(CannotCompareError, match="more than 2 files"):
        differing_files(many, many)


def test_settings_are_named_and_their_values_not_repeated() -> None:
    one = {"architecture": "amd64", "config": {"Env": ["TOKEN=a"], "Labels": {"x": "1"}}, "history": [1]}
    other = {
        "architecture": "amd64",
        "config": {"Env": ["TOKEN=b"], "Labels": {"y": "\x1b[31m"}},
        "history": [],
    }
    assert config_difference(one, other) == (
        'config.Env differs, label x is "1" there and not set here, label y is not set there and "?[31m" here'
    )
