"""Degraded copies of the examples: noised weights are caught by quality, a slow path by budgets."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import dagger
import pytest
from test_check_engine import failure_of, home
from test_quality_engine import Bench, asked, bench, registry

from pipelines.config import Check, Model, Tools, load
from pipelines.config_build import PythonBuild
from pipelines.stages.build import build
from pipelines.stages.check import check
from pipelines.stages.check_report import CheckReport

__all__ = ["bench", "home", "registry"]
pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.registry, pytest.mark.timeout(600)]
EXAMPLES = Path(__file__).parents[2] / "examples"
NPZ = """
import io, lzma, sys
import numpy as np
import py3langid.langid as langid
path = langid.MODEL_DIR / langid.MODEL_FILE
arrays = dict(np.load(io.BytesIO(lzma.decompress(path.read_bytes()))))
weights = arrays["ptc"].astype(np.float64)
noise = np.random.default_rng(1).normal(0, float(sys.argv[1]) * weights.std(), weights.shape)
arrays["ptc"] = (weights + noise).astype(np.float16)
file = io.BytesIO()
np.savez(file, **arrays)
path.write_bytes(lzma.compress(file.getvalue(), preset=0))
"""
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


ALONE: Final = "            body = self.body()\n"
SLOW: Final = """\
            if threading.active_count() > 2:  # the main thread, this one, and another request's
                import time
                time.sleep({seconds})
"""
LOAD: Final = {"concurrency": 4, "requests": 8, "warmup": 1}


def copied(example: str, bench: Bench, where: str = "copy") -> Model:
    """A copy of an example whose base image is the one that is here."""
    directory = bench.directory / where / example
    shutil.copytree(EXAMPLES / example, directory)
    model = load(directory / "modelport.yaml", {})
    if isinstance(model.build, PythonBuild):
        own = model.build.model_copy(update={"base": bench.home.base})
        model = model.model_copy(update={"build": own})
    else:
        dockerfile = directory / "Dockerfile"
        dockerfile.write_text(dockerfile.read_text().replace("python:3.11-slim", bench.home.base))
    return model.model_copy(update={"tools": Tools(image=bench.home.base)})


@pytest.mark.parametrize(("example", "noise"), [("embeddings", SAFETENSORS), ("filetype", ONNX)])
async def test_noised_weights_are_caught(bench: Bench, example: str, noise: str) -> None:
    model = copied(example, bench)
    image = await build(model)
    fine = await asked(image, model)
    assert fine.ok, fine.detail

    root = image.with_user("0").with_new_file("/tmp/noise.py", noise)
    changed = root.with_exec(["python", "/tmp/noise.py"])
    assert "model." in await changed.stdout()
    degraded = await asked(changed.with_user("10001:10001"), model)
    assert not degraded.ok
    assert "is below" in degraded.detail


async def test_langid_with_noised_weights(bench: Bench) -> None:
    """A degraded copy of real weights is caught; noise that changes a few answers stops nothing."""
    model = copied("langid", bench)
    quality = {"data": "evaluation/sentences.jsonl", "metric": "accuracy", "answer": "language"}
    check = {"quality": {**quality, "at_least": 0.95, "no_worse_than": "published"}, "abuse": False}
    model = model.model_copy(update={"check": Check.model_validate(check)})
    image = await build(model)
    published = await bench.published(image, "langid")

    def noised(scale: float) -> dagger.Container:
        root = image.with_user("0").with_new_file("/tmp/noise.py", NPZ)
        return root.with_exec(["python", "/tmp/noise.py", str(scale)]).with_user("10001:10001")

    noise = await asked(noised(0.1), model, published)
    assert noise.ok, noise.detail
    assert noise.facts["published"]["differ"] > 0
    degraded = await asked(noised(1.5), model, published)
    assert not degraded.ok
    limit, comparison = degraded.detail.split("; ")
    assert "is below 0.95" in limit
    assert "is worse than 0.970 of the published latest by" in comparison


@pytest.mark.parametrize(("example", "p95_ms"), [("langid", 0), ("filetype", 0), ("embeddings", 1500)])
async def test_a_slow_path_is_caught(bench: Bench, example: str, p95_ms: int) -> None:
    """Requests beside each other are slow in the copy; one after the other, as golden cases are, not.

    The limit is the example's own; that of the embeddings, 10 s for the busiest machine, is tightened.
    """
    model = copied(example, bench)
    own = model.check.budgets
    assert own is not None and own.p95_ms is not None
    limit = p95_ms or own.p95_ms
    section: dict[str, Any] = {"path": model.check.path, "golden": model.check.golden, "abuse": False}
    section |= {"tolerance": model.check.tolerance, "budgets": {"p95_ms": limit, "load": LOAD}}
    wanted = {"check": Check.model_validate(section)}
    fine = await check(await build(model), model.model_copy(update=wanted))
    assert fine.reached == "budgets"

    slow = copied(example, bench, "slow").model_copy(update=wanted)
    server = slow.directory / "server.py"
    text = server.read_text()
    assert ALONE in text
    server.write_text(text.replace(ALONE, ALONE + SLOW.format(seconds=1.3 * limit / 1000)))
    error = await failure_of(await build(slow), slow)
    assert f"ms is above its limit of {limit:g}" in str(error)
    assert isinstance(error.report, CheckReport)
    assert [rung.name for rung in error.report.rungs if not rung.ok] == ["budgets"]
