"""The push against docker-registry itself: mounts, statements beside the image, a conflict's explanation."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from images import COMMITTED, names, release_image
from registries_fake import target
from registry_process import RegistryProcess, registry

from pipelines.push_journal import Journal
from pipelines.receipt import NothingPushed, State
from pipelines.stages.push import push
from pipelines.statements import GateVerdict, Result, recorded_gates, sbom_referrer, verdict_referrer

__all__ = ["registry"]
pytestmark = [pytest.mark.anyio, pytest.mark.registry]


async def test_what_another_model_has_there_is_mounted(registry: RegistryProcess, tmp_path: Path) -> None:
    wanted = names("1.0.0")
    first = release_image(tmp_path / "a", wanted, "base", "one")
    second = release_image(tmp_path / "b", wanted, "base", "two")
    state = tmp_path / "state"
    await push(first, wanted, [target(registry.host)], journal=Journal.open(state, "langid"))
    beside = [target(registry.host, path="models/filetype")]
    receipt = await push(second, wanted, beside, journal=Journal.open(state, "filetype"))
    [one] = receipt.deliveries
    assert one.mounted == first.image.layers[0].size
    assert one.uploaded == second.size - one.mounted
    links = registry.repository("models/filetype") / "_layers/sha256"
    assert {f"sha256:{link.name}" for link in links.iterdir()} == {blob.digest for blob in second.image.blobs}


async def test_statements_are_beside_the_image_before_its_name(
    registry: RegistryProcess, tmp_path: Path
) -> None:
    """This registry has no referrers API: the fallback tag lists them."""
    wanted = names("1.0.0", moving=("latest",))
    release = release_image(tmp_path, wanted)
    sbom = b'{"bomFormat":"CycloneDX","compositions":[{"aggregate":"complete"}]}'
    referrers = [
        verdict_referrer(GateVerdict("check", Result.PASSED), "m", release.manifest, release.layout),
        verdict_referrer(GateVerdict("scan", Result.WARNED), "m", release.manifest, release.layout),
        sbom_referrer(sbom, release.manifest, release.layout),
    ]
    there = [target(registry.host)]
    await push(release, wanted, there, referrers=referrers)
    assert registry.tags("models/langid") == ["1.0.0", "latest", release.digest.replace(":", "-")]
    async with there[0].open() as opened:
        gates = await recorded_gates(opened, release.digest)
    assert {gate: one.result.value for gate, one in gates.items()} == {
        "check": "PASSED",
        "scan": "WARNED",
        "inventory": "PASSED",
    }
    again = await push(release, wanted, there, referrers=referrers)
    assert (again.deliveries[0].state, again.deliveries[0].uploaded) == (State.UNCHANGED, 0)


async def test_a_conflict_names_the_file(registry: RegistryProcess, tmp_path: Path) -> None:
    wanted = names("1.0.0")
    there = [target(registry.host)]
    await push(release_image(tmp_path / "a", wanted, "base", "one"), wanted, there)
    with pytest.raises(NothingPushed, match="layer 2 of 2 differs: hello has other content"):
        await push(release_image(tmp_path / "b", wanted, "base", "two"), wanted, there)


async def test_a_second_registry_that_was_down_gets_the_old_names_first(
    registry: RegistryProcess, tmp_path: Path
) -> None:
    """The first release passed the barrier in both; naming failed in the one that went away just then."""
    old = names("1.0.0", moving=("latest",))
    new = names("1.1.0", moving=("latest",), created=COMMITTED + timedelta(hours=1))
    first = release_image(tmp_path / "layout", old, "one")
    second = release_image(tmp_path / "layout", new, "two")
    there = [target(registry.host), target(registry.host, path="other/langid")]
    book = Journal.open(tmp_path / "state", "langid")
    book.begin(first.digest, old)
    book.past_barrier(first.digest, [one.name for one in there])
    await push(first, old, there[:1])
    async with there[1].open() as opened:  # its content is there, its names are not
        for blob in first.image.blobs:
            assert await opened.mount_blob(blob, "models/langid")
        await opened.put_manifest(first.manifest)
    receipt = await push(second, new, there, journal=Journal.open(tmp_path / "state", "langid"))
    assert len(receipt.notes) == 2
    for path in ("models/langid", "other/langid"):
        assert registry.tags(path) == ["1.0.0", "1.1.0", "latest"]
        assert registry.tag_digest(path, "1.0.0") == first.digest
        assert registry.tag_digest(path, "latest") == second.digest
