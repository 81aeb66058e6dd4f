"""Formats that hold no code, held to what they claim: safetensors, numpy, GGUF, TensorFlow Lite."""

import ast
import json
import re
import struct
from typing import Protocol

from pipelines.in_engine.bounded import ParseError

LONGEST_HEADER = 100 << 20
"""safetensors' own limit for its header; honest ones take 100 bytes for each tensor."""
LONGEST_READ = 16 << 20
"""What of a header is parsed here: 150 000 tensors. A longer one would take more memory than a scan may."""
BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8}
BITS.update({"F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8})
BITS.update({"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32})
BITS.update({"I64": 64, "U64": 64, "F64": 64, "C64": 64})


class Readable(Protocol):
    """A binary stream, at its start."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes."""


def check_safetensors(stream: Readable, size: int) -> None:
    """Hold the header to the format: its length, JSON, every tensor's size and place, no hole and no overlap.

    Follows https://huggingface.co/docs/safetensors (Format).

    Raises:
        ParseError: says which promise is broken.
    """
    head = stream.read(8)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
    if length > min(size - 8, LONGEST_HEADER):
        raise ParseError("the length of its header is not within the file")
    if length > LONGEST_READ:
        raise ParseError("its header is longer than is looked at")
    text = stream.read(length)
    if not text.startswith(b"{"):
        raise ParseError("its header does not start as JSON")
    try:
        header = json.loads(text, object_pairs_hook=_no_key_twice)
    except RecursionError as err:
        raise ParseError("its header is nested deeper than any honest one") from err
    except ParseError:
        raise
    except ValueError as err:
        raise ParseError("its header is not JSON") from err
    places = sorted(
        _place(str(name), tensor, size - 8 - length)
        for name, tensor in header.items()
        if name != "__metadata__"
    )
    end = 0
    for start, stop, name in places:
        if start != end:
            what = "overlaps another one" if start < end else "leaves a hole before it"
            raise ParseError(f'the tensor "{name[:60]}" {what}')
        end = stop
    if end != size - 8 - length:
        raise ParseError("there is more in the file than its tensors")
    _check_metadata(header.get("__metadata__", {}))


def _no_key_twice(pairs: "list[tuple[str, object]]") -> "dict[str, object]":
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ParseError("its header names one key twice")
    return found


def _place(name: str, tensor: object, end: int) -> "tuple[int, int, str]":
    """Where the tensor starts and ends. Raises ParseError."""
    fields = tensor if isinstance(tensor, dict) else {}
    offsets, shape = _numbers(fields.get("data_offsets")), _numbers(fields.get("shape"))
    bits = BITS.get(str(fields.get("dtype")))
    if offsets is None or len(offsets) != 2:
        raise ParseError(f'the tensor "{name[:60]}" has no place in the file')
    if not 0 <= offsets[0] <= offsets[1] <= end:
        raise ParseError(f'the tensor "{name[:60]}" lies outside of the file')
    if bits is None or shape is None:
        raise ParseError(f'the tensor "{name[:60]}" has no known type or shape')
    for length in shape:
        bits *= length
    if bits != (offsets[1] - offsets[0]) * 8:
        raise ParseError(f'the tensor "{name[:60]}" has another size than its shape')
    return offsets[0], offsets[1], name


def _numbers(value: object) -> "list[int] | None":
    fine = isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
    return value if isinstance(value, list) and fine else None


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ParseError("its metadata is not text")


def numpy_header(stream: Readable) -> "tuple[bool, int]":
    """Read the header of a ``.npy``: whether Python objects (a pickle) follow; else how many bytes do, or -1.

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
        description, shape = header["descr"], header["shape"]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as err:
        raise ParseError("its header can't be read") from err
    if _names_objects(description):
        return True, -1
    return False, _array_size(description, shape)


def _names_objects(description: object) -> bool:
    if isinstance(description, str):
        return "O" in description or "object" in description
    if isinstance(description, (list, tuple)):
        return any(_names_objects(part) for part in description)
    return False


def _array_size(description: object, shape: object) -> int:
    """The array's bytes; -1 for a structured type, whose size is numpy's business."""
    written = re.fullmatch(r"[<>|=]?([biufcmMSUV])(\d+)(\[.*\])?", str(description))
    if written is None or not isinstance(shape, tuple):
        return -1
    size = int(written[2]) * (4 if written[1] == "U" else 1)
    for length in shape:
        size *= length if isinstance(length, int) and length >= 0 else 0
    return size


_GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_GGUF_TEXT, _GGUF_ARRAY = 8, 9
_REACHES_PYTHON = re.compile(
    rb"__(class|globals|builtins|import|subclasses|mro|base|init|self)__|\blipsum\b|\bcycler\b"
)


class Gguf:
    """The header of a GGUF file (ggml's docs/gguf.md), read forward."""

    def __init__(self, stream: Readable, size: int) -> None:
        self._stream = stream
        self._left = size

    def check(self) -> "list[str]":
        """Names of the metadata that reach into Python when rendered as Jinja. Raises ParseError."""
        if self._read(4) != b"GGUF":
            raise ParseError("it does not start as GGUF")
        version, tensors, pairs = self._number(4), self._number(8), self._number(8)
        if version not in (2, 3):
            raise ParseError(f"its version {version} is not known here")
        if tensors * 24 > self._left or pairs * 13 > self._left:
            raise ParseError("it names more tensors or values than it can hold")
        reaching = []
        for _ in range(pairs):
            key = self._text(65535)
            if self._value(self._number(4), 0) and b"chat_template" in key:
                reaching.append(key.decode("utf-8", "replace")[:80])
        offsets = [self._tensor() for _ in range(tensors)]
        if offsets and max(offsets) > self._left:
            raise ParseError("a tensor lies outside of the file")
        return reaching

    def _tensor(self) -> int:
        """The place of one tensor within the data."""
        self._text(65535)
        dimensions = self._number(4)
        if dimensions > 8:
            raise ParseError("a tensor has too many dimensions")
        self._read(dimensions * 8 + 4)
        return self._number(8)

    def _value(self, kind: int, depth: int) -> bool:
        """Read past one value; does it reach into Python?"""
        if kind == _GGUF_TEXT:
            return bool(_REACHES_PYTHON.search(self._text(LONGEST_READ)))
        if kind == _GGUF_ARRAY:
            inner, count = self._number(4), self._number(8)
            if depth > 4 or count > self._left:
                raise ParseError("a list in its header is longer than the file")
            if inner in _GGUF_SIZES:
                self._skip(count * _GGUF_SIZES[inner])
                return False
            return sum(self._value(inner, depth + 1) for _ in range(count)) > 0
        if kind not in _GGUF_SIZES:
            raise ParseError(f"a value of type {kind} is not known")
        self._read(_GGUF_SIZES[kind])
        return False

    def _text(self, longest: int) -> bytes:
        length = self._number(8)
        if length > longest:
            raise ParseError("a text in its header is longer than any honest one")
        return self._read(length)

    def _number(self, width: int) -> int:
        return int.from_bytes(self._read(width), "little")

    def _skip(self, size: int) -> None:
        while size > 0:
            size -= len(self._read(min(size, 1 << 18)))

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size) if size <= self._left else b""
        if len(data) < size:
            raise ParseError("it ends within its header")
        self._left -= size
        return data


def check_tflite(head: bytes, size: int) -> None:
    """Hold a FlatBuffer's root table to lie within the file. Raises ParseError."""
    root = int.from_bytes(head[:4], "little")
    if head[4:8] != b"TFL3":
        raise ParseError("it does not start as TensorFlow Lite")
    if not 8 <= root <= size - 4:
        raise ParseError("its first table lies outside of the file")
