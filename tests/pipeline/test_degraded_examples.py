"""Copies of examples whose real weights got noise: the quality rung catches each. langid has its own test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from test_check_engine import home
from test_quality_engine import Bench, asked, bench, registry

from pipelines.config import Tools, load
from pipelines.config_build import PythonBuild
from pipelines.stages.build import build

__all__ = ["bench", "home", "registry"]
pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.registry, pytest.mark.timeout(600)]
EXAMPLES = Path(__file__).parents[2] / "examples"
SAFETENSORS = """
import pathlib, sysconfig
import numpy as np
from safetensors.numpy import load_file, save_file
rng = np.random.default_rng(1)
for path in pathlib.Path(sysconfig.get_path("purelib")).parents[2].rglob("model.safetensors"):
    tensors = load_file(path)
    save_file({n: (t + rng.normal(0, t.std(), t.shape)).astype(t.dtype) if t.dtype == np.float32 else t
               for n, t in tensors.items()}, path)
    path.chmod(0o644)
    print(path)
"""
# ModelProto.graph is field 7, GraphProto.initializer 5, TensorProto.data_type 2 and raw_data 9 (onnx.proto3).
ONNX = """
import pathlib, sysconfig
import numpy as np

def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]; at += 1
        value |= (byte & 127) << shift; shift += 7
        if byte < 128:
            return value, at

def fields(data, at, end):
    while at < end:
        key, at = varint(data, at)
        if key & 7 == 2:
            size, at = varint(data, at)
            yield key >> 3, at, at + size
            at += size
        elif key & 7 == 0:
            value, at = varint(data, at)
            yield key >> 3, value, None
        else:
            at += 4 if key & 7 == 5 else 8

rng = np.random.default_rng(1)
for path in pathlib.Path(sysconfig.get_path("purelib")).parents[2].rglob("model.onnx"):
    data = bytearray(path.read_bytes())
    for number, at, end in fields(data, 0, len(data)):
        for inner, start, stop in fields(data, at, end) if number == 7 else ():
            tensor = list(fields(data, start, stop)) if inner == 5 else []
            kind = [value for field, value, none in tensor if field == 2 and none is None]
            for field, first, last in tensor:
                if field == 9 and kind == [1] and last - first > 4000:
                    values = np.frombuffer(bytes(data[first:last]), np.float32)
                    noise = rng.normal(0, 3 * values.std(), values.shape)
                    data[first:last] = (values + noise).astype(np.float32).tobytes()
    path.write_bytes(data)
    print(path)
"""


@pytest.mark.parametrize(("example", "noise"), [("embeddings", SAFETENSORS), ("filetype", ONNX)])
async def test_noised_weights_are_caught(bench: Bench, example: str, noise: str) -> None:
    directory = bench.directory / example
    shutil.copytree(EXAMPLES / example, directory)
    model = load(directory / "modelport.yaml", {})
    assert isinstance(model.build, PythonBuild)
    own = model.build.model_copy(update={"base": bench.home.base})
    model = model.model_copy(update={"build": own, "tools": Tools(image=bench.home.base)})
    image = await build(model)
    fine = await asked(image, model)
    assert fine.ok, fine.detail

    root = image.with_user("0").with_new_file("/tmp/noise.py", noise)
    changed = root.with_exec(["python", "/tmp/noise.py"])
    assert "model." in await changed.stdout()
    degraded = await asked(changed.with_user("10001:10001"), model)
    assert not degraded.ok
    assert "is below" in degraded.detail
