"""The release image: the layers that were checked, the commit's labels and times, the same bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from images import COMMIT, COMMITTED, OCI, built_image, names

from pipelines.errors import PushFailed
from pipelines.registries.descriptors import DOCKER_MANIFEST, OCI_MANIFEST, Manifest
from pipelines.registries.layout import ImageLayout
from pipelines.release_image import hold_same_layers


def test_labels_times_and_layers(tmp_path: Path) -> None:
    built = built_image(ImageLayout.create(tmp_path))
    release = built.release(names(), COMMITTED)
    assert release.image.layers == built.image.layers
    assert release.diff_ids == built.diff_ids
    assert release.config["created"] == "2026-03-04T05:06:07Z"
    assert {entry["created"] for entry in release.config["history"]} == {"2026-03-04T05:06:07Z"}
    assert release.labels["kept"] == "yes"
    assert release.labels[f"{OCI}.revision"] == COMMIT
    assert release.labels[f"{OCI}.version"] == COMMIT[:12]
    assert release.config["config"]["Cmd"] == ["serve"]
    assert release.image.annotations[f"{OCI}.revision"] == COMMIT
    assert "kept" not in release.image.annotations
    assert release.layout.read_manifest(release.digest) == release.manifest


def test_the_same_commit_gives_the_same_bytes(tmp_path: Path) -> None:
    first = built_image(ImageLayout.create(tmp_path / "one")).release(names(), COMMITTED)
    second = built_image(ImageLayout.create(tmp_path / "two")).release(names(), COMMITTED)
    assert first.manifest.body == second.manifest.body
    other = built_image(ImageLayout.create(tmp_path / "one")).release(names(commit="b" * 40), COMMITTED)
    assert other.digest != first.digest
    assert other.image.layers == first.image.layers


def test_a_docker_image_becomes_an_oci_image_with_the_same_layers(tmp_path: Path) -> None:
    layout = ImageLayout.create(tmp_path)
    made = built_image(layout)
    body = made.manifest.body.replace(
        b"application/vnd.oci.image.layer.v1.tar+gzip", b"application/vnd.docker.image.rootfs.diff.tar.gzip"
    )
    docker = replace(made, manifest=Manifest(DOCKER_MANIFEST, body))
    release = docker.release(names(), COMMITTED)
    assert release.manifest.media_type == OCI_MANIFEST
    assert [layer.media_type for layer in release.image.layers] == [
        "application/vnd.oci.image.layer.v1.tar+gzip"
    ] * 2
    assert [layer.digest for layer in release.image.layers] == [layer.digest for layer in made.image.layers]


def test_another_layer_is_named(tmp_path: Path) -> None:
    layout = ImageLayout.create(tmp_path)
    built, other = built_image(layout, "base", "code"), built_image(layout, "base", "evil")
    with pytest.raises(PushFailed, match=r"layer 2 is not the one that was checked: its digest is"):
        hold_same_layers(built, other.release(names(), COMMITTED))
    with pytest.raises(PushFailed, match=r"layer 2 .* none"):
        hold_same_layers(built, built_image(layout, "base").release(names(), COMMITTED))


def test_an_image_whose_config_lies_about_its_layers_is_refused(tmp_path: Path) -> None:
    layout = ImageLayout.create(tmp_path)
    made = built_image(layout)
    config = made.config | {"rootfs": {"type": "layers", "diff_ids": list(made.diff_ids)[:1]}}
    body = json.dumps(config).encode()
    digest = layout.write_blob(body)
    text = made.manifest.body.replace(made.image.config.digest.encode(), digest.encode())
    text = text.replace(f'"size":{made.image.config.size}'.encode(), f'"size":{len(body)}'.encode())
    with pytest.raises(PushFailed, match="2 layers and 1 diff ids"):
        replace(made, manifest=Manifest(OCI_MANIFEST, text)).release(names(), COMMITTED)
