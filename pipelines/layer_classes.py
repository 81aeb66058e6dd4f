"""What kind of content a layer brings: told by the files in it, listed once for each layer and kept."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Final

from pipelines.registries.descriptors import Descriptor
from pipelines.registries.layout import ImageLayout


class LayerClass(StrEnum):
    """The kinds, from what changes least to what changes most."""

    BASE = "base"
    SYSTEM = "system"
    DEPENDENCIES = "dependencies"
    WEIGHTS = "weights"
    CODE = "code"
    OTHER = "other"
    """A layer that can't be listed: packed in a way that Python can't read, or damaged."""


KEPT: Final = ".classes"
"""Where the findings are, in the layout's directory: a small file for each layer's digest."""
_VERSION: Final = 1
_STEP: Final = 1 << 18

_WEIGHTS = re.compile(
    r"\.(safetensors|onnx|pth?|gguf|ggml|keras|tflite|ckpt|joblib|h5|hdf5|ftz|pdparams|mlmodel|engine|cbm|ubj"
    r"|plzma|pmml|skops)$|huggingface/hub/|/models--[^/]+/|torch/hub/|(^|/)variables\.data-|\.data-\d+-of-\d+$",
    re.IGNORECASE,
)
"""Formats and caches that hold weights and nothing else."""
_OFTEN_WEIGHTS = re.compile(r"\.(npz|npy|pkl|pickle|bin|model|msgpack)$", re.IGNORECASE)
_AT_TIMES_WEIGHTS = re.compile(r"\.(xz|lzma|gz|bz2|zst|zip|pb)$", re.IGNORECASE)
"""By place or name only: system files and the tests of libraries are called so, too."""
_NAMED_MODEL = re.compile(r"model|weight|embedding|checkpoint|vocab|classifier", re.IGNORECASE)
_PACKAGES = re.compile(r"(^|/)(site-packages|dist-packages|node_modules|conda|miniconda3)/")
_SYSTEM = re.compile(
    r"(usr/(?!src/)|var/(?!task/|www/)|(lib(x?32|64|exec)?|s?bin|etc|boot|run|dev|proc|sys|tmp)/)"
)
"""The system's directories, without those that people put their code into."""


def class_of(path: str) -> LayerClass:
    """The kind of one file; ``path`` is seen from the root of the image."""
    in_packages = _PACKAGES.search(path) is not None
    in_system = not in_packages and _SYSTEM.match(path) is not None
    if _WEIGHTS.search(path) or (not in_system and _may_be_weights(path, in_packages=in_packages)):
        return LayerClass.WEIGHTS
    if in_packages:
        return LayerClass.DEPENDENCIES
    return LayerClass.SYSTEM if in_system else LayerClass.CODE


def _may_be_weights(path: str, *, in_packages: bool) -> bool:
    named = _NAMED_MODEL.search(path.rpartition("-packages/")[2]) is not None
    if _OFTEN_WEIGHTS.search(path):
        return named or not in_packages
    return named and _AT_TIMES_WEIGHTS.search(path) is not None


@dataclass(frozen=True, slots=True)
class Contents:
    """What the files of a layer are, by their unpacked bytes."""

    sizes: Mapping[LayerClass, int]
    is_root: bool = False
    """Whether it is the root of a distribution, and so the first layer of a base image."""

    @property
    def kind(self) -> LayerClass:
        """The class with the most bytes; of a layer without files (a directory, a removal): code."""
        if not self.sizes:
            return LayerClass.CODE
        return max(self.sizes, key=lambda one: self.sizes[one])


def layer_classes(
    layout: ImageLayout, layers: tuple[Descriptor, ...], base: int | None
) -> tuple[LayerClass, ...]:
    """The class of each layer. ``base`` says how many of the first are the base image's, where it is known.

    Blocks for as long as unknown layers take to be listed (about 100 MB of content a second): call it in
    a thread. Layers of the base image are not listed.
    """
    if base is None:
        base = 1 if layers and contents(layout, layers[0]).is_root else 0
    own = (contents(layout, layer).kind for layer in layers[base:])
    return (LayerClass.BASE,) * min(base, len(layers)) + tuple(own)


def contents(layout: ImageLayout, layer: Descriptor) -> Contents:
    """What is in a layer; from what was kept of an earlier look, else by listing it."""
    kept = layout.directory / KEPT / f"{layer.digest.removeprefix('sha256:')}.json"
    try:
        found = json.loads(kept.read_text())
        if found["version"] == _VERSION:
            return Contents(
                {LayerClass(name): int(size) for name, size in found["sizes"].items()}, bool(found["is_root"])
            )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass  # not looked at yet, or by another version: look
    try:
        listed = _listed(layout, layer)
    except (OSError, tarfile.TarError, zlib.error, EOFError, UnicodeError):
        return Contents({LayerClass.OTHER: layer.size})  # not kept: it may be readable the next time
    kept.parent.mkdir(exist_ok=True)
    temporary = kept.with_suffix(f".{secrets.token_hex(4)}")
    temporary.write_text(
        json.dumps({"version": _VERSION, "sizes": dict(listed.sizes), "is_root": listed.is_root})
    )
    temporary.replace(kept)
    return listed


def _listed(layout: ImageLayout, layer: Descriptor) -> Contents:
    """Read the layer's tar until its class is certain: the rest can't outweigh what was seen."""
    path = layout.path(layer.digest)
    sizes: Counter[LayerClass] = Counter()
    is_root = False
    with path.open("rb") as file:
        enough = unpacked_size(file, layer.size) // 2
        with tarfile.open(fileobj=_reader(file), mode="r|", bufsize=_STEP) as archive:
            for name, size in _files(archive):
                is_root = is_root or name in ("etc/os-release", "usr/lib/os-release", "etc/passwd")
                kind = class_of(name)
                sizes[kind] += size
                if sizes[kind] > enough:
                    break
    return Contents(dict(sizes), is_root)


def _files(archive: tarfile.TarFile) -> Iterator[tuple[str, int]]:
    for member in archive:
        archive.members = []  # type: ignore[attr-defined]  # it keeps all of them: a layer may have a million
        if not member.isdir():
            yield member.name.removeprefix("./").lstrip("/"), member.size if member.isreg() else 0


def unpacked_size(file: IO[bytes], packed: int) -> int:
    """The bytes of a layer's tar, by the trailer of its gzip file (RFC 1952, ISIZE), or of a plain tar.

    The trailer holds the size modulo 4 GiB, and of the last member only: what can't be, is not believed, and
    the packed size is the answer times four.
    """
    magic = file.read(2)
    if magic != b"\x1f\x8b":
        file.seek(0)
        return packed
    file.seek(-4, os.SEEK_END)
    told = int.from_bytes(file.read(4), "little")
    file.seek(0)
    return told if packed <= told and packed < 1 << 30 else packed * 4


def _reader(file: IO[bytes]) -> IO[bytes]:
    magic = file.read(2)
    file.seek(0)
    return io.BufferedReader(_Gunzip(file), _STEP) if magic == b"\x1f\x8b" else file


class _Gunzip(io.RawIOBase):
    """A gzip file (of several members, too), unpacked in big steps: twice as fast as Python's own here."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def readable(self) -> bool:
        return True

    def readinto(self, target: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed: any Buffer
        while True:
            if self._unpacker.eof:
                rest = self._unpacker.unused_data or self._file.read(_STEP)
                if not rest.strip(b"\0"):  # the end, or padding
                    return 0
                self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
            else:
                rest = self._unpacker.unconsumed_tail or self._file.read(_STEP)
                if not rest:
                    raise EOFError("the layer ends too early")
            piece = self._unpacker.decompress(rest, len(target))
            if piece:
                target[: len(piece)] = piece
                return len(piece)
