"""A cache in a registry repository: one tagged manifest, read blob by blob, written by ``skopeo copy``.

A registry can't compare and set a tag. So a writer reads what is there right before it writes, and again a
while after; if another writer came between, what both know is merged and written again (exporting.py loops
until what is there holds all that is ours). Blobs are only ever added.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from embedded_engine.cache.index import Blob, CacheFault
from embedded_engine.cache.places import REGISTRY
from embedded_engine.cache.proxy import Proxy
from embedded_engine.runtime import oci
from embedded_engine.runtime.logins import host_of, is_loopback
from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.runtime.process import Runner, with_options

_SETTLE_S = 0.5


@dataclass(slots=True)
class RegistryPlace:
    """See places.Place. Credentials are the user's auth files (containers-auth.json(5))."""

    location: str  # host/repository:tag
    runner: Runner
    policy: tuple[str, ...] = ()
    _lock: anyio.Lock = field(default_factory=anyio.Lock)
    _proxy: Proxy | None = None
    _image: int | None = None

    @property
    def shown(self) -> str:
        """See Place."""
        return REGISTRY + self.location

    async def manifest(self) -> bytes | None:
        """See Place."""
        async with self._lock:
            return await anyio.to_thread.run_sync(self._manifest)

    async def fetch(self, blob: Blob, target: Path) -> None:
        """See Place."""

        def get() -> None:
            if self._proxy is None or self._image is None:
                self._open()
            if self._proxy is None or self._image is None:
                raise CacheFault(f"{self.shown} is not there any more")
            try:
                self._proxy.blob(self._image, blob, target)
            except CacheFault:
                self._closed()  # after a fault the protocol is out of step
                raise

        async with self._lock:
            await anyio.to_thread.run_sync(get)

    async def give(self, blobs: Iterable[Blob], files: Path) -> int:
        """See Place: nothing; Skopeo sends what lacks, together with the manifest."""
        return 0

    async def replace(self, old: bytes | None, new: bytes, own: Mapping[str, bytes], files: Path) -> bool:
        """See Place."""
        for data in (*own.values(), new):
            oci.put_blob(files, data)
        if await self.manifest() != old:
            return False
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(dir=files.parent) as name:
            oci.write_layout(Path(name), new)
            argv = ["skopeo", *self.policy, "copy", "--quiet", "--preserve-digests", *self._tls("--dest-")]
            shared = f"--src-shared-blob-dir={files}"
            try:
                await self.runner.run([*argv, shared, f"oci:{name}", self.shown])
            except RuntimeFailure as failure:
                raise CacheFault(f"{self.shown}: {failure}", detail=failure.detail) from failure
        # who read before we wrote has written by then, and shows when the caller reads again
        await anyio.sleep(max(_SETTLE_S, min(10.0, 1.5 * (time.monotonic() - begin))))
        return True

    async def close(self) -> None:
        """See Place."""
        async with self._lock:
            self._closed()

    def _manifest(self) -> bytes | None:
        self._closed()  # an open image is the one that was there when it was opened
        self._open()
        if self._proxy is None or self._image is None:
            return None
        return self._proxy.manifest(self._image)

    def _open(self) -> None:
        self._closed()
        argv = ["skopeo", *self.policy, "experimental-image-proxy", *self._tls("--")]
        self._proxy = Proxy(with_options(argv, self.runner.options()), self.runner.environ, self.shown)
        try:
            self._image = self._proxy.open(self.shown)
        except CacheFault:
            self._closed()
            raise

    def _closed(self) -> None:
        if self._proxy is not None:
            self._proxy.close()
        self._proxy = self._image = None

    def _tls(self, prefix: str) -> list[str]:
        return [f"{prefix}tls-verify=false"] if is_loopback(host_of(self.location)) else []
