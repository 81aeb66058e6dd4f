"""What weight files' own headers say, made by hand from their formats: nothing is loaded or trusted."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.in_engine import collect
from pipelines.in_engine.weight_facts import facts_of, read_bytes
from pipelines.in_engine.weight_origin import cached_name, card_of, origin_of

REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"


def safetensors(header: Any, more: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + more


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(kind: int, *dims: int, packed: bool = False) -> bytes:
    shape = field(1, b"".join(map(varint, dims))) if packed else b"".join(field(1, length) for length in dims)
    return field(5, shape + field(2, kind) + field(9, b"\0" * 40))


def onnx(graph: bytes) -> bytes:
    return field(1, 8) + field(2, b"pytorch") + field(7, graph) + field(8, field(2, 17))


def npy(descr: str, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def gguf() -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    metadata = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("general.license") + struct.pack("<I", 8) + text("apache-2.0"),
        text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("scores") + struct.pack("<IIQ", 9, 6, 3) + b"\0" * 12,
        text("block_count") + struct.pack("<II", 4, 22),
    ]
    tensors = [
        text("token_embd") + struct.pack("<IQQIQ", 2, 64, 32, 12, 0),
        text("norm") + struct.pack("<IQIQ", 1, 64, 0, 0),
    ]
    return struct.pack("<4sIQQ", b"GGUF", 3, 2, 5) + b"".join(metadata + tensors)


class Storage:
    """As torch.save hands it to pickle: a persistent id."""

    def __init__(self, kind: str, key: str, elements: int) -> None:
        self.told = ("storage", kind, key, "cpu", elements)


def torch_zip(protocol: int) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return obj.told if isinstance(obj, Storage) else None

    shared = Storage("FloatStorage", "0", 384)
    state = {"a": (shared, 0, (384,)), "tied": (shared, 0, (384,)), "b": (Storage("LongStorage", "1", 16), 0)}
    body = io.BytesIO()
    Pickler(body, protocol).dump(state)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model/data.pkl", body.getvalue())
    return out.getvalue()


def test_safetensors_tells_tensors_parameters_and_types() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "w": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
        "s": {"dtype": "I64", "shape": [], "data_offsets": [48, 56]},
    }
    assert read_bytes(safetensors(header, b"\0" * 56), "safetensors") == {
        "tensors": 2,
        "parameters": 13,
        "dtypes": ["F32", "I64"],
        "framework": "pt",
    }


@pytest.mark.parametrize("packed", [False, True])
def test_onnx_tells_its_initialisers(packed: bool) -> None:
    graph = field(2, b"name") + tensor(1, 300, 2, packed=packed) + tensor(7, 5, packed=packed)
    assert read_bytes(onnx(graph), "onnx") == {
        "tensors": 2,
        "parameters": 605,
        "dtypes": ["float32", "int64"],
        "ir_version": 8,
        "producer": "pytorch",
        "opset": 17,
    }


def test_arrays_of_numpy_alone_and_in_a_zip() -> None:
    assert read_bytes(npy("<f4", (2, 3)), "npy") == {"tensors": 1, "parameters": 6, "dtypes": ["<f4"]}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", npy("<f4", (2, 3)) + b"\0" * 24)
        archive.writestr("b.npy", npy("<i8", ()) + b"\0" * 8)
    told = read_bytes(out.getvalue(), "npz")
    assert told == {"tensors": 2, "parameters": 7, "dtypes": ["<f4", "<i8"]}


def test_gguf_tells_architecture_licence_and_quantisation() -> None:
    assert read_bytes(gguf(), "gguf") == {
        "tensors": 2,
        "parameters": 64 * 32 + 64,
        "dtypes": ["F32", "Q4_K"],
        "architecture": "llama",
        "licence": "apache-2.0",
    }


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_torch_zip_is_told_by_opcodes_alone_and_shared_storages_count_once(protocol: int) -> None:
    told = read_bytes(torch_zip(protocol), "torch zip")
    assert told == {"tensors": 2, "parameters": 400, "dtypes": ["float32", "int64"]}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("safetensors", struct.pack("<Q", 1 << 60) + b"{}"),
        ("safetensors", b"\x02"),
        ("safetensors", safetensors([1])),
        ("safetensors", safetensors({"w": {"dtype": "F32", "shape": [-1]}})),
        ("safetensors", safetensors({"w": {"dtype": "F32", "shape": [1 << 62, 4]}})),
        ("onnx", onnx(tensor(1, 2, 2))[:-30]),
        ("onnx", b"\xff" * 40),
        ("onnx", onnx(tensor(1, *[1 << 60] * 9))),
        ("npy", b"\x93NUMPY\x01\x00\x20\x00__import__('os').abort()         "),
        ("npz", b"PK\x03\x04 and no more"),
        ("gguf", struct.pack("<4sIQQ", b"GGUF", 3, 1 << 50, 1)),
        ("gguf", gguf()[:60]),
        ("torch zip", b"PK\x03\x04"),
    ],
)
def test_a_header_that_lies_gives_a_reason_and_no_facts(kind: str, data: bytes) -> None:
    told = read_bytes(data, kind)
    assert set(told) == {"unread"}
    assert len(told["unread"]) <= 200


def test_other_formats_say_nothing() -> None:
    assert read_bytes(b"\x80\x04.", "pickle") == {}


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "big.onnx"
    size = 400 << 20
    raw = varint(9 << 3 | 2) + varint(size)  # raw_data, whose bytes take no room on the disk
    inner = field(1, size // 4) + field(2, 1) + raw
    initializer = varint(5 << 3 | 2) + varint(len(inner) + size) + inner
    head = varint(7 << 3 | 2) + varint(len(initializer) + size) + initializer
    with file.open("wb") as out:
        out.write(head)
        out.truncate(len(head) + size)
    tracemalloc.start()
    with file.open("rb") as stream:
        told = facts_of(stream, "onnx", file.stat().st_size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert told["parameters"] == size // 4
    assert peak < 1 << 20


def test_the_hubs_cache_names_a_blob_and_its_revision(tmp_path: Path) -> None:
    home = tmp_path / "hub" / "models--org--name"
    blob = home / "blobs" / ("ab" * 32)
    link = home / "snapshots" / REVISION / "onnx" / "model.onnx"
    for directory in (blob.parent, link.parent):
        directory.mkdir(parents=True)
    blob.write_bytes(b"x")
    link.symlink_to(f"../../../blobs/{blob.name}")
    name = cached_name(f"/hub/models--org--name/blobs/{blob.name}", str(blob))
    assert name == f"/hub/models--org--name/snapshots/{REVISION}/onnx/model.onnx"
    assert origin_of(name, str(blob)) == {"repository": "org/name", "revision": REVISION}
    assert not cached_name("/hub/models--org--name/blobs/other", str(blob))


def noted(directory: Path) -> None:
    notes = directory / ".cache/huggingface/download/onnx/model.onnx.metadata"
    notes.parent.mkdir(parents=True)
    notes.write_text(f"{REVISION}\n{'ab' * 32}\n1700000000.0\n")


def configured(directory: Path) -> None:
    (directory / "onnx" / "config.json").write_text(
        json.dumps({"_name_or_path": "org/name", "_commit_hash": REVISION})
    )


@pytest.mark.parametrize("tell", [noted, configured])
def test_a_download_tells_its_revision(tmp_path: Path, tell: Callable[[Path], None]) -> None:
    file = tmp_path / "onnx" / "model.onnx"
    file.parent.mkdir()
    assert origin_of("/app/onnx/model.onnx", str(file)) == {}
    tell(tmp_path)
    assert origin_of("/app/onnx/model.onnx", str(file))["revision"] == REVISION


def test_the_model_card_tells_licence_and_task_and_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "---\nlicense: apache-2.0\npipeline_tag: fill-mask\n---\nlicense: mit\n"
    )
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    told = card_of(str(tmp_path / "model.safetensors"))
    assert told == {
        "licence": "apache-2.0",
        "task": "fill-mask",
        "family": "bert",
        "architecture": "BertModel",
    }
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "README.md").symlink_to(tmp_path / "README.md")
    assert card_of(str(elsewhere / "model.safetensors")) == {}


def collected(root: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    collect.main([str(root), *arguments])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_the_program_tells_all_of_a_weight_file_in_one_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blob = tmp_path / "hub" / "models--org--name" / "blobs" / ("ab" * 32)
    link = tmp_path / "hub" / "models--org--name" / "snapshots" / REVISION / "model.safetensors"
    for directory in (blob.parent, link.parent):
        directory.mkdir(parents=True)
    data = safetensors({"w": {"dtype": "F32", "shape": [2, 3]}}, b"\0" * 24)
    blob.write_bytes(data)
    link.symlink_to(f"../../blobs/{blob.name}")
    (weights,) = collected(tmp_path, capsys, "--md5")["weights"]
    assert weights == {
        "path": f"/hub/models--org--name/snapshots/{REVISION}/model.safetensors",
        "size": len(data),
        "format": "safetensors",
        "sha256": hashlib.sha256(data).hexdigest(),
        "md5": hashlib.md5(data).hexdigest(),
        "facts": {"tensors": 1, "parameters": 6, "dtypes": ["F32"]},
        "hub": {"repository": "org/name", "revision": REVISION},
        "card": {},
    }
    assert "md5" not in collected(tmp_path, capsys)["weights"][0]


def test_a_git_lfs_pointer_in_place_of_the_weights_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 3\n"
    (tmp_path / "model.onnx").write_text(pointer)
    told = collected(tmp_path, capsys)
    assert told["weights"][0]["format"] == "git lfs pointer"
    assert "git lfs pull" in told["problems"][0]
