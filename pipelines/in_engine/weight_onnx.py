"""ONNX's initialisers, by a reader of the protocol buffers' wire format that only looks at dimensions.

https://protobuf.dev/programming-guides/encoding/ and onnx.proto. What isn't wanted is
seeked over, so a model of gigabytes is read in kilobytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

MODEL_GRAPH, MODEL_PRODUCER, MODEL_PRODUCER_VERSION, MODEL_IR, MODEL_OPSET = 7, 2, 3, 1, 8
GRAPH_INITIALIZER = 5
TENSOR_DIMS, TENSOR_TYPE = 1, 2
OPSET_DOMAIN, OPSET_VERSION = 1, 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST_TEXT = 200
MOST_TENSORS = 200_000
MOST_ELEMENTS = 1 << 62
TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8e4m3fn",
    18: "float8e4m3fnuz",
    19: "float8e5m2",
    20: "float8e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4e2m1",
}


def onnx(stream: BinaryIO, size: int) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Type and number of elements of each initialiser; producer, IR version and operator set."""
    tensors: list[tuple[str, int]] = []
    facts: dict[str, Any] = {}
    graphs = 0
    for number, wire, value in fields(stream, size):
        if number == MODEL_GRAPH and wire == BYTES:
            tensors += _graph(stream, value)
            graphs += 1
        elif number == MODEL_IR and wire == VARINT:
            facts["ir_version"] = value
        elif number == MODEL_PRODUCER and wire == BYTES:
            facts["producer"] = _text(stream, value)
        elif number == MODEL_PRODUCER_VERSION and wire == BYTES:
            facts["producer_version"] = _text(stream, value)
        elif number == MODEL_OPSET and wire == BYTES:
            domain, version = _opset(stream, value)
            if domain in ("", "ai.onnx"):
                facts["opset"] = version
    if not graphs:
        raise ValueError("no graph in it")
    return tensors, {name: value for name, value in facts.items() if value != ""}


def fields(stream: BinaryIO, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, wire type and value of each field up to ``end``; of a field of bytes the value is its end.

    The stream is left at its content, and is taken to its end afterwards, whatever was read of it.
    """
    while stream.tell() < end:
        key = _varint(stream)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            yield number, wire, _varint(stream)
        elif wire == BYTES:
            length = _varint(stream)
            after = stream.tell() + length
            if after > end:
                raise ValueError("a field that is longer than what it is in")
            yield number, wire, after
            stream.seek(after)
        elif wire in (FIXED64, FIXED32):
            stream.seek(8 if wire == FIXED64 else 4, 1)
        else:
            raise ValueError(f"wire type {wire}")


def _graph(stream: BinaryIO, end: int) -> list[tuple[str, int]]:
    tensors = []
    for number, wire, value in fields(stream, end):
        if number == GRAPH_INITIALIZER and wire == BYTES:
            tensors.append(_tensor(stream, value))
            if len(tensors) > MOST_TENSORS:
                raise ValueError("too many initialisers")
    return tensors


def _tensor(stream: BinaryIO, end: int) -> tuple[str, int]:
    elements, kind = 1, 0
    for number, wire, value in fields(stream, end):
        if number == TENSOR_DIMS and wire == VARINT:
            elements = _times(elements, value)
        elif number == TENSOR_DIMS and wire == BYTES:  # packed
            while stream.tell() < value:
                elements = _times(elements, _varint(stream))
        elif number == TENSOR_TYPE and wire == VARINT:
            kind = value
    return TYPES.get(kind, f"type {kind}"), elements


def _times(elements: int, length: int) -> int:
    if elements * length > MOST_ELEMENTS:
        raise ValueError("a tensor that no file holds")
    return elements * length


def _opset(stream: BinaryIO, end: int) -> tuple[str, int]:
    domain, version = "", 0
    for number, wire, value in fields(stream, end):
        if number == OPSET_DOMAIN and wire == BYTES:
            domain = _text(stream, value)
        elif number == OPSET_VERSION and wire == VARINT:
            version = value
    return domain, version


def _text(stream: BinaryIO, end: int) -> str:
    return stream.read(min(end - stream.tell(), LONGEST_TEXT)).decode("utf-8", "replace")


def _varint(stream: BinaryIO) -> int:
    result, shift = 0, 0
    while True:
        byte = stream.read(1)
        if not byte:
            raise EOFError("it ends too early")
        result |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return result
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than ten bytes")
