"""The opcode walker: real honest files pass, hostile ones are caught, nothing is ever loaded."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from pipelines.config_scan import ModelFiles
from pipelines.in_engine import model_files
from pipelines.scanners.model_files import result_of

FIXTURES = Path(__file__).parent.parent / "fixtures" / "model_files"


class Evil:
    """Loading it would leave a file named ``canary``; dumping it runs nothing."""

    def __reduce__(self) -> Any:
        return os.system, ("echo executed > canary",)


EVIL = pickle.dumps([1, {"model": Evil()}])


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


HOSTILE = {
    "reduce.pkl": EVIL,
    "named_as_data.csv": EVIL,
    "no_suffix": EVIL,
    "protocol0.txt": b"cos\nsystem\n(S'echo executed > canary'\ntR.",
    "inst.bin": b"(S'echo executed > canary'\nios\nsystem\n.",
    "obj.pkl": b"(cos\nsystem\nS'echo'\no.",
    "newobj.pkl": b"\x80\x04" + short("subprocess") + short("Popen") + b"\x93)\x81.",
    "names_from_memo.pkl": (
        b"\x80\x04" + short("system") + b"\x94" + short("os") + b"\x94h\x01h\x00\x93" + short("x") + b"\x85R."
    ),
    "computed_name.pkl": (
        b"\x80\x04cbuiltins\nstr\n"
        + short("os")
        + b"\x85R"
        + short("system")
        + b"\x93"
        + short("x")
        + b"\x85R."
    ),
    "dotted_name.pkl": b"\x80\x04"
    + short("sklearn.utils")
    + short("os.system")
    + b"\x93"
    + short("x")
    + b"\x85R.",
    "extension.pkl": b"\x80\x02\x82\x01)R.",
    "call_then_garbage.pkl": b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00xq\x00\x85R\xff\xff",
    "call_then_garbage": b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00x\x85R\xff\xff",
    "second_stream.pt": pickle.dumps(1, 2) + pickle.dumps(Evil(), 2),
    "torch.pt": zipped({"archive/data.pkl": EVIL, "archive/data/0": b"\0" * 64}),
    "torch_named_otherwise.weights": zipped({"a/data.pkl": EVIL}),
    "nested.zip": zipped({"inner.zip": zipped({"x.bin": EVIL})}),
    "model.tar": tarred("model/weights", EVIL),
    "model.tar.gz": gzip.compress(tarred("model/weights", EVIL)),
    "gzip.pkl.gz": gzip.compress(EVIL),
    "bz2.pkl": bz2.compress(EVIL),
    "xz.pkl": lzma.compress(EVIL),
    "lzma.pkl": lzma.compress(EVIL, lzma.FORMAT_ALONE),
    "zlib.joblib": zlib.compress(EVIL, 3),
    "hidden_in_array_bytes.joblib": b"",  # made below
    "eval.pkl": pickle.dumps(eval),
    "getattr.pkl": b"\x80\x02cbuiltins\ngetattr\n.",
    "unpickles_again.pkl": b"\x80\x02ctorch.storage\n_load_from_bytes\nU\x01x\x85R.",
}


def wrapped_array(raw: bytes) -> bytes:
    """As joblib writes an array of bytes: its wrapper is built, the bytes stand between two opcodes."""
    dtype = b"cnumpy\ndtype\n" + short("u1") + b"\x89\x88\x87R"
    state = b"(" + b"".join(
        (
            short("shape") + b"K" + bytes([len(raw)]) + b"\x85",
            short("dtype") + dtype,
            short("numpy_array_alignment_bytes") + b"N",
        )
    )
    return b"\x80\x04cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}" + state + b"ub" + raw + b"."


HOSTILE["hidden_in_array_bytes.joblib"] = wrapped_array(b"0cos\nsystem\n" + short("x") + b"\x85R.")

BROKEN = {
    "truncated.pkl": pickle.dumps(list(range(100)))[:-1],
    "not_a_pickle.joblib": b"hello, world",
    "lz4.joblib": b"\x04\x22\x4d\x18" + b"\0" * 40,
    "broken_gzip.pkl": gzip.compress(EVIL)[:30],
    "outside.safetensors": struct.pack("<Q", 60)
    + json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode().ljust(60),
    "header.safetensors": struct.pack("<Q", 1 << 40) + b"{}",
    "text.onnx": b"this is no protobuf",
    "header.npy": b"\x93NUMPY\x01\x00\x08\x00{'descr'",
}

HONEST = {
    "plain.pkl": pickle.dumps({"a": [1, 2.5, "x", None, {3}, (4,), b"5"], "b": {"c": True}}),
    "old.pkl": pickle.dumps({"a": [1, 2, {3}]}, 0),
    "weights.safetensors": struct.pack("<Q", 64)
    + json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode().ljust(64)
    + b"\0" * 4,
    "small.onnx": b"\x08\x08\x3a\x02\x0a\x00",
    "paths.pth": b"import os; var = 'SETUPTOOLS_USE_DISTUTILS'\n",
    "notes.txt": b"class Foo\ncos\nIt is text, and not a pickle (\n.",
    "code.py": b"import os\nos.system('true')\n",
    "random.bin": bytes(range(256)) * 64,
    "weights.zip": zipped({"README": b"hello"}),
    "raw_array.joblib": wrapped_array(b"\x00\xff\x2e\x63" * 4),
}


def scanned(directory: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert model_files.main([str(directory)]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def findings_of(name: str, data: bytes, directory: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    (directory / name).write_bytes(data)
    result = result_of(scanned(directory, capsys), ModelFiles())
    return [f"{one.severity} {one.id}" for one in result.findings]


@pytest.fixture(autouse=True)
def nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_file_is_critical(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = findings_of(name, HOSTILE[name], tmp_path, capsys)
    assert any(one.startswith("critical") for one in found), found


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_file_that_cant_be_followed_is_a_finding(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert findings_of(name, BROKEN[name], tmp_path, capsys) == ["high unreadable"]


@pytest.mark.parametrize("name", sorted(HONEST))
def test_an_honest_file_passes(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert findings_of(name, HONEST[name], tmp_path, capsys) == []


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.glob("honest*")))
def test_files_of_joblib_numpy_and_sklearn_pass(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(FIXTURES / name, tmp_path)
    told = scanned(tmp_path, capsys)
    assert told["files"][0]["format"], "not known for a model file"
    assert result_of(told, ModelFiles()).findings == ()


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.glob("evil*")))
def test_evil_files_of_joblib_and_numpy_are_caught(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Among them the two that picklescan 1.0.5 and modelscan 0.8.8 let pass: raw arrays, and compress=3."""
    shutil.copy(FIXTURES / name, tmp_path)
    result = result_of(scanned(tmp_path, capsys), ModelFiles())
    assert [(one.severity, one.id) for one in result.findings] == [("critical", "posix.system")]


def test_a_zip_bomb_is_not_unpacked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "SLACK", 1 << 20)
    monkeypatch.setattr(model_files, "RATIO", 2)
    bomb = b"\x80\x04B" + struct.pack("<I", 40 << 20) + b"\0" * (40 << 20) + b"."
    assert findings_of("bomb.joblib", zlib.compress(bomb, 9), tmp_path, capsys) == ["high unreadable"]


def test_what_takes_too_long_is_a_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "SECONDS_PER_FILE", -1.0)
    assert findings_of("slow.pkl", HONEST["plain.pkl"], tmp_path, capsys) == ["high unreadable"]


def test_the_policy_allows_own_code_and_only_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = b"\x80\x04" + short("mymodel.layers") + short("Layer") + b"\x93)\x81"
    reached = short("mymodel.layers") + short("os.system") + b"\x93" + short("x") + b"\x85R"
    (tmp_path / "m.pkl").write_bytes(own + reached + b"\x86.")
    told = scanned(tmp_path, capsys)
    assert {one.id for one in result_of(told, ModelFiles()).findings} == {
        "mymodel.layers.Layer",
        "mymodel.layers.os.system",
    }
    allowed = result_of(told, ModelFiles(allow=("mymodel.*",)))
    assert [one.id for one in allowed.findings] == ["mymodel.layers.os.system"]
    assert result_of(told, ModelFiles(ignore=("/m.pkl",))).findings == ()


def test_the_test_data_of_packages_is_reported_and_attacks_in_it_block(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = tmp_path / "lib/site-packages/networkx/flow/tests"
    tests.mkdir(parents=True)
    graph = b"\x80\x04" + short("networkx.classes") + short("Graph") + b"\x93)\x81."
    (tests / "graph.gpickle.bz2").write_bytes(bz2.compress(graph))
    (tests / "evil.pkl").write_bytes(EVIL)
    found = result_of(scanned(tmp_path, capsys), ModelFiles()).findings
    assert {(one.id, one.severity) for one in found} == {
        ("networkx.classes.Graph", "medium"),
        ("posix.system", "critical"),
    }


def test_a_link_out_of_the_image_is_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "image"
    root.mkdir()
    (tmp_path / "outside.pkl").write_bytes(EVIL)
    (root / "link.pkl").symlink_to(tmp_path / "outside.pkl")
    assert scanned(root, capsys)["files"] == []
