"""The weights changed: then the version has to say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from images import names, release_image
from sboms import contents, revision, weights

from pipelines.config import Model
from pipelines.inventory_version import VersionUnchanged, changes, compared_weights, published_version
from pipelines.published import CouldNotTell, Published
from pipelines.registries.port import Registry
from pipelines.scanners.contents import WeightFile
from pipelines.source import SourceRevision
from pipelines.stages.inventory import listed

pytestmark = pytest.mark.anyio
OCI = "org.opencontainers.image"


def model(version: str | None = "1.2.0") -> Model:
    path = Path("/src/langid")
    return Model(name="langid", version=version, directory=path, file=path / "modelport.yaml")


def published(
    tmp_path: Path, files: tuple[WeightFile, ...], version: str = "1.2.0", tag: str = "latest", day: int = 1
) -> Published:
    image = release_image(tmp_path / "layout", names("x"))
    own = model(version or None)
    label = version or f"{day:040x}"[:12]
    return Published(
        name="registry.example/models/langid",
        reference="",
        digest=image.digest,
        tag=tag,
        settings={"Labels": {f"{OCI}.version": label, f"{OCI}.revision": f"{day:040x}"}},
        gates={},
        sbom=listed(contents(weights=files), own, revision(day)).sbom,
        manifest=image.manifest,
        registry=cast("Registry", None),  # nothing is asked of it
        store=image.layout,
    )


async def compared(
    found: Published | None,
    files: tuple[WeightFile, ...],
    version: str | None = "1.2.0",
    source: SourceRevision | None = None,
) -> str:
    async def ask() -> Published | None:
        return found

    return await compared_weights(files, model(version), source or revision(2), ask)


async def test_other_weights_under_the_same_version_are_an_error(tmp_path: Path) -> None:
    found = published(tmp_path, weights(a="aa", b="bb"))
    assert await compared(found, weights(a="aa", b="bb")) == "weights as in the published 1.2.0"
    with pytest.raises(
        VersionUnchanged, match=r"the version 1\.2\.0 did not: /app/b\.onnx was sha256:bbbb"
    ) as error:
        await compared(found, weights(a="aa", b="cc"))
    assert error.value.exit_code == 5
    assert "raise `version:` above 1.2.0" in error.value.hint
    assert f"published: sha256:{'bb' * 32}" in error.value.detail
    assert f"built:     sha256:{'cc' * 32}" in error.value.detail


@pytest.mark.parametrize("now", [{"a": "aa"}, {"a": "aa", "b": "bb", "c": "cc"}])
async def test_a_file_more_or_less_is_a_change(tmp_path: Path, now: Mapping[str, str]) -> None:
    with pytest.raises(VersionUnchanged):
        await compared(published(tmp_path, weights(a="aa", b="bb")), weights(**now))


async def test_a_file_that_only_moved_is_none() -> None:
    assert changes({"/old/a": "aa"}, {"/new/a": "aa"}) == ()
    assert [one.path for one in changes({"/a": "aa"}, {"/a": "bb", "/c": "aa"})] == ["/a"]


async def test_a_raised_version_says_it(tmp_path: Path) -> None:
    assert not await compared(published(tmp_path, weights(a="aa")), weights(a="bb"), "1.3.0")


async def test_a_version_that_the_commit_gives_is_not_compared(tmp_path: Path) -> None:
    async def never() -> Published | None:
        raise AssertionError("nobody has to be asked")

    assert not await compared_weights(weights(a="aa"), model(None), revision(2), never)
    found = published(tmp_path, weights(a="aa"), version="")
    assert "has no version" in await compared(found, weights(a="bb"))
    assert published_version(replace(found, tag="1.2.0")) == "1.2.0"


async def test_a_version_tag_counts_as_the_version(tmp_path: Path) -> None:
    found = published(tmp_path, weights(a="aa"))
    with pytest.raises(VersionUnchanged, match="the version tag"):
        try:
            await compared(found, weights(a="bb"), None, revision(2, "v1.2.0"))
        except VersionUnchanged as err:
            raise VersionUnchanged(err.hint) from err


@pytest.mark.parametrize(("after", "fails"), [(True, True), (False, False), (None, False)])
async def test_a_lower_version_is_wrong_only_after_the_published_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, after: bool | None, fails: bool
) -> None:
    async def is_ancestor(self: Any, older: str, newer: str) -> bool | None:
        assert (older, newer) == (f"{1:040x}", f"{2:040x}")
        return after

    monkeypatch.setattr("pipelines.git_history.GitHistory.is_ancestor", is_ancestor)
    found = published(tmp_path, weights(a="aa"))
    if fails:
        with pytest.raises(VersionUnchanged, match=r"fell from 1\.2\.0 to 1\.1\.0"):
            await compared(found, weights(a="bb"), "1.1.0")
    else:
        assert not await compared(found, weights(a="bb"), "1.1.0")


async def test_what_a_library_brings_along_is_not_the_model(tmp_path: Path) -> None:
    def library(digest: str) -> tuple[WeightFile, ...]:
        return (WeightFile("/usr/lib/site-packages/scipy/x.npz", 1, digest * 32, "npz"),)

    found = published(tmp_path, (*weights(a="aa"), *library("bb")))
    assert await compared(found, (*weights(a="aa"), *library("cc"))) == "weights as in the published 1.2.0"
    alone = published(tmp_path, library("bb"))
    with pytest.raises(VersionUnchanged):  # a model that comes as a package
        await compared(alone, library("cc"))


async def test_what_can_t_be_compared_is_said(tmp_path: Path) -> None:
    async def silent() -> Published | None:
        raise CouldNotTell("no route")

    assert await compared_weights((), model(), revision(), silent) == "weights not compared: no route"
    assert not await compared(None, weights(a="aa")), "the first release"
    for sbom in (None, b"{}", b"no JSON", b'{"components": [{}]}'):
        found = replace(published(tmp_path, weights(a="aa")), sbom=sbom)
        told = await compared(found, weights(a="aa"))
        assert "has no SBOM that can be read" in told
