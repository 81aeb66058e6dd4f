"""A layer in another compression, for ``forcedCompression``. The tar in it stays, so does its diff id.

gzip is ours (see gzips.py); zstd is the ``zstd`` program: one release of it gives the same bytes for any
number of threads.
"""

from __future__ import annotations

import gzip
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import anyio.to_thread

from embedded_engine.runtime.gzips import compress
from embedded_engine.runtime.port import Compression, Facts, LayerBlob, RuntimeFailure
from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.state import State

_LAYER = "application/vnd.oci.image.layer.v1.tar"
MEDIA_TYPES = {"gzip": f"{_LAYER}+gzip", "zstd": f"{_LAYER}+zstd", "uncompressed": _LAYER}
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Recompression:
    """Makes layers in the compression asked for, once each."""

    state: State
    runner: Runner
    facts: Facts

    async def of(self, layer: LayerBlob, wanted: Compression) -> LayerBlob:
        """``layer`` itself if it is so already. Raises RuntimeFailure."""
        if not wanted or compression_of(layer.media_type) == wanted:
            return layer
        return self._remembered(layer, wanted) or await self._make(layer, wanted)

    def _remembered(self, layer: LayerBlob, wanted: str) -> LayerBlob | None:
        fact = self.facts.fact(f"layer-{wanted}", layer.diff_id)
        if not isinstance(fact, dict) or not (blob := self.state.blob(str(fact["digest"]))).exists():
            return None
        size = cast(int, fact["size"])
        return LayerBlob(layer.diff_id, str(fact["digest"]), size, blob, MEDIA_TYPES[wanted])

    async def _make(self, layer: LayerBlob, wanted: str) -> LayerBlob:
        blobs = self.state.blobs / "sha256"
        with tempfile.TemporaryDirectory(dir=blobs, prefix=".new-") as name:
            raw = await self._raw(layer, Path(name) / "raw")
            made = Path(name) / wanted
            if wanted == "zstd":
                await self.runner.run(["zstd", "-q", "-3", "-T0", "-f", "-o", str(made), str(raw)])
            else:
                await anyio.to_thread.run_sync(_gzipped if wanted == "gzip" else _linked, raw, made)
            digest, size = await anyio.to_thread.run_sync(_digest, made)
            if wanted == "uncompressed" and digest != layer.diff_id:
                raise RuntimeFailure(f"the layer {layer.digest[:19]} in the engine's store is damaged")
            made.chmod(0o644)
            made.replace(self.state.blob(digest))
        self.facts.remember(f"layer-{wanted}", layer.diff_id, {"digest": digest, "size": size})
        return LayerBlob(layer.diff_id, digest, size, self.state.blob(digest), MEDIA_TYPES[wanted])

    async def _raw(self, layer: LayerBlob, target: Path) -> Path:
        """The tar of a layer as a file."""
        kind = compression_of(layer.media_type)
        if kind == "uncompressed":
            return layer.path
        if kind == "zstd":
            await self.runner.run(["zstd", "-q", "-d", "-f", "-o", str(target), str(layer.path)])
        else:
            await anyio.to_thread.run_sync(_unpacked, layer.path, target)
        return target


def compression_of(media_type: str) -> Compression:
    """What a layer's media type (OCI's or Docker's) says of its compression."""
    if media_type.endswith(("+gzip", ".gzip")):
        return "gzip"
    return "zstd" if media_type.endswith(("+zstd", ".zstd")) else "uncompressed"


def _unpacked(source: Path, target: Path) -> None:
    try:
        with gzip.open(source) as stream, target.open("wb") as out:
            while piece := stream.read(_CHUNK):
                out.write(piece)
    except (EOFError, gzip.BadGzipFile) as error:
        raise RuntimeFailure(
            f"the layer {source.name[:12]} in the engine's store is damaged: {error}"
        ) from error


def _gzipped(raw: Path, target: Path) -> None:
    with target.open("wb") as out:
        compress(_pieces(raw), out)


def _linked(raw: Path, target: Path) -> None:
    if raw.parent != target.parent:  # a blob: it stays
        target.hardlink_to(raw)
    else:
        raw.replace(target)


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            yield piece


def _digest(file: Path) -> tuple[str, int]:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"sha256:{digest}", file.stat().st_size
