"""The built image's layers as scanners see them: what each holds, what a later one deleted, the history.

Read from the OCI layout on our side of the engine, as streams: nothing is unpacked to disk and nothing of the
image is run. Follows the OCI image specification v1.1 ("Image Layer Filesystem Changeset", whiteouts too).
What a layer holds is kept in the layout's directory under its digest, so that no layer is listed twice.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from pipelines.registries.errors import RegistryError
from pipelines.scanners.layer_listing import KINDS, DamagedLayer, Row, ended, listing, read_files
from pipelines.scanners.port import CouldNotLookError
from pipelines.values import JSON

if TYPE_CHECKING:
    from pipelines.release_image import StoredImage

KEPT: Final = ".scans"
"""Where listings and answers are kept, in the layout's directory."""
MOST_ENTRIES: Final = 1_000_000
"""In all layers together; an image with more is not looked at, so that memory stays small."""


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """A file, directory or link in one layer; ``path`` begins with a slash."""

    path: str
    kind: str
    """file, directory, link, hard link, device, fifo."""
    mode: int
    uid: int
    gid: int
    size: int
    target: str
    """What a link points at; of a device its numbers."""
    capabilities: bool
    """Whether it has ``security.capability``, the extended attribute."""
    layer: str
    """The digest of its layer."""
    index: int
    """The layer's number, from 1, the base's first."""
    number: int
    """How manieth it is in its layer, from 0."""
    deleted_by: int | None
    """The number of the layer that deletes or replaces it; None: it is in the final file system."""
    replaced: bool = False
    """Whether that layer has something else at the same path."""

    @property
    def fate(self) -> str:
        """``deleted in layer 4``, for a finding; "" for what is visible."""
        if self.deleted_by is None:
            return ""
        return f"{'replaced' if self.replaced else 'deleted'} in layer {self.deleted_by}"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its blob, the digest of what it unpacks to, and the history's line for it."""

    digest: str
    size: int
    diff_id: str
    created_by: str
    path: Path


class ImageLayers:
    """The layers and the configuration of an image in a layout. Its methods block: call them in a thread."""

    def __init__(self, image: StoredImage) -> None:
        """Read the configuration. Raises CouldNotLookError where it is not one of an image."""
        try:
            self.config: Mapping[str, Any] = image.config  # Any: foreign JSON
            blobs, diff_ids = image.image.layers, image.diff_ids
            paths = [image.layout.path(blob.digest) for blob in blobs]
        except RegistryError as err:
            raise CouldNotLookError(f"the image's configuration: {err}") from err
        if len(blobs) != len(diff_ids):
            raise CouldNotLookError(f"the image has {len(blobs)} layers and {len(diff_ids)} diff ids")
        made = [str(entry.get("created_by") or "") for entry in self.history if not entry.get("empty_layer")]
        made += [""] * (len(blobs) - len(made))
        self.layers: tuple[Layer, ...] = tuple(
            Layer(blob.digest, blob.size, diff_id, line, path)
            for blob, diff_id, line, path in zip(blobs, diff_ids, made, paths, strict=False)
        )
        self._walking = threading.RLock()
        self.kept: Path = image.layout.directory / KEPT

    @property
    def runtime(self) -> Mapping[str, Any]:
        """``config`` of the configuration: User, Env, Cmd, Labels… (Any: foreign JSON)."""
        found = self.config.get("config")
        return found if isinstance(found, dict) else {}

    @property
    def history(self) -> tuple[Mapping[str, Any], ...]:
        """How each layer and each empty one was made, the base's first. (Any: foreign JSON.)"""
        found = self.config.get("history")
        return tuple(one for one in found if isinstance(one, dict)) if isinstance(found, list) else ()

    @cached_property
    def digest(self) -> str:
        """What the layers and the configuration are known by: equal for equal images."""
        text = json.dumps([[layer.diff_id for layer in self.layers], self.config], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def entries(self) -> Iterator[LayerEntry]:
        """Everything in every layer, the last layer first, with what became of it.

        The scanners share it, each in a thread of its own, and one after the other: hundreds of thousands of
        entries are in memory once. Nobody waits longer for it: Python runs one of them at a time anyway.

        Raises:
            CouldNotLookError: a layer is damaged, or packed or made in a way that can't be read.
        """
        with self._walking:
            yield from self._entries()

    def _entries(self) -> Iterator[LayerEntry]:
        upper = _Upper()
        for index in range(len(self.layers), 0, -1):
            layer = self.layers[index - 1]
            added: list[tuple[str, str]] = []
            for number, (row, last) in enumerate(self._rows(layer)):
                upper.count()
                if not row.is_whiteout:
                    yield _entry(row, layer, (index, number), *upper.fate(row, index, last=last))
                if last and index > 1:  # below the first layer nobody asks
                    added.append((row.kind, row.path))
            for kind, path in added:
                upper.add(kind, path, index)

    def read(self, index: int, numbers: Collection[int]) -> Iterator[tuple[int, IO[bytes]]]:
        """The content of the files with these numbers in layer ``index``, each read before the next comes.

        Raises:
            CouldNotLookError: the layer can't be read.
        """
        layer = self.layers[index - 1]
        try:
            yield from read_files(layer.path, layer.size, numbers)
        except DamagedLayer as err:
            raise CouldNotLookError(f"layer {index} ({layer.digest[:19]}): {err}") from err

    def recall(self, name: str) -> dict[str, JSON] | None:
        """What ``remember`` kept under ``name``; None when there is nothing, or nothing that can be read."""
        try:
            found = json.loads((self.kept / f"{name}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def remember(self, name: str, answer: Mapping[str, JSON]) -> None:
        """Keep a complete answer; ``name`` says of what, by which rules. A full disk costs time later."""
        _write(self.kept / f"{name}.json", json.dumps(answer).encode())

    def _rows(self, layer: Layer) -> Iterator[tuple[Row, bool]]:
        try:
            rows = listing(layer.path, layer.size, layer.diff_id, self.kept)
        except DamagedLayer as err:
            raise CouldNotLookError(f"the layer {layer.digest[:19]}: {err}") from err
        yield from ended(rows)


def _entry(
    row: Row, layer: Layer, place: tuple[int, int], deleted_by: int | None, replaced: bool
) -> LayerEntry:
    return LayerEntry(
        row.path,
        KINDS[row.kind],
        row.mode,
        row.uid,
        row.gid,
        row.size,
        row.target,
        row.capabilities,
        layer.digest,
        *place,
        deleted_by,
        replaced,
    )


class _Upper:
    """What the layers above remove from those below, or put in its place."""

    def __init__(self) -> None:
        self._removed: dict[str, int] = {}
        """Whiteouts: the path and everything below it is gone."""
        self._put: dict[str, int] = {}
        """Files and links: the path is replaced, and everything below it is gone."""
        self._directories: dict[str, int] = {}
        self._opaque: dict[str, int] = {}
        """Everything below the path is gone, the directory itself is not."""
        self._entries = 0

    def count(self) -> None:
        """One more entry. Raises CouldNotLookError when there are too many."""
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            raise CouldNotLookError(f"the image's layers have more than {MOST_ENTRIES} entries")

    def fate(self, row: Row, index: int, *, last: bool) -> tuple[int | None, bool]:
        """Which layer is the first to delete or replace the entry, and whether it is replaced."""
        if not last:
            return index, True  # the same path comes again in its own layer
        found = [(by, True) for at in (self._put, self._directories) if (by := at.get(row.path)) is not None]
        found += [(by, False) for by in [self._removed.get(row.path)] if by is not None]
        above = row.path
        while above != "/":
            above = above.rpartition("/")[0] or "/"
            for removed in (self._removed, self._put, self._opaque):
                if (by := removed.get(above)) is not None:
                    found.append((by, False))
        # A layer that removes a path and brings it anew replaces it.
        return min(found, key=lambda one: (one[0], not one[1]), default=(None, False))

    def add(self, kind: str, path: str, index: int) -> None:
        """An entry of a layer whose own entries were all asked about; the last layer comes first."""
        kinds = {"w": self._removed, "o": self._opaque, "d": self._directories}
        kinds.get(kind, self._put)[path] = index


def _write(path: Path, body: bytes) -> None:
    temporary = path.with_suffix(f".{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(exist_ok=True)
        temporary.write_bytes(body)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
