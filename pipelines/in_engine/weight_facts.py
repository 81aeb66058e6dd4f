"""What a weight file's own header says: how many tensors and parameters, of which types. Nothing is loaded.

Headers are read in place and in bounded pieces: memory does not grow with the file. What isn't as its format
says gives no facts but the reason, under "unread"; the file's digest stands in any case.
"""

from __future__ import annotations

import ast
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from pipelines.in_engine.weight_gguf import gguf
from pipelines.in_engine.weight_onnx import onnx
from pipelines.in_engine.weight_torch import torch_zip

LONGEST_HEADER = 8 << 20
"""Of safetensors, whose own limit is 100 MB; a file of a thousand tensors has 100 kB."""
MOST_ELEMENTS = 1 << 62
WRONG = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    MemoryError,  # of ast, for what is nested too deeply
    RuntimeError,
    SyntaxError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the readers raise over bytes that are not of their format."""
MOST_MEMBERS = 20_000
NUMPY_HEADER = 1 << 16


def facts_of(stream: BinaryIO, kind: str, size: int) -> dict[str, Any]:  # Any: the answer is JSON
    """The facts of one file, whose format is ``kind``. Raises OSError."""
    read = READERS.get(kind)
    if read is None:
        return {}
    stream.seek(0)
    try:
        return read(stream, size)
    except WRONG as err:
        return {"unread": f"its header is not that of {kind}: {err}"[:200]}


def safetensors(stream: BinaryIO, size: int) -> dict[str, Any]:
    """https://huggingface.co/docs/safetensors/index#format : eight bytes of length, a JSON header, data."""
    (length,) = struct.unpack("<Q", exactly(stream, 8))
    if length > min(LONGEST_HEADER, size - 8):
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(exactly(stream, length).decode("utf-8"))
    tensors = [one for name, one in header.items() if name != "__metadata__"]
    told = [(str(one["dtype"]), product(one["shape"])) for one in tensors]
    metadata = header.get("__metadata__")
    framework = metadata.get("format") if isinstance(metadata, dict) else None
    return {**counted(told), **({"framework": str(framework)[:40]} if framework else {})}


def npy(stream: BinaryIO, size: int) -> dict[str, Any]:
    """One array of numpy (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html)."""
    return counted([_array(stream)])


def npz(stream: BinaryIO, size: int) -> dict[str, Any]:
    """A zip of such arrays; of each only the header is unpacked."""
    told = []
    with zipfile.ZipFile(stream) as archive:
        members = [one for one in archive.infolist() if one.filename.endswith(".npy")]
        if len(members) > MOST_MEMBERS:
            raise ValueError(f"{len(members)} arrays")
        for member in members:
            with archive.open(member) as array:
                told.append(_array(array))
    return counted(told)


def _array(stream: Any) -> tuple[str, int]:  # Any: a file, or a member of a zip
    if exactly(stream, 6) != b"\x93NUMPY":
        raise ValueError("not an array")
    major = exactly(stream, 2)[0]
    form = "<H" if major == 1 else "<I"
    (length,) = struct.unpack(form, exactly(stream, struct.calcsize(form)))
    if length > NUMPY_HEADER:
        raise ValueError(f"a header of {length} bytes")
    header = ast.literal_eval(exactly(stream, length).decode("utf-8" if major > 2 else "latin-1").strip())
    described = header["descr"]
    return (described if isinstance(described, str) else "structured"), product(header["shape"])


def counted(tensors: list[tuple[str, int]]) -> dict[str, Any]:
    """Tensors, parameters and types, from each tensor's type and number of elements."""
    if any(count < 0 for _, count in tensors):
        raise ValueError("a dimension below zero")
    return {
        "tensors": len(tensors),
        "parameters": sum(count for _, count in tensors),
        "dtypes": sorted({kind for kind, _ in tensors}),
    }


def product(shape: Any) -> int:  # Any: from the file
    """The number of elements of a tensor; one of no dimensions has one."""
    result = 1
    for length in shape:
        if not isinstance(length, int) or isinstance(length, bool) or length < 0:
            raise ValueError("a dimension that is no number")
        result *= length
        if result > MOST_ELEMENTS:
            raise ValueError("a tensor that no file holds")
    return result


def exactly(stream: Any, size: int) -> bytes:  # Any: a file, or a member of a zip
    """``size`` bytes. Raises EOFError where there are fewer."""
    data: bytes = stream.read(size)
    if len(data) != size:
        raise EOFError("it ends too early")
    return data


READERS: dict[str, Callable[[Any, int], dict[str, Any]]] = {
    "safetensors": safetensors,
    "npy": npy,
    "npz": npz,
    "onnx": lambda stream, size: _of(onnx(stream, size)),
    "gguf": lambda stream, size: _of(gguf(stream)),
    "torch zip": lambda stream, size: _of(torch_zip(stream)),
}


def _of(told: tuple[list[tuple[str, int]], dict[str, Any]]) -> dict[str, Any]:
    tensors, more = told
    return {**counted(tensors), **more}


def read_bytes(data: bytes, kind: str) -> dict[str, Any]:
    """``facts_of`` a file that is in memory already: tests, small files."""
    return facts_of(io.BytesIO(data), kind, len(data))
