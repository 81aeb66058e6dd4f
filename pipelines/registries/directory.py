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
from pipelines.registries.port import UploadSessions


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
    async def open(self, sessions: UploadSessions | None = None) -> AsyncIterator[OpenLayout]:
        """Nothing has to be opened; a copy that was cut begins anew, for it takes seconds."""
        del sessions
        yield OpenLayout(self.layout)

    async def repository_exists(self) -> bool:
        """Whether it is a layout already."""
        return ImageLayout.is_layout(self.layout.directory)

    async def make_repository(self) -> bool:
        """Make the layout where there is none."""
        if ImageLayout.is_layout(self.layout.directory):
            return False
        await to_thread.run_sync(ImageLayout.create, self.layout.directory)
        return True


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

    async def mount_blob(self, blob: Descriptor, origin: str) -> bool:
        """See ``OpenRegistry``. A layout is one repository: there is nowhere to take it from."""
        del blob, origin
        return False

    async def download_blob(self, blob: Descriptor, path: Path) -> None:
        """See ``OpenRegistry``."""
        await to_thread.run_sync(self.layout.copy_blob, blob, path)

    async def attach(self, referrer: Manifest) -> None:
        """See ``OpenRegistry``. It becomes an entry of ``index.json`` without a name."""
        await to_thread.run_sync(self.layout.attach, referrer)

    async def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """See ``OpenRegistry``."""
        return await to_thread.run_sync(self.layout.referrers, digest)

    async def check_write(self) -> None:
        """See ``OpenRegistry``."""
        await to_thread.run_sync(self.layout.check_writable)

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
