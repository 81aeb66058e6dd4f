"""The export takes an image out of the engine once, and believes its memo only while the image is whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

import anyio
import dagger
import pytest
from images import archive_of, built_image

from pipelines.errors import PushFailed
from pipelines.registries.layout import ImageLayout
from pipelines.release_image import BuiltImage
from pipelines.stages.export import export

pytestmark = pytest.mark.anyio


class FixedImage:
    """Stands for a container and for its tarball: what ``export`` asks of them, and how often."""

    def __init__(self, key: str, archive: Path) -> None:
        self.key = key
        self.archive = archive
        self.exports = 0

    def as_tarball(self) -> FixedImage:
        return self

    async def digest(self) -> str:
        return self.key

    async def export(self, path: str) -> str:
        self.exports += 1
        await anyio.to_thread.run_sync(shutil.copy, self.archive, path)
        return path


async def exported(image: FixedImage, layout: ImageLayout) -> BuiltImage:
    return await export(cast("dagger.Container", image), layout)


@pytest.fixture
def made(tmp_path: Path) -> BuiltImage:
    return built_image(ImageLayout.create(tmp_path / "made"))


@pytest.fixture
def image(tmp_path: Path, made: BuiltImage) -> FixedImage:
    return FixedImage("xxh3:abc", archive_of(made.layout, made.manifest, tmp_path / "a.tar"))


def leftovers(layout: ImageLayout) -> list[Path]:
    return [path for path in layout.directory.iterdir() if ".part" in path.name]


async def test_an_unchanged_image_is_exported_once(
    tmp_path: Path, made: BuiltImage, image: FixedImage
) -> None:
    layout = ImageLayout.create(tmp_path / "layout")
    first, second = await exported(image, layout), await exported(image, layout)
    assert image.exports == 1
    assert (first.exported, second.exported) == (True, False)
    assert first.digest == second.digest == made.digest
    assert not leftovers(layout)
    image.key = "xxh3:changed"
    await exported(image, layout)
    assert image.exports == 2


async def test_a_layout_that_lost_a_blob_gets_it_again(tmp_path: Path, image: FixedImage) -> None:
    layout = ImageLayout.create(tmp_path / "layout")
    built = await exported(image, layout)
    layout.path(built.image.layers[0].digest).write_bytes(b"short")
    again = await exported(image, layout)
    assert (image.exports, again.exported) == (2, True)
    assert all(layout.has_blob(blob) for blob in again.image.blobs)


async def test_a_broken_export_is_explained_and_not_remembered(tmp_path: Path, image: FixedImage) -> None:
    layout = ImageLayout.create(tmp_path / "layout")
    good = image.archive
    image.archive = tmp_path / "bad.tar"
    image.archive.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    with pytest.raises(PushFailed, match="can't be used"):
        await exported(image, layout)
    assert not leftovers(layout)
    image.archive = good
    assert (await exported(image, layout)).exported


async def test_cancelled_it_leaves_no_archive(tmp_path: Path, image: FixedImage) -> None:
    layout = ImageLayout.create(tmp_path / "layout")
    with anyio.CancelScope() as scope:

        async def interrupted(path: str) -> str:
            await anyio.Path(path).write_bytes(b"half")
            scope.cancel()
            await anyio.sleep(5)
            return path

        image.export = interrupted  # type: ignore[method-assign]
        await exported(image, layout)
    assert scope.cancelled_caught
    assert not leftovers(layout)
