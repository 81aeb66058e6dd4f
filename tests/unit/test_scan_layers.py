"""Layers as scanners see them: what later layers delete is found, damage is told, nothing is read twice."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import pytest
from layered_images import directory, entry, image_of

from pipelines.config_scan import ScanPolicy
from pipelines.in_engine import find_secrets
from pipelines.release_image import BuiltImage
from pipelines.scanners import deleted_secrets, layer_listing
from pipelines.scanners.config_secrets import secrets_in_config, secrets_in_text
from pipelines.scanners.deleted_secrets import secrets_of_deleted
from pipelines.scanners.layer_stream import ForwardStream, opened
from pipelines.scanners.layers import ImageLayers
from pipelines.scanners.port import CouldNotLookError, ImageView, ScannerResult
from pipelines.scanners.secrets import Secrets

pytestmark = pytest.mark.anyio
# Put together here, so that no scanner finds this file.
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
HF = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH"


def fates(image: BuiltImage) -> dict[tuple[str, int], str]:
    return {
        (one.path, one.index): one.fate for one in ImageLayers(image).entries() if one.kind != "directory"
    }


def test_what_becomes_of_each_entry(tmp_path: Path) -> None:
    image = image_of(
        tmp_path,
        [
            directory("app"),
            entry("app/kept"),
            entry("app/gone"),
            entry("app/new"),
            entry("dir/deep/a"),
            entry("o/a"),
        ],
        [
            entry("app/.wh.gone"),
            entry("app/new", "2"),
            entry("app/later"),
            entry("o/.wh..wh..opq"),
            entry("o/b"),
        ],
        [entry(".wh.dir"), entry("app/.wh.later"), entry("app/gone", "again"), directory("app", 0o700)],
    )
    assert fates(image) == {
        ("/app/kept", 1): "",
        ("/app/gone", 1): "deleted in layer 2",
        ("/app/new", 1): "replaced in layer 2",
        ("/dir/deep/a", 1): "deleted in layer 3",
        ("/o/a", 1): "deleted in layer 2",
        ("/app/new", 2): "",
        ("/app/later", 2): "deleted in layer 3",
        ("/o/b", 2): "",
        ("/app/gone", 3): "",
    }


def test_a_file_in_a_directorys_place_removes_what_was_in_it_and_a_path_twice_hides_the_first(
    tmp_path: Path,
) -> None:
    link = entry("d", kind=tarfile.SYMTYPE, target="/other")
    twice = [entry("./x", "first"), entry("x", "second"), entry("../../y")]
    image = image_of(tmp_path, [directory("d"), entry("d/a")], [link], twice)
    told = [(one.path, one.index, one.fate) for one in ImageLayers(image).entries()]
    assert ("/d/a", 1, "deleted in layer 2") in told
    assert [one for one in told if one[0] == "/x"] == [("/x", 3, "replaced in layer 3"), ("/x", 3, "")]
    assert ("/y", 3, "") in told


@pytest.mark.parametrize("packed", [True, False])
def test_a_secret_that_is_deleted_later_is_found_with_its_layer_and_line(
    tmp_path: Path, packed: bool
) -> None:
    hard = entry("app/linked", kind=tarfile.LNKTYPE, target="app/token.txt")
    image = image_of(
        tmp_path,
        [entry("etc/hostname", "x")],
        [entry("app/big", b"x" * 3_000_000), entry("app/token.txt", f"one\ntwo {TOKEN}\n"), hard],
        [entry("app/.wh.token.txt"), entry("app/.wh.linked")],
        packed=packed,
    )
    (found,) = secrets_of_deleted(ImageLayers(image))["found"]
    assert (found["path"], found["line"], found["index"]) == ("/app/token.txt", 2, 2)
    assert found["fate"] == "deleted in layer 3"
    assert found["layer"] == image.image.layers[1].digest


def test_what_is_visible_is_left_to_the_engine(tmp_path: Path) -> None:
    image = image_of(tmp_path, [entry("app/token.txt", TOKEN)])
    assert secrets_of_deleted(ImageLayers(image))["looked_at"] == 0


def test_an_old_file_of_a_debian_package_is_public(tmp_path: Path) -> None:
    text = f"key: {TOKEN}\n"
    listed = entry("var/lib/dpkg/info/x.md5sums", "")
    changed = image_of(tmp_path / "a", [entry("usr/share/x", text), listed], [entry("usr/share/.wh.x")])
    assert len(secrets_of_deleted(ImageLayers(changed))["found"]) == 1
    sums = hashlib.md5(text.encode()).hexdigest()
    listed = entry("var/lib/dpkg/info/x.md5sums", f"{sums}  usr/share/x\n")
    same = image_of(tmp_path / "b", [entry("usr/share/x", text), listed], [entry("usr/share/.wh.x")])
    assert secrets_of_deleted(ImageLayers(same))["found"] == []


def test_many_files_are_in_memory_once_however_many_scanners_walk_them(tmp_path: Path) -> None:
    """Three scanners walk side by side: what they take together is what one takes, and a part of it."""
    many = [entry(f"data/a/long/path/of/a/dataset/file-{number:06}.txt", "") for number in range(4_000)]
    layers = ImageLayers(image_of(tmp_path, [directory("data")], many))

    def walk() -> int:
        return sum(1 for _ in layers.entries())

    def peak(walkers: int) -> int:
        tracemalloc.start()
        with ThreadPoolExecutor(walkers) as pool:
            assert {one.result() for one in [pool.submit(walk) for _ in range(walkers)]} == {4_001}
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    walk()  # listed, and kept
    assert peak(3) < 1.4 * peak(1)


def test_an_unchanged_layer_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, secret, removed = [entry("etc/x", "1")], [entry("app/t", TOKEN)], [entry("app/.wh.t")]
    first = secrets_of_deleted(ImageLayers(image_of(tmp_path, base, secret, removed)))
    read: list[Path] = []

    def noted(path: Path, size: int) -> AbstractContextManager[ForwardStream]:
        read.append(path)
        return opened(path, size)

    monkeypatch.setattr(layer_listing, "opened", noted)
    assert secrets_of_deleted(ImageLayers(image_of(tmp_path, base, secret, removed))) == first
    assert read == []
    more = image_of(tmp_path, base, secret, removed, [entry("app/code.py", "pass")])
    assert secrets_of_deleted(ImageLayers(more))["found"] == first["found"]
    assert read == [more.layout.path(more.image.layers[3].digest)]


def damaged(image: BuiltImage, how: str) -> None:
    path = image.layout.path(image.image.layers[0].digest)
    body = path.read_bytes()
    other = {
        "truncated": body[: len(body) // 2],
        "changed": gzip.compress(gzip.decompress(body).replace(b"content", b"tnetnoc")),
        "zstd": b"\x28\xb5\x2f\xfd" + body,
        "no tar": gzip.compress(b"x" * 2000),
    }
    path.write_bytes(other[how]) if how in other else path.unlink()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("truncated", "can't be read"),
        ("changed", "is damaged"),
        ("zstd", "zstd"),
        ("no tar", "can't be read|damaged"),
        ("gone", "no blob"),
    ],
)
def test_a_layer_that_cant_be_read_is_could_not_look(tmp_path: Path, how: str, reason: str) -> None:
    image = image_of(tmp_path, [entry("a", "content" * 999), entry("b", bytes(range(256)) * 99)])
    damaged(image, how)
    with pytest.raises(CouldNotLookError, match=reason):
        secrets_of_deleted(ImageLayers(image))
    assert not [*tmp_path.glob(".scans/*.json")]


def test_a_damaged_listing_is_made_anew_and_too_many_entries_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_of(tmp_path, [entry("a"), entry("b")])
    assert len(fates(image)) == 2
    (kept,) = tmp_path.glob(".scans/layers/*")
    lines = gzip.decompress(kept.read_bytes()).decode().replace("/a", "/z")
    kept.write_bytes(gzip.compress(lines.encode()))
    assert ("/a", 1) in fates(image)
    kept.unlink()
    monkeypatch.setattr(layer_listing, "MOST_IN_LAYER", 1)
    with pytest.raises(CouldNotLookError, match="more than 1 entries"):
        fates(image)


CONFIG = {
    "config": {
        "Labels": {"com.example.api-token": "q8w7e6r5t4y3", "title": "a model", "note": f"see {HF}"},
        "Entrypoint": ["serve", "--admin-password", "s3cr3tvalue9"],
        "Cmd": ["--db", "postgresql://svc:p4ssW0rdX9@db.corp.net/x"],
        "Env": ["API_TOKEN=inEnvironment99"],
        "User": "app",
    },
    "history": [
        {"created_by": "/bin/sh -c #(nop) ARG NPM_TOKEN=argv4lue77", "empty_layer": True},
        {"created_by": "|1 PIP_PASSWORD=bu1ldarg55 /bin/sh -c pip install x"},
        {"created_by": f"RUN /bin/sh -c curl -H 'Authorization: Bearer {TOKEN}' https://x # buildkit"},
        {"created_by": "RUN curl -u bob:h0neyb4dger https://x"},
        {"created_by": "ENV API_TOKEN=inEnvironment99 MODE=fast", "empty_layer": True},
        {"created_by": "ENV GPG_KEY=E3FF2839C048B25C084DEBE9B26995E310250568", "empty_layer": True},
        {"created_by": "RUN pip install --token=$TOKEN --password ${PW} x && export API_KEY=$KEY"},
    ],
}
PLANTED = ("q8w7e6r5t4y3", HF, "s3cr3tvalue9", "p4ssW0rdX9", "argv4lue77", "bu1ldarg55", TOKEN, "h0neyb4dger")


def test_history_labels_and_command_give_nothing_away_unseen() -> None:
    found = secrets_in_config(CONFIG, ("sha256:1", "sha256:2", "sha256:3", "sha256:4"))
    assert [one.subject for one in found] == [
        "ARG NPM_TOKEN",
        "ARG PIP_PASSWORD",
        "RUN",
        "RUN",
        "LABEL com.example.api-token",
        "LABEL note",
        "ENTRYPOINT",
        "CMD",
    ]
    assert [one.layer for one in found[:4]] == ["", "sha256:1", "sha256:2", "sha256:3"]
    assert not any(secret in json.dumps([one.to_json() for one in found]) for secret in PLANTED)


@pytest.mark.parametrize(
    "text",
    ["RUN echo $TOKEN", "ENV TOKEN_FILE=/run/secrets/t", "LABEL a=b", "CMD python serve.py --port 8080"],
)
def test_lines_without_a_secret(text: str) -> None:
    assert list(secrets_in_text(text)) == []


class View:
    """What the engine tells, and the layers."""

    def __init__(self, image: BuiltImage | None) -> None:
        self.image = image

    async def run(self, program: str, *arguments: str, **more: Any) -> dict[str, Any]:
        return {"found": [], "looked_at": 5, "bytes": 0, "problems": []}

    async def environment(self) -> dict[str, str]:
        return {"API_TOKEN": "inEnvironment99"}

    async def layers(self) -> ImageLayers:
        if self.image is None:
            raise CouldNotLookError("the export failed")
        return ImageLayers(self.image)


async def scanned(image: BuiltImage | None, **policy: Any) -> ScannerResult:
    return await Secrets().scan(cast(ImageView, View(image)), ScanPolicy.model_validate(policy))


async def test_no_secret_is_in_any_output_or_cache(tmp_path: Path) -> None:
    secret = [
        entry("app/a.txt", f"{TOKEN}\n{HF}\n"),
        entry("root/.netrc", "machine x password n3trcSecret1\n"),
    ]
    image = image_of(tmp_path, secret, [entry("app/.wh.a.txt"), entry("root/.wh..netrc")], config=CONFIG)
    result = await scanned(image)
    assert result.audited
    assert len(result.findings) == 3 + 8 + 1
    deleted = next(one for one in result.findings if one.id == "huggingface-token")
    assert deleted.where == "/app/a.txt:2"
    assert "in layer 1; deleted in layer 2, still in the image" in deleted.title
    assert deleted.layer == image.image.layers[0].digest
    outputs = [json.dumps(result.to_json()), *map(str, result.findings)]
    for kept in tmp_path.glob(".scans/**/*"):
        if kept.is_file():
            body = kept.read_bytes()
            outputs.append((gzip.decompress(body) if kept.suffix == ".gz" else body).decode())
    assert len(outputs) > 12
    for one in (*PLANTED, "n3trcSecret1", "inEnvironment99"):
        assert not any(one in text for text in outputs)


async def test_layers_that_could_not_be_read_are_not_no_findings() -> None:
    result = await scanned(None)
    assert not result.audited
    assert "deleted files and the history not searched: the export failed" in result.reason
    assert [one.id for one in result.findings] == ["environment"]


async def test_ignored_paths_and_other_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = image_of(tmp_path, [entry("app/tests/t", TOKEN)], [entry(".wh.app")])
    ignoring = await scanned(image, secrets={"ignore": ["/app/tests/**"]})
    assert [one.id for one in ignoring.findings] == ["environment"]
    first = await scanned(image)
    assert [one.id for one in first.findings] == ["github-token", "environment"][::-1]
    monkeypatch.setattr(deleted_secrets, "_rules", lambda: "others")
    monkeypatch.setattr(find_secrets, "CONTENT_RULES", ())
    monkeypatch.setattr(find_secrets, "MORE_RULES", ())
    assert [one.id for one in (await scanned(image)).findings] == ["environment"]
