"""Layers and archives: the same bytes for the same content, and none of ours in them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import tarfile
from pathlib import Path

import pytest

from embedded_engine.runtime import gzips, oci
from embedded_engine.runtime.archive import write_archive
from embedded_engine.runtime.dockerfile import cleaned_config, with_args, without_args
from embedded_engine.runtime.port import LayerBlob, OutImage, RuntimeFailure
from embedded_engine.runtime.tar_filter import filtered


def tar_of(entries: list[tuple[str, bytes | None, int]], layout: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=layout) as archive:
        for name, data, mode in entries:
            info = tarfile.TarInfo(name)
            info.mode = mode
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.size = len(data or b"")
            archive.addfile(info, io.BytesIO(data or b""))
    return out.getvalue()


def names_in(stream: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        return archive.getnames()


def through(stream: bytes) -> bytes:
    return b"".join(filtered(io.BytesIO(stream)))


@pytest.mark.parametrize("layout", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_what_mounts_leave_is_dropped_and_nothing_else(layout: int) -> None:
    long = "usr/" + "long-" * 40 + "é/file"
    stream = tar_of(
        [
            ("etc/", None, 0o755),
            ("etc/hosts", b"", 0o755),
            ("etc/resolv.conf", b"nameserver 1.1.1.1\n", 0o755),
            ("etc/hostname", b"", 0o644),
            ("run/.engine/", None, 0o755),
            ("run/.engine/x", b"1", 0o644),
            ("run/.engine-wheels-0/", None, 0o755),
            ("run/.engineer", b"kept", 0o644),
            ("run/secrets/", None, 0o755),
            (long, b"y" * 3000, 0o600),
        ],
        layout,
    )
    assert names_in(through(stream)) == ["etc", "etc/resolv.conf", "etc/hostname", "run/.engineer", long]


def test_a_stream_without_residue_passes_byte_for_byte() -> None:
    stream = tar_of([("a/", None, 0o755), ("a/" + "n" * 150, b"x" * 70_000, 0o644), ("b", b"", 0o755)])
    assert through(stream) == stream


def test_attributes_of_the_overlay_file_system_go_and_others_stay() -> None:
    def stream(*attributes: str) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name in ("etc", "var"):
                info = tarfile.TarInfo(name)
                info.type = tarfile.DIRTYPE
                info.pax_headers = {f"SCHILY.xattr.{attribute}": "v" for attribute in attributes}
                archive.addfile(info)
        return out.getvalue()

    def same(one: bytes, two: bytes) -> bool:
        return one.rstrip(b"\0") == two.rstrip(b"\0")  # tar pads to ten kilobytes

    assert same(through(stream("user.overlay.origin")), stream())
    mixed = stream("user.overlay.origin", "user.mine", "trusted.overlay.x")
    assert same(through(mixed), stream("user.mine"))


def test_a_stream_that_is_cut_off_is_an_error() -> None:
    stream = tar_of([("a", b"x" * 5000, 0o644)])
    with pytest.raises(RuntimeFailure, match="cut off"):
        through(stream[:3000])


@pytest.mark.parametrize("size", [0, 1, gzips.BLOCK - 1, gzips.BLOCK, 3 * gzips.BLOCK + 17])
def test_gzip_depends_on_the_content_only(size: int) -> None:
    data = (b"some text %d\n" * (size // 10 + 1))[:size] if size % 2 else os.urandom(size)
    outs = []
    for cut, workers in ((size or 1, 1), (7_919, 4)):
        out = io.BytesIO()
        made = gzips.compress((data[at : at + cut] for at in range(0, size, cut)), out, workers)
        outs.append(out.getvalue())
        assert made.diff_id == "sha256:" + hashlib.sha256(data).hexdigest()
        assert made.digest == "sha256:" + hashlib.sha256(outs[-1]).hexdigest()
        assert made.size == len(outs[-1])
    assert outs[0] == outs[1]
    assert gzip.decompress(outs[0]) == data
    assert outs[0][4:8] == b"\0\0\0\0"  # no time


def test_gzip_stores_what_cannot_be_compressed_and_compresses_the_rest() -> None:
    noise = random.Random(1).randbytes(gzips.BLOCK)
    sizes = {}
    for name, data in (("noise", noise), ("text", b"word " * (gzips.BLOCK // 5))):
        out = io.BytesIO()
        sizes[name] = gzips.compress([data], out).size
    assert gzips.BLOCK < sizes["noise"] < gzips.BLOCK + 2000
    assert sizes["text"] < gzips.BLOCK // 50


def test_a_bare_config_follows_from_the_layers_alone() -> None:
    one = {"architecture": "amd64", "os": "linux", "created": "2020", "config": {"Env": ["A=1"]}}
    two = {"architecture": "amd64", "os": "linux", "created": "2021", "author": "x"}
    assert oci.bare_config(one, ["sha256:a"]) == oci.bare_config(two, ["sha256:a"])
    assert len(json.loads(oci.bare_config(one, ["sha256:a", "sha256:b"]))["history"]) == 2


def test_an_archive_is_stable_and_both_layouts_are_in_it(tmp_path: Path) -> None:
    blob = tmp_path / "layer"
    blob.write_bytes(b"layer")
    layer = LayerBlob("sha256:d", oci.digest_of(b"layer"), 5, blob)
    config = oci.encoded({"rootfs": {"diff_ids": ["sha256:d"]}})
    manifest = oci.manifest_for(config, [{"mediaType": layer.media_type, "digest": layer.digest, "size": 5}])
    image = OutImage(manifest, config, (layer,), oci.digest_of(manifest))
    for name in ("one", "two"):
        write_archive(image, tmp_path / name, "h/app:1.2")
        os.utime(blob, (1, 1))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with tarfile.open(tmp_path / "one") as archive:
        content = {one.name: archive.extractfile(one) for one in archive if one.isfile()}
        index = json.load(content["index.json"])  # type: ignore[arg-type]
        docker = json.load(content["manifest.json"])  # type: ignore[arg-type]
        assert {one.mtime for one in archive} == {0}
    assert index["manifests"][0]["digest"] == image.digest
    assert index["manifests"][0]["annotations"] == {"org.opencontainers.image.ref.name": "1.2"}
    assert docker == [
        {
            "Config": "blobs/" + oci.digest_of(config).replace(":", "/"),
            "RepoTags": ["h/app:1.2"],
            "Layers": ["blobs/" + layer.digest.replace(":", "/")],
        }
    ]


def test_arguments_are_declared_after_each_from() -> None:
    text = "# syntax\nARG B=x\nFROM $B \\\n  AS one\nRUN a\nFROM y\n"
    assert with_args(text, ["P", "Q"]).splitlines() == [
        *("# syntax", "ARG B=x", "FROM $B \\", "  AS one", "ARG P Q", "RUN a", "FROM y", "ARG P Q"),
    ]
    assert with_args(text, []) == text


def test_a_history_loses_our_arguments_and_keeps_the_users() -> None:
    history = [
        {"created_by": "/bin/sh -c #(nop) ARG P Q", "comment": "FROM abc", "empty_layer": True},
        {"created_by": "/bin/sh -c #(nop) ARG P Q V", "empty_layer": True},
        {"created_by": "|3 P=/x V=2 Q=/y /bin/sh -c echo P=1", "comment": "FROM def"},
        {"created_by": "|2 P=/x Q=/y /bin/sh -c true"},
        {"comment": "from elsewhere"},
    ]
    assert cleaned_config({"os": "linux", "history": history}, ["P", "Q"])["history"] == [
        {"created_by": "/bin/sh -c #(nop) ARG V", "empty_layer": True},
        {"created_by": "|1 V=2 /bin/sh -c echo P=1"},
        {"created_by": "/bin/sh -c true"},
        {},
    ]
    assert without_args("/bin/sh -c x", ["P"]) == "/bin/sh -c x"
