"""A snapshot's layers as compressed blobs: those of a base image as they came, ours made once and remembered.

containers-storage gives a layer back as the raw tar it was committed as (times constant, owners numeric: see
working.commit_argv); here the traces of mounts that `bud` leaves are dropped and it is compressed. Only
layers not yet known travel: Skopeo skips a blob that is there, so an empty file stands in for each known one.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import anyio
import anyio.to_thread

from embedded_engine.runtime.gzips import Compressed, compress
from embedded_engine.runtime.images import LAYER_FACT
from embedded_engine.runtime.port import Compression, Facts, LayerBlob, RuntimeFailure, Snapshot
from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.recompress import Recompression
from embedded_engine.runtime.state import State
from embedded_engine.runtime.tar_filter import filtered

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(slots=True)
class Layers:
    """Makes layer blobs; one at a time for each snapshot, answered from memory afterwards."""

    state: State
    runner: Runner
    facts: Facts
    policy: Sequence[str] = ()
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    known: dict[Snapshot, tuple[LayerBlob, ...]] = field(default_factory=dict)

    async def of(self, snapshot: Snapshot, forced: Compression = "") -> tuple[LayerBlob, ...]:
        """The layers, base first, all in one compression if that is ``forced``. Raises RuntimeFailure."""
        layers = await self._as_they_are(snapshot)
        if not forced:
            return layers
        recompression = Recompression(self.state, self.runner, self.facts)
        async with self.lock:  # one after the other: each uses all cores
            return tuple([await recompression.of(layer, forced) for layer in layers])

    async def _as_they_are(self, snapshot: Snapshot) -> tuple[LayerBlob, ...]:
        if snapshot in self.known:
            return self.known[snapshot]
        async with self.lock:
            if snapshot not in self.known:
                self.known[snapshot] = await self._made(snapshot)
        return self.known[snapshot]

    async def _made(self, snapshot: Snapshot) -> tuple[LayerBlob, ...]:
        diff_ids = diff_ids_of(self.state, snapshot)
        lacking = [one for one in dict.fromkeys(diff_ids) if self._remembered(one) is None]
        if lacking:
            await self._make(snapshot, lacking, set(diff_ids) - set(lacking))
        found = [self._remembered(one) for one in diff_ids]
        if None in found:
            raise RuntimeFailure(f"a layer of {snapshot[:12]} could not be read back from storage")
        return tuple(cast(list[LayerBlob], found))

    def _remembered(self, diff_id: str) -> LayerBlob | None:
        fact = self.facts.fact(LAYER_FACT, diff_id)
        if not isinstance(fact, dict):
            return None
        blob = self.state.blob(str(fact["digest"]))
        size = cast(int, fact["size"])
        if not blob.exists():
            return None
        if blob.stat().st_size != size:  # it is made anew; a push checks the bytes as well
            blob.unlink(missing_ok=True)
            return None
        return LayerBlob(str(fact["diff_id"]), str(fact["digest"]), size, blob, str(fact["mediaType"]))

    async def _make(self, snapshot: Snapshot, lacking: Sequence[str], known: set[str]) -> None:
        with tempfile.TemporaryDirectory(dir=self.state.temp) as name:
            directory = Path(name)
            raw = directory / "raw" / "sha256"
            raw.mkdir(parents=True)
            for diff_id in known:
                (raw / diff_id.removeprefix("sha256:")).touch()
            await self.runner.run(raw_layers_argv(snapshot, directory, self.policy))
            for diff_id in lacking:  # one after the other: each uses all cores
                made = await self._packed(raw / diff_id.removeprefix("sha256:"))
                self.facts.remember(
                    LAYER_FACT,
                    diff_id,
                    {"diff_id": made.diff_id, "digest": made.digest, "size": made.size, "mediaType": GZIP},
                )

    async def _packed(self, raw: Path) -> Compressed:
        """Filter and compress one raw layer into the blob directory."""

        def pack() -> Compressed:
            with tempfile.NamedTemporaryFile(
                dir=self.state.blobs / "sha256", prefix=".new-", delete=False
            ) as out:
                fresh = Path(out.name)
                with contextlib.ExitStack() as undo:
                    undo.callback(fresh.unlink, missing_ok=True)
                    with raw.open("rb", buffering=1 << 20) as source:
                        made = compress(filtered(source), out)  # type: ignore[arg-type]  # a binary file
                    out.flush()
                    fresh.chmod(0o644)
                    fresh.replace(self.state.blob(made.digest))
                    undo.pop_all()
            raw.unlink()
            return made

        return await anyio.to_thread.run_sync(pack)


def diff_ids_of(state: State, snapshot: Snapshot) -> list[str]:
    """The raw layers of a snapshot, base first. Raises RuntimeFailure if it is not in storage."""
    try:
        return list(state.image_config(snapshot)["rootfs"]["diff_ids"])
    except (FileNotFoundError, KeyError) as error:
        raise RuntimeFailure(f"snapshot {snapshot[:12]} is not in storage any more") from error


def raw_layers_argv(snapshot: Snapshot, directory: Path, policy: Sequence[str]) -> list[str]:
    """The command that writes the raw layers that are not yet in ``directory``/raw."""
    options = [
        "--quiet",
        "--dest-oci-accept-uncompressed-layers",
        f"--dest-shared-blob-dir={directory / 'raw'}",
    ]
    return [
        "skopeo",
        *policy,
        "copy",
        *options,
        f"containers-storage:@{snapshot}",
        f"oci:{directory / 'layout'}",
    ]
