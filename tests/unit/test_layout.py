"""The image layout: what is in it is complete, and an archive is not believed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from images import archive_of, built_image, write_tar

from pipelines.registries.archive import take_archive
from pipelines.registries.descriptors import DOCKER_MANIFEST, MANIFEST_LIMIT, Descriptor, sha256
from pipelines.registries.errors import BrokenContent, NotFound, RegistryError
from pipelines.registries.layout import ImageLayout


def files_of(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_an_archive_is_taken_in_whole(tmp_path: Path) -> None:
    made = built_image(ImageLayout.create(tmp_path / "made"))
    archive = archive_of(made.layout, made.manifest, tmp_path / "a.tar")
    layout = ImageLayout.create(tmp_path / "layout")
    assert take_archive(archive, layout) == made.manifest
    assert all(layout.has_blob(blob) for blob in made.image.blobs)
    assert layout.read_manifest(made.digest) == made.manifest
    assert (
        len(files_of(layout.directory)) == 1 + 4
    )  # oci-layout; two layers, config, manifest: nothing temporary


def test_blobs_that_are_there_are_not_read_from_the_archive(tmp_path: Path) -> None:
    made = built_image(ImageLayout.create(tmp_path / "made"))
    archive = archive_of(made.layout, made.manifest, tmp_path / "a.tar")
    damaged = archive.read_bytes().replace(
        made.layout.path(made.image.layers[0].digest).read_bytes()[10:30], b"x" * 20
    )
    archive.write_bytes(damaged)
    assert take_archive(archive, made.layout) == made.manifest


@pytest.mark.parametrize("place", ["config", "layer", "manifest"])
def test_a_damaged_archive_is_refused_and_leaves_nothing(tmp_path: Path, place: str) -> None:
    made = built_image(ImageLayout.create(tmp_path / "made"))
    victim = {
        "config": made.image.config.digest,
        "layer": made.image.layers[1].digest,
        "manifest": made.digest,
    }[place]
    path = made.layout.path(victim)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    archive = archive_of(made.layout, made.manifest, tmp_path / "a.tar")
    layout = ImageLayout.create(tmp_path / "layout")
    with pytest.raises(BrokenContent, match=r"damaged"):
        take_archive(archive, layout)
    assert not layout.path(victim).exists()
    assert not [name for name in files_of(layout.directory) if ".part" in name]
    with pytest.raises(NotFound):
        layout.read_manifest(made.digest)


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": "sha256:../../../evil",
        "size": 3,
    }
    evil = {
        "../evil": b"evil",
        "oci-layout": b"{}",
        "index.json": json.dumps({"manifests": [entry]}).encode(),
        "blobs/sha256/../../../evil": b"evil",
    }
    layout = ImageLayout.create(tmp_path / "deep/layout")
    with pytest.raises(BrokenContent, match="not a sha256 digest"):
        take_archive(write_tar(tmp_path / "a.tar", evil), layout)
    assert files_of(tmp_path) == {"a.tar", "deep/layout/oci-layout"}


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (b"[]", "not a JSON object"),
        (b"{", "not JSON"),
        (b'{"manifests": []}', "0 images instead of one"),
        (b'{"manifests": [{"mediaType": 1}]}', "lacks its media type"),
        (b'{"manifests": "x"}', "lists no manifests"),
        (b"[" * 100_000, "not JSON"),
        (b" " * (MANIFEST_LIMIT + 1), "too big"),
    ],
)
def test_a_strange_index_is_explained(tmp_path: Path, index: bytes, says: str) -> None:
    archive = write_tar(tmp_path / "a.tar", {"index.json": index})
    with pytest.raises(BrokenContent, match=says):
        take_archive(archive, ImageLayout.create(tmp_path / "layout"))


def test_what_is_no_archive_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"hello" * 1000)
    with pytest.raises(BrokenContent, match="not a tar archive"):
        take_archive(tmp_path / "a.tar", ImageLayout.create(tmp_path / "layout"))


def test_a_docker_manifest_is_taken_too(tmp_path: Path) -> None:
    made = built_image(ImageLayout.create(tmp_path / "made"), media_type=DOCKER_MANIFEST)
    archive = archive_of(made.layout, made.manifest, tmp_path / "a.tar")
    assert take_archive(archive, ImageLayout.create(tmp_path / "layout")).media_type == DOCKER_MANIFEST


def test_tags_move_one_by_one_and_stay_through_others(tmp_path: Path) -> None:
    layout = ImageLayout.create(tmp_path)
    one, two = built_image(layout, "one"), built_image(layout, "two")
    layout.set_tag("1.0", one.manifest)
    layout.set_tag("latest", one.manifest)
    layout.set_tag("latest", two.manifest)
    assert {tag: blob.digest for tag, blob in layout.tags().items()} == {
        "1.0": one.digest,
        "latest": two.digest,
    }
    assert layout.read_manifest("latest") == two.manifest
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["schemaVersion"] == 2
    assert [entry["annotations"] for entry in index["manifests"]] == [
        {"org.opencontainers.image.ref.name": "1.0"},
        {"org.opencontainers.image.ref.name": "latest"},
    ]


def test_tags_set_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    layout = ImageLayout.create(tmp_path)
    made = built_image(layout)
    threads = [threading.Thread(target=layout.set_tag, args=(f"t{n}", made.manifest)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(layout.tags()) == 20


def test_nothing_names_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    made = built_image(ImageLayout.create(tmp_path / "one"))
    with pytest.raises(NotFound):
        ImageLayout.create(tmp_path / "two").set_tag("latest", made.manifest)


def test_a_missing_tag_says_which_there_are(tmp_path: Path) -> None:
    layout = ImageLayout.create(tmp_path)
    layout.set_tag("1.0", built_image(layout).manifest)
    with pytest.raises(NotFound, match=r"no tag 2\.0") as caught:
        layout.read_manifest("2.0")
    assert caught.value.hint == "it has 1.0"


def test_a_damaged_blob_is_never_returned(tmp_path: Path) -> None:
    layout = ImageLayout.create(tmp_path)
    digest = layout.write_blob(b"hello")
    layout.path(digest).write_bytes(b"jello")
    with pytest.raises(BrokenContent, match="damaged"):
        layout.read_blob(digest, 100)


def test_an_interrupted_blob_never_appears(tmp_path: Path) -> None:
    layout = ImageLayout.create(tmp_path)
    blob = Descriptor("x", sha256(b"hello"), 5)
    with pytest.raises(KeyboardInterrupt), layout.new_blob(blob) as file:
        file.write(b"hel")
        raise KeyboardInterrupt
    assert not layout.has_blob(blob)
    with pytest.raises(BrokenContent, match="3 bytes instead of 5"), layout.new_blob(blob) as file:
        file.write(b"hel")
    assert files_of(tmp_path) == {"oci-layout"}


def test_what_a_killed_run_left_is_removed_after_a_day(tmp_path: Path) -> None:
    for name, age in ((".part-old.tar", 90_000), (".part-new", 10)):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    ImageLayout.create(tmp_path)
    assert files_of(tmp_path) == {"oci-layout", ".part-new"}


def test_any_path_is_only_a_digest(tmp_path: Path) -> None:
    with pytest.raises(RegistryError):
        ImageLayout(tmp_path).path("sha256:../../etc/passwd")


def test_a_layout_is_what_skopeo_reads(tmp_path: Path) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    layout = ImageLayout.create(tmp_path)
    made = built_image(layout)
    layout.set_tag("1.0", made.manifest)
    done = subprocess.run(
        ["skopeo", "inspect", "--format", "{{.Digest}}", f"oci:{tmp_path}:1.0"],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    assert done.stdout.strip() == made.digest, done.stderr
