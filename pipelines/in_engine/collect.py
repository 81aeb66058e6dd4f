"""What is in the image: OS packages, Python packages, weight files. One line of JSON on standard output.

Usage: python3 -m pipelines.in_engine.collect ROOT [--md5] [GLOB…]

``GLOB`` names weight files of this model that no well-known suffix tells; ``--md5`` asks for their MD5, too,
which is what DVC knows a file by. Scan and inventory both read the answer; they run this with the same
arguments, so an engine runs it once.
"""

from __future__ import annotations

import email.parser
import hashlib
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from pipelines.in_engine.os_package_lists import (
    apk_packages,
    dpkg_packages,
    rpm_packages,
    unread_database,
)
from pipelines.in_engine.rootfs import File, Problems, files, os_release, shipped_by_debian, tell
from pipelines.in_engine.weight_facts import facts_of
from pipelines.in_engine.weight_origin import cached_name, card_of, origin_of

WEIGHT_SUFFIXES = (
    ".safetensors",
    ".onnx",
    ".npz",
    ".npy",
    ".npz.xz",
    ".npz.gz",
    ".plzma",
    ".pt",
    ".pth",
    ".ckpt",
    ".pkl",
    ".pickle",
    ".pkl.gz",
    ".joblib",
    ".gguf",
    ".ggml",
    ".h5",
    ".hdf5",
    ".keras",
    ".tflite",
    ".ftz",
    ".ubj",
    ".cbm",
    ".mlmodel",
    ".msgpack",
    ".skops",
)

MD5 = "--md5"
POINTER = "git lfs pointer"
POINTER_START = b"version https://git-lfs.github.com/spec/"

MAGIC = (
    (b"\x93NUMPY", "npy"),
    (b"GGUF", "gguf"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x80\x02", "pickle"),
    (b"\x80\x03", "pickle"),
    (b"\x80\x04", "pickle"),
    (b"\x80\x05", "pickle"),
)


def main(arguments: list[str]) -> int:
    """Collect; the exit code is 1 when part of the image could not be read, so that no engine keeps it."""
    root, md5 = Path(arguments[0]), MD5 in arguments
    globs = [one for one in arguments[1:] if one != MD5]
    problems = Problems()
    owned = shipped_by_debian(root)
    python: list[dict[str, object]] = []
    weights: list[dict[str, object]] = []
    for file in files(root, problems):
        if file.name in ("METADATA", "PKG-INFO") or file.name.endswith(".egg-info"):
            python.extend(_distribution(file, owned, problems))
        elif _is_weights(named := _as_named(file), globs, owned):
            weights.extend(_weights(named, problems, md5))
    tell(
        {
            "os_release": os_release(root),
            "os_packages": [*dpkg_packages(root), *apk_packages(root), *rpm_packages(root, problems)],
            "other_package_database": unread_database(root),
            "python": python,
            "weights": weights,
            "problems": problems.told(),
        }
    )
    return 1 if problems.count else 0


def _distribution(file: File, owned: frozenset[str], problems: Problems) -> list[dict[str, object]]:
    """The distribution whose core metadata ``file`` is; none for what only has the name."""
    parent = file.path.rpartition("/")[0]
    is_dist = parent.endswith(".dist-info") and file.name == "METADATA"
    is_egg = (parent.endswith((".egg-info", "/EGG-INFO")) and file.name == "PKG-INFO") or (
        file.name.endswith(".egg-info")
    )
    if not (is_dist or is_egg):
        return []
    try:
        with file.open() as stream:
            head = stream.read().split(b"\n\n", 1)[0].decode("utf-8", "replace")
    except OSError as err:
        problems.add(file.path, err.strerror or err)
        return []
    metadata = email.parser.HeaderParser().parsestr(head)
    if not metadata["Name"] or not metadata["Version"]:
        problems.add(file.path, "no name or no version in the package's metadata")
        return []
    licences = [
        value.rpartition("::")[2].strip()
        for value in metadata.get_all("Classifier", [])
        if value.startswith("License ::")
    ]
    return [
        {
            "name": str(metadata["Name"]).strip(),
            "version": str(metadata["Version"]).strip(),
            "path": file.path if file.name.endswith(".egg-info") else parent,
            "licence_expression": str(metadata["License-Expression"] or "").strip(),
            "licence": str(metadata["License"] or "").strip().partition("\n")[0][:200],
            "licence_classifiers": [name for name in licences if name != "OSI Approved"],
            "debian": file.path in owned,
        }
    ]


def _is_weights(file: File, globs: list[str], owned: frozenset[str]) -> bool:
    """A file the model's configuration names, or one in a model format that isn't test data."""
    if any(fnmatchcase(file.path, glob) or fnmatchcase(file.path, f"*/{glob}") for glob in globs):
        return True
    parts = file.path.lower().split("/")
    if not parts[-1].endswith(WEIGHT_SUFFIXES) or file.path in owned:
        return False
    return "tests" not in parts and "test" not in parts


def _as_named(file: File) -> File:
    """The Hugging Face hub's cache keeps a file under its digest: then as the snapshot names it."""
    name = cached_name(file.path, file.real) if "/models--" in file.path else ""
    return File(name, file.real, file.size) if name else file


def _weights(file: File, problems: Problems, md5: bool) -> list[dict[str, object]]:
    """One weight file: its digest, and what its own header and its neighbours say of it."""
    try:
        with file.open() as stream:
            head = stream.read(48)
            digests = _digests(stream, ("sha256", "md5") if md5 else ("sha256",))
            kind = _format(file, head)
            facts = facts_of(stream, kind, file.size)
    except OSError as err:
        problems.add(file.path, err.strerror or err)
        return []
    if kind == POINTER:
        problems.add(file.path, "a Git LFS pointer instead of the file: run `git lfs pull` before the build")
    return [
        {
            "path": file.path,
            "size": file.size,
            "format": kind,
            **digests,
            "facts": facts,
            "hub": origin_of(file.path, file.real),
            "card": card_of(file.real),
        }
    ]


def _digests(stream: BinaryIO, names: tuple[str, ...]) -> dict[str, str]:
    made = {name: hashlib.new(name) for name in names}
    stream.seek(0)
    while data := stream.read(1 << 20):
        for one in made.values():
            one.update(data)
    return {name: one.hexdigest() for name, one in made.items()}


def _format(file: File, head: bytes) -> str:
    """The format by content where that tells, else by suffix."""
    if head.startswith(POINTER_START):
        return POINTER
    suffix = next((s for s in WEIGHT_SUFFIXES if file.path.lower().endswith(s)), "").lstrip(".")
    if suffix in ("safetensors", "onnx", "npz", "keras", "skops"):
        return suffix
    if suffix in ("pt", "pth", "ckpt") and head.startswith(b"PK\x03\x04"):
        return "torch zip"
    container = next((name for magic, name in MAGIC if head.startswith(magic)), "")
    if container in ("gzip", "bzip2", "xz", "zip") and suffix:
        return f"{suffix} in {container}" if not suffix.endswith(("gz", "xz")) else suffix
    return container or suffix or "unknown"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
