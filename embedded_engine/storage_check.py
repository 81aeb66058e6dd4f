"""Whether containers-storage is whole: its indexes can be read, each layer has its parents and directory.

Only names and indexes are looked at, some microseconds for each layer: that is what a broken disk, a copy
that was not finished or a hand leaves wrong most often. The bytes of layers are checked when they leave it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Index = list[dict[str, Any]]


def read_index(file: Path) -> Index:
    """An index file of storage. Raises ValueError if it is none."""
    document = json.loads(file.read_bytes() or b"[]")
    if document is None:  # as Go writes an empty list
        return []
    if not isinstance(document, list) or not all(isinstance(one, dict) and "id" in one for one in document):
        raise ValueError("it is no index of storage")
    return document


def is_whole(image: Mapping[str, Any]) -> bool:
    """Whether an image in the index was made to its end: its manifest is the last that storage notes."""
    return "manifest" in (image.get("big-data-names") or ())


def problem(storage: Path, driver: str) -> str:
    """What is wrong with the storage in this directory, "" if nothing is seen."""
    indexes: dict[str, Index] = {}
    for kind in ("images", "layers", "containers"):
        directory = storage / f"{driver}-{kind}"
        indexes[kind] = []
        for file in (directory / f"{kind}.json", directory / f"volatile-{kind}.json"):
            try:
                indexes[kind] += read_index(file) if file.exists() else []
            except ValueError as error:
                return f"{file.name}: {error}"
    layers = {str(one["id"]): one for one in indexes["layers"]}
    return _layers(storage, driver, layers) or _images(storage, driver, indexes["images"], layers)


def _layers(storage: Path, driver: str, layers: Mapping[str, Mapping[str, Any]]) -> str:
    for identity, layer in layers.items():
        directory = storage / driver / (identity if driver == "overlay" else f"dir/{identity}")
        inside = directory / "diff" if driver == "overlay" else directory
        if not inside.is_dir() and not (layer.get("flags") or {}).get("incomplete"):
            return f"the directory of layer {identity[:12]} is gone"
        parent = str(layer.get("parent") or "")
        if parent and parent not in layers:
            return f"layer {parent[:12]} is gone, which others stand on"
    return ""


def _images(
    storage: Path, driver: str, images: Iterable[Mapping[str, Any]], layers: Mapping[str, object]
) -> str:
    for image in images:
        identity, top = str(image["id"]), str(image.get("layer") or "")
        if top and top not in layers:
            return f"layer {top[:12]} is gone, which image {identity[:12]} needs"
        if is_whole(image) and not (storage / f"{driver}-images" / identity / "manifest").is_file():
            return f"the manifest of image {identity[:12]} is gone"
    return ""
