"""Promotions between real registries: what is mounted, what travels, and how much memory that takes."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from images import COMMIT, GZIP_LAYER, names, release_image
from registries_fake import target
from registry_process import RegistryProcess, need_registry, running_registry

from pipelines.errors import PartialPush, PushFailed
from pipelines.promote import promote
from pipelines.registries.descriptors import OCI_INDEX, Descriptor, Manifest, canonical_json
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.layout import ImageLayout
from pipelines.release_image import ReleaseImage
from pipelines.stages.push import push
from pipelines.stages.tag import Names
from pipelines.statements import GateVerdict, Result, recorded_gates, sbom_referrer, verdict_referrer

pytestmark = [pytest.mark.anyio, pytest.mark.registry]
PATH = "models/langid"
SBOM = b'{"bomFormat":"CycloneDX","components":[]}'
VERDICTS = (GateVerdict("check", Result.PASSED, ("golden",)), GateVerdict("scan", Result.PASSED))


@pytest.fixture
def registries(tmp_path: Path) -> Iterator[tuple[RegistryProcess, RegistryProcess]]:
    need_registry()
    with (
        running_registry(tmp_path / "one", password=False) as one,
        running_registry(tmp_path / "two") as two,
    ):
        yield one, two


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    directory = tmp_path / "langid"
    directory.mkdir()
    (directory / "Dockerfile").write_text("FROM scratch\n")
    return directory


def configure(checkout: Path, *registries: str) -> None:
    environment = {"registries": list(registries), "moving_tags": ["production"]}
    (checkout / "modelport.yaml").write_text(  # JSON is YAML
        json.dumps({"name": "langid", "environments": {"production": environment}})
    )


async def released(tmp_path: Path, host: str) -> ReleaseImage:
    wanted = names(COMMIT[:12], "1.2.0", moving=("latest",))
    image = release_image(tmp_path / "layout", wanted, "base" * 1000, "code")
    beside = [verdict_referrer(one, "langid", image.manifest, image.layout) for one in VERDICTS]
    beside.append(sbom_referrer(SBOM, image.manifest, image.layout))
    await push(image, wanted, [target(host)], referrers=beside)
    return image


async def test_to_another_registry_and_beside_in_the_same_one(
    registries: tuple[RegistryProcess, RegistryProcess], checkout: Path, tmp_path: Path
) -> None:
    one, two = registries
    image = await released(tmp_path, one.host)
    configure(checkout, f"{one.host}/production", f"{two.host}/models")
    foreseen = await promote(f"{one.host}/{PATH}:latest", "production", checkout, dict(os.environ), True)
    assert two.tags(PATH) == one.tags("production/langid") == []
    done = await promote(f"{one.host}/{PATH}:latest", "production", checkout, dict(os.environ))
    beside, far = done.shares
    assert beside.mounted > image.image.size, "the blobs of what refers to it are mounted, too"
    assert beside.copied < 8000, "manifests only"
    assert (far.mounted, far.already) == (0, 0)
    assert far.copied > image.size
    assert foreseen.shares == done.shares
    for registry, path in ((one, "production/langid"), (two, PATH)):
        assert set(registry.tags(path)) >= {COMMIT[:12], "1.2.0", "production"}
        assert "latest" not in registry.tags(path)
        for tag in ("1.2.0", "production"):
            assert registry.tag_digest(path, tag) == image.digest
        async with target(registry.host, path=path).open() as opened:
            found = await recorded_gates(opened, image.digest)
            assert {gate for gate, verdict in found.items() if verdict.holds} == {
                "check",
                "scan",
                "inventory",
            }
            for blob in image.image.blobs:
                assert await opened.has_blob(blob)
    again = await promote(f"{one.host}/{PATH}@{image.digest}", "production", checkout, dict(os.environ))
    assert [(share.copied, share.mounted) for share in again.shares] == [(0, 0), (0, 0)]


async def test_from_the_layout_of_a_run_without_a_registry(
    registries: tuple[RegistryProcess, RegistryProcess], checkout: Path, tmp_path: Path
) -> None:
    _, two = registries
    wanted = names("1.2.0")
    layout = ImageLayout.create(tmp_path / "images" / "langid")
    image = release_image(layout.directory, wanted)
    beside = [verdict_referrer(one, "langid", image.manifest, image.layout) for one in VERDICTS]
    beside.append(sbom_referrer(SBOM, image.manifest, image.layout))
    await push(image, wanted, [LayoutRegistry(layout)], referrers=beside)
    configure(checkout, f"{two.host}/models")
    await promote(f"oci:{layout.directory}:1.2.0", "production", checkout, dict(os.environ))
    assert two.tag_digest(PATH, "1.2.0") == image.digest
    assert layout.path(image.image.layers[0].digest).exists(), "a layout's own files stay"


async def test_an_index_and_what_refers_to_its_image(
    registries: tuple[RegistryProcess, RegistryProcess], checkout: Path, tmp_path: Path
) -> None:
    one, two = registries
    image = await released(tmp_path, one.host)
    entry = image.manifest.descriptor.to_json() | {"platform": {"os": "linux", "architecture": "amd64"}}
    index = Manifest(
        OCI_INDEX, canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
    )
    async with target(one.host).open() as opened:
        await opened.put_manifest(index)
        await opened.tag("1.3.0", index)
    configure(checkout, f"{two.host}/models")
    await promote(f"{one.host}/{PATH}:1.3.0", "production", checkout, dict(os.environ))
    assert two.tag_digest(PATH, "1.3.0") == two.tag_digest(PATH, "production") == index.digest
    async with target(two.host).open() as opened:
        assert set(await recorded_gates(opened, image.digest)) == {"check", "scan", "inventory"}


async def test_one_registry_is_away(
    registries: tuple[RegistryProcess, RegistryProcess], checkout: Path, tmp_path: Path
) -> None:
    one, two = registries
    await released(tmp_path, one.host)
    configure(checkout, f"{two.host}/models", "127.0.0.1:1/models")
    with pytest.raises(PushFailed, match=r"127\.0\.0\.1:1") as caught:
        await promote(f"{one.host}/{PATH}:1.2.0", "production", checkout, dict(os.environ))
    assert not isinstance(caught.value, PartialPush)
    assert not {"1.2.0", "production"} & set(two.tags(PATH)), "nothing is named"


def big_image(directory: Path, wanted: Names, size: int) -> ReleaseImage:
    """A release with one layer more, of ``size`` bytes that take no room on the disk."""
    plain = release_image(directory, wanted)
    big = directory / "big"
    with big.open("wb") as file:
        file.truncate(size)
    with big.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    big.rename(plain.layout.path(digest))
    content = json.loads(plain.manifest.body)
    content["layers"].append(Descriptor(GZIP_LAYER, digest, size).to_json())
    manifest = Manifest(plain.manifest.media_type, canonical_json(content))
    plain.layout.write_blob(manifest.body)
    return ReleaseImage(plain.layout, manifest)


PROMOTE_BIG = """
import sys, anyio, os
from pathlib import Path
from pipelines.promote import promote

def peak_kb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

async def main(reference, checkout):
    before = peak_kb()
    done = await promote(reference, "production", Path(checkout), dict(os.environ))
    print(peak_kb() - before, done.shares[0].copied)

anyio.run(main, *sys.argv[1:])
"""


async def test_a_big_layer_does_not_fill_memory(
    registries: tuple[RegistryProcess, RegistryProcess], checkout: Path, tmp_path: Path
) -> None:
    one, two = registries
    size = 300_000_000
    wanted = names("1.2.0")
    image = big_image(tmp_path / "layout", wanted, size)
    beside = [verdict_referrer(each, "langid", image.manifest, image.layout) for each in VERDICTS]
    beside.append(sbom_referrer(SBOM, image.manifest, image.layout))
    await push(image, wanted, [target(one.host)], referrers=beside)
    configure(checkout, f"{two.host}/models")
    arguments = [sys.executable, "-c", PROMOTE_BIG, f"{one.host}/{PATH}:1.2.0", str(checkout)]
    with anyio.fail_after(180):
        done = await anyio.run_process(
            arguments, env={"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(sys.path)}, check=False
        )
    assert done.returncode == 0, done.stderr.decode()
    more_kb, copied = map(int, done.stdout.split())
    assert copied > size
    assert more_kb < 60_000, "kB more at the peak"
    assert not list((checkout / ".modelport").glob("promote-*"))
