"""Formats that hold no code, checked for what they claim: safetensors, ONNX and numpy's array header."""

import ast
import json
import re
import struct
from typing import Protocol

from pipelines.in_engine.bounded import ParseError

LONGEST_HEADER = 100 << 20
"""safetensors' own limit for its header."""


class Readable(Protocol):
    """A binary stream, at its start."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes."""


class Seekable(Readable, Protocol):
    """A file, at its start."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to ``offset``."""


def check_safetensors(stream: Readable, size: int) -> None:
    """Hold the header to the format: its length, JSON, and every tensor within the file.

    Raises:
        ParseError: says which promise is broken.
    """
    head = stream.read(8)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
    if length > min(size - 8, LONGEST_HEADER):
        raise ParseError("the length of its header is not within the file")
    try:
        header = json.loads(stream.read(length))
    except ValueError as err:
        raise ParseError("its header is not JSON") from err
    if not isinstance(header, dict):
        raise ParseError("its header is not a JSON object")
    end = size - 8 - length
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        offsets = tensor.get("data_offsets") if isinstance(tensor, dict) else None
        if not (
            isinstance(offsets, list) and len(offsets) == 2 and all(isinstance(at, int) for at in offsets)
        ):
            raise ParseError(f'the tensor "{str(name)[:60]}" has no place in the file')
        if not 0 <= offsets[0] <= offsets[1] <= end:
            raise ParseError(f'the tensor "{str(name)[:60]}" lies outside of the file')


def check_onnx(stream: Seekable, size: int) -> None:
    """Hold that the file is one protobuf message with the fields of an ONNX ``ModelProto``, to its last byte.

    Raises:
        ParseError: says where it stops being one.
    """
    position, fields = 0, set()
    while position < size:
        key, position = _varint(stream, position)
        field, wire = key >> 3, key & 7
        fields.add(field)
        if wire == 0:
            _, position = _varint(stream, position)
        elif wire == 2:
            length, position = _varint(stream, position)
            position += length
            stream.seek(position)
        else:
            raise ParseError(f"no ONNX field at byte {position}")
        if position > size:
            raise ParseError("it ends within a field")
    if 7 not in fields:
        raise ParseError("it holds no graph")


def _varint(stream: Readable, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = stream.read(1)
        position += 1
        if not byte:
            raise ParseError("it ends within a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value, position
        shift += 7
    raise ParseError(f"no number at byte {position}")


def numpy_objects(stream: Readable) -> bool:
    """Read the header of a ``.npy``; does it announce Python objects, that is: does a pickle follow?

    Raises:
        ParseError: it is no such header.
    """
    version = stream.read(8)[6:7]
    width, kind = (2, "<H") if version == b"\x01" else (4, "<I")
    raw = stream.read(width)
    if len(raw) < width:
        raise ParseError("it ends within its header")
    length = struct.unpack(kind, raw)[0]
    if length > 1 << 20:
        raise ParseError("its header is longer than any honest one")
    text = stream.read(length).decode("utf-8" if version == b"\x03" else "latin-1", "replace")
    try:
        header = ast.literal_eval(re.sub(r"(\d)L\b", r"\1", text.strip()))  # (2L,) is Python 2's
        description = header["descr"]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as err:
        raise ParseError("its header can't be read") from err
    return _names_objects(description)


def _names_objects(description: object) -> bool:
    if isinstance(description, str):
        return "O" in description
    if isinstance(description, (list, tuple)):
        return any(_names_objects(part) for part in description)
    return False
