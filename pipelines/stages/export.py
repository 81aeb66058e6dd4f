"""Export: the built image out of the engine, into the layout that the push reads from."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

import dagger
from anyio import to_thread

from pipelines.errors import PushFailed
from pipelines.registries.archive import take_archive
from pipelines.registries.descriptors import Manifest
from pipelines.registries.errors import RegistryError
from pipelines.registries.layout import TEMPORARY, ImageLayout
from pipelines.release_image import BuiltImage
from pipelines.stages.engine_errors import engine_errors


async def export(image: dagger.Container, layout: ImageLayout) -> BuiltImage:
    """Take ``image`` into ``layout``. One that was taken before, and is still whole, is not exported again.

    Raises:
        PushFailed: the engine can't export it, or what it exported is not an image.
    """
    tarball = image.as_tarball()
    with engine_errors(PushFailed, "exporting the image"):
        memo = Memo.of(layout, await tarball.digest())
    manifest = await to_thread.run_sync(memo.recall)
    if manifest is not None:
        return BuiltImage(layout, manifest, exported=False)
    path = (layout.directory / f"{TEMPORARY}{secrets.token_hex(6)}.tar").absolute()
    try:
        with engine_errors(PushFailed, "exporting the image"):
            await tarball.export(str(path))
        manifest = await to_thread.run_sync(take_archive, path, layout)
        memo.remember(manifest)
    except RegistryError as err:
        raise PushFailed(f"what the engine exported can't be used: {err}", hint="build again") from err
    except OSError as err:
        raise PushFailed(f"{layout.directory}: {err.strerror}", hint="is the disk full?") from err
    finally:
        path.unlink(missing_ok=True)
    return BuiltImage(layout, manifest)


@dataclass(frozen=True, slots=True)
class Memo:
    """Which image an engine's tarball (by its digest) holds. Believed only while every blob is there."""

    layout: ImageLayout
    file: Path

    @classmethod
    def of(cls, layout: ImageLayout, key: str) -> Memo:
        """The memo of the tarball with the digest ``key``, whatever form the engine gives it."""
        name = hashlib.sha256(key.encode()).hexdigest()
        return cls(layout, layout.directory / ".exports" / f"{name}.json")

    def recall(self) -> Manifest | None:
        """The manifest, if the image is known and whole."""
        try:
            digest = str(json.loads(self.file.read_text())["manifest"])
            manifest = self.layout.read_manifest(digest)
            whole = all(self.layout.has_blob(blob) for blob in manifest.image().blobs)
        except (OSError, ValueError, LookupError, TypeError, RegistryError):
            return None
        return manifest if whole else None

    def remember(self, manifest: Manifest) -> None:
        """Note it, after all of its blobs are there."""
        self.file.parent.mkdir(exist_ok=True)
        temporary = self.file.with_suffix(f".{secrets.token_hex(4)}")
        temporary.write_text(json.dumps({"manifest": manifest.digest}))
        temporary.replace(self.file)
