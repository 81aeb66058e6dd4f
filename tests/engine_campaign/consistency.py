"""Whether a state directory that nobody works on agrees with itself: every name stands for what it says.

SQLite, containers-storage, blobs and trees are read here without the engine's own checks, but for the tree
store's format, which is taken from it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from embedded_engine.entries import DirEntry, FileEntry, TreeError
from embedded_engine.operations import TreeId
from embedded_engine.trees import Trees
from tests.engine_campaign.remains import Home, containers, files

_HEX = 64


def problems(home: Home) -> list[str]:
    """Everything that is wrong; empty if all is well. Reads every byte that the state holds."""
    found = [
        *(f"working container {name} is left" for name in containers(home)),
        *(f"{path} is left" for path in files(home)),
        *_storage(home.state / "storage"),
        *_blobs(home.state / "blobs" / "sha256"),
    ]
    rows = list(_rows(home.state / "engine.sqlite", found))
    snapshots = {snapshot for snapshot, _ in rows if snapshot}
    images = _index(home.state / "storage" / "overlay-images" / "images.json")
    # a tool that is killed leaves an image without its manifest; nothing may name it
    present = {one["id"] for one in images if "manifest" in (one.get("big-data-names") or ())}
    found += [f"a stored operation names image {one[:12]}, which is gone" for one in snapshots - present]
    found += _layers(home, sorted(present))
    found += _trees(home.state, {tree for _, trees in rows for tree in trees})
    return found


def _rows(file: Path, found: list[str]) -> Iterator[tuple[str, list[str]]]:
    """(snapshot, trees) of every stored operation."""
    database = sqlite3.connect(file)
    try:
        (answer,) = database.execute("PRAGMA integrity_check").fetchone()
        if answer != "ok":
            found.append(f"{file.name}: {answer}")
        for snapshot, tree, mounts in database.execute("SELECT snapshot, tree, mounts FROM operation"):
            yield snapshot or "", [*([tree] if tree else []), *(one for _, one in json.loads(mounts))]
    finally:
        database.close()


def _index(file: Path) -> list[dict[str, object]]:
    return json.loads(file.read_text() or "[]") if file.exists() else []


def _storage(storage: Path) -> Iterator[str]:
    """Every image's layers are there, whole, and have their directories."""
    layers = {str(one["id"]): one for one in _index(storage / "overlay-layers" / "layers.json")}
    for identity, layer in layers.items():
        if dict(layer.get("flags") or {}).get("incomplete"):  # type: ignore[call-overload]  # JSON
            yield f"layer {identity[:12]} is marked as incomplete"
        if not (storage / "overlay" / identity / "diff").is_dir():
            yield f"layer {identity[:12]} has no directory"
    for image in _index(storage / "overlay-images" / "images.json"):
        layer_id = str(image.get("layer") or "")
        while layer_id:
            if layer_id not in layers:
                yield f"image {str(image['id'])[:12]} needs layer {layer_id[:12]}, which is gone"
                break
            layer_id = str(layers[layer_id].get("parent") or "")


def _layers(home: Home, images: list[str]) -> Iterator[str]:
    """Read every layer back as it left storage; its bytes must have the digest by which it is known."""
    with tempfile.TemporaryDirectory(dir=home.state.parent) as name:
        directory = Path(name)
        for image in images:
            command = [
                *("skopeo", "--insecure-policy", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers"),
                f"--dest-shared-blob-dir={directory / 'raw'}",
                _in_storage(home, image),
                f"oci:{directory / 'layout'}",
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            if done.returncode:
                yield f"image {image[:12]} cannot be read back: {done.stderr.strip()[-300:]}"
        yield from _blobs(directory / "raw" / "sha256")


def _in_storage(home: Home, image: str) -> str:
    options = "overlay.skip_mount_home=true"
    return f"containers-storage:[overlay@{home.state / 'storage'}+{home.runroot}:{options}]@{image}"


def _blobs(directory: Path) -> Iterator[str]:
    for blob in sorted(directory.glob("*")) if directory.is_dir() else ():
        if not blob.name.startswith(".") and _sha256(blob) != blob.name:
            yield f"blob {blob.name[:12]} has other content than its name says"


def _trees(state: Path, wanted: set[str]) -> Iterator[str]:
    for blob in (state / "trees" / "files").glob("*/*"):
        if _sha256(blob) != blob.name[:_HEX]:
            yield f"stored file {blob.name[:12]} has other content than its name says"
    trees = Trees.open(state)
    try:
        for tree in sorted(wanted):
            try:
                yield from _content(trees, trees.get(TreeId(tree)), tree)
            except TreeError as error:
                yield f"tree {tree[:12]}: {error}"
        for checkout in (state / "trees").iterdir():
            if len(checkout.name) == _HEX:
                yield from _checkout(checkout, trees.get(TreeId(checkout.name)))
    finally:
        trees.close()


def _content(trees: Trees, tree: DirEntry, name: str) -> Iterator[str]:
    for child in tree.children.values():
        if isinstance(child, DirEntry):
            yield from _content(trees, child, name)
        elif isinstance(child, FileEntry):
            trees.blobs.content(child)  # raises TreeError


def _checkout(directory: Path, tree: DirEntry) -> Iterator[str]:
    """The files of a checkout are the tree's, no more and no less."""
    if {path.name for path in directory.iterdir()} != set(tree.children):
        yield f"checkout {directory}: other names than in the tree"
        return
    for name, child in tree.children.items():
        path = directory / name
        if isinstance(child, DirEntry):
            yield from _checkout(path, child)
        elif isinstance(child, FileEntry) and _sha256(path) != child.sha256:
            yield f"checkout {path}: other content than in the tree"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
