"""A layout directory as the place releases go to: what a run without a configured registry uses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from pipelines.registries.blob_source import CHUNK, BlobSource, verified_pieces
from pipelines.registries.descriptors import Descriptor, Manifest, is_digest
from pipelines.registries.layout import ImageLayout


@dataclass(frozen=True, slots=True)
class LayoutRegistry:
    """A layout behind the ``Registry`` port."""

    layout: ImageLayout
    shown: str = ""
    """How to name the directory to people, where the absolute path is too long."""

    @property
    def name(self) -> str:
        """The directory."""
        return self.shown or str(self.layout.directory)

    @property
    def is_directory(self) -> bool:
        """It is."""
        return True

    def reference(self, wanted: str) -> str:
        """``directory:tag`` or ``directory@digest``."""
        return f"{self.name}{'@' if is_digest(wanted) else ':'}{wanted}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[OpenLayout]:
        """Nothing has to be opened."""
        yield OpenLayout(self.layout)


@dataclass(frozen=True, slots=True)
class OpenLayout:
    """The port over a layout. Small files are read where we are, blobs are copied in a thread."""

    layout: ImageLayout

    async def has_blob(self, blob: Descriptor) -> bool:
        """See ``OpenRegistry``. A blob of another size is as good as none: it is written anew."""
        return self.layout.has_blob(blob)

    async def put_blob(self, source: BlobSource) -> int:
        """See ``OpenRegistry``."""
        blob, path = source.blob, source.path

        def copy() -> int:
            with path.open("rb") as file, self.layout.new_blob(blob) as target:
                for piece in verified_pieces(blob, path, iter(lambda: file.read(CHUNK), b"")):
                    target.write(piece)
            return blob.size

        return await to_thread.run_sync(copy)

    async def read_blob(self, digest: str, limit: int) -> bytes:
        """See ``OpenRegistry``."""
        return self.layout.read_blob(digest, limit)

    async def put_manifest(self, manifest: Manifest) -> None:
        """See ``OpenRegistry``."""
        self.layout.write_blob(manifest.body)

    async def read_manifest(self, reference: str) -> Manifest:
        """See ``OpenRegistry``."""
        return self.layout.read_manifest(reference)

    async def tag_digest(self, tag: str) -> str | None:
        """See ``OpenRegistry``."""
        found = self.layout.tags().get(tag)
        return found.digest if found else None

    async def tags(self) -> tuple[str, ...]:
        """See ``OpenRegistry``."""
        return tuple(self.layout.tags())

    async def tag(self, tag: str, manifest: Manifest) -> None:
        """See ``OpenRegistry``."""
        await to_thread.run_sync(self.layout.set_tag, tag, manifest)
