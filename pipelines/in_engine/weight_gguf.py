"""GGUF's header: metadata and the tensors' dimensions.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

KEYS = {
    "general.architecture": "architecture",
    "general.name": "name",
    "general.license": "licence",
    "general.version": "model_version",
}
"""What is told of the metadata."""
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of the values of a fixed size, by their type."""
STRING, ARRAY = 8, 9
MOST = 1 << 20
"""Entries of an array or a header: a vocabulary has a quarter of it."""
LONGEST_TEXT = 1 << 20
MOST_DIMENSIONS = 8
TYPES = {0: "F32", 1: "F16", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 30: "BF16"}
QUANTISED = {
    2: "Q4_0",
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    8: "Q8_0",
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    12: "Q4_K",
    13: "Q5_K",
    14: "Q6_K",
    15: "Q8_K",
}


def gguf(stream: BinaryIO) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Type and number of elements of each tensor; architecture, name and licence."""
    magic, version, tensors, entries = struct.unpack("<4sIQQ", _exactly(stream, 24))
    if magic != b"GGUF" or version not in (2, 3) or max(tensors, entries) > MOST:
        raise ValueError("not GGUF of version 2 or 3")
    facts: dict[str, Any] = {}
    for _ in range(entries):
        key = _string(stream)
        (kind,) = struct.unpack("<I", _exactly(stream, 4))
        if key in KEYS and kind == STRING:
            facts[KEYS[key]] = _string(stream)[:200]
        else:
            _skip(stream, kind)
    return [_tensor(stream) for _ in range(tensors)], facts


def _tensor(stream: BinaryIO) -> tuple[str, int]:
    _string(stream)
    (count,) = struct.unpack("<I", _exactly(stream, 4))
    if count > MOST_DIMENSIONS:
        raise ValueError(f"a tensor of {count} dimensions")
    elements = 1
    for length in struct.unpack(f"<{count}Q", _exactly(stream, 8 * count)):
        elements *= length
    kind, _ = struct.unpack("<IQ", _exactly(stream, 12))
    return TYPES.get(kind) or QUANTISED.get(kind, f"type {kind}"), elements


def _skip(stream: BinaryIO, kind: int) -> None:
    if kind in SIZES:
        _exactly(stream, SIZES[kind])
    elif kind == STRING:
        _string(stream)
    elif kind == ARRAY:
        inner, count = struct.unpack("<IQ", _exactly(stream, 12))
        if count > MOST:
            raise ValueError(f"an array of {count}")
        if inner in SIZES:
            stream.seek(SIZES[inner] * count, 1)
            return
        if inner != STRING:  # arrays of arrays are nobody's metadata, and a way to recurse for ever
            raise ValueError(f"an array of type {inner}")
        for _ in range(count):
            _string(stream)
    else:
        raise ValueError(f"a value of type {kind}")


def _string(stream: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", _exactly(stream, 8))
    if length > LONGEST_TEXT:
        raise ValueError(f"a text of {length} bytes")
    return _exactly(stream, length).decode("utf-8", "replace")


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("it ends too early")
    return data
