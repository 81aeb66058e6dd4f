"""The engine's push to a real registry behind a proxy that goes wrong as it is told, and counts bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from registry_process import RegistryProcess, need_registry, running_registry
from runtime_tools import Facts

from embedded_engine.runtime import distribution, oci, uploads
from embedded_engine.runtime.outlet import Outlet
from embedded_engine.runtime.port import LayerBlob, OutImage, OutIndex, RuntimeFailure
from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.registries import Registries
from tests.registries.faults import Fault, Script, Seen
from tests.registries.proxy import FaultProxy

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.registry]
MIB = 1 << 20


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    need_registry()
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PART", MIB)
    monkeypatch.setattr(distribution, "PAUSE_S", 0.02)


def outlet(facts: Facts | None = None, patience_s: float = 20) -> Outlet:
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    return Outlet(Registries(environ, Runner(environ)), facts or Facts(), environ, patience_s)


def image(directory: Path, *sizes: int) -> OutImage:
    """An image of layers that nothing can compress, new each time."""
    layers = []
    for size in sizes:
        data = os.urandom(size)
        path = directory / oci.digest_of(data).removeprefix("sha256:")
        path.write_bytes(data)
        layers.append(LayerBlob(oci.digest_of(data), oci.digest_of(data), size, path))
    config = oci.encoded({"rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]}})
    descriptors = [{"mediaType": one.media_type, "digest": one.digest, "size": one.size} for one in layers]
    manifest = oci.manifest_for(config, descriptors)
    return OutImage(manifest, config, tuple(layers), oci.digest_of(manifest))


def script(*faults: str) -> Script:
    return Script(Fault.parse(fault) for fault in faults)


def layer_bytes(seen: list[Seen]) -> int:
    """The bytes of blobs that came over the wire."""
    return sum(one.received for one in seen if "/blobs/uploads/" in one.path)


class Overlap(Script):
    """Notes how many requests were under way at once."""

    most = 0

    def next(self, method: str, path: str, place: str = "") -> tuple[Seen, Fault | None]:
        found = super().next(method, path, place)
        self.most = max(self.most, sum(1 for one in self.seen if not one.status))
        return found


async def test_layers_go_side_by_side_and_a_second_push_asks_only_for_the_name(
    behind: RegistryProcess, tmp_path: Path
) -> None:
    out, watched = image(tmp_path, *[3 * MIB] * 5), Overlap()
    async with FaultProxy(behind.host, watched).running() as proxy:
        await outlet().publish(out, f"{proxy.host}/parallel:1", None)
        assert watched.most > 2
        assert behind.tag_digest("parallel", "1") == out.digest
        watched.begin()
        await outlet().publish(out, f"{proxy.host}/parallel:1", None)
        assert [one.method for one in watched.seen if one.status != 400][-1] == "HEAD"
        assert layer_bytes(watched.seen) == 0
        watched.begin()
        await outlet().publish(out, f"{proxy.host}/parallel:2", None)
        assert layer_bytes(watched.seen) == 0
    assert behind.tag_digest("parallel", "2") == out.digest


async def test_an_interrupted_push_goes_on_where_it_was(behind: RegistryProcess, tmp_path: Path) -> None:
    out, facts = image(tmp_path, 8 * MIB, MIB // 2, MIB // 2), Facts()
    dying = script("cut@PATCH#5-", "cut@GET/blobs/uploads/", "cut@HEAD/blobs/#4-")
    async with FaultProxy(behind.host, dying).running() as proxy:
        address = f"{proxy.host}/resumed:1"
        with pytest.raises(RuntimeFailure, match=proxy.host):
            await outlet(facts).publish(out, address, None)
        assert behind.tags("resumed") == []
        first = layer_bytes(dying.seen)
        dying.begin()
        await outlet(facts).publish(out, address, None)
        again = layer_bytes(dying.seen)
    assert behind.tag_digest("resumed", "1") == out.digest
    assert first >= 4 * MIB  # four parts of the large layer, and maybe the small ones
    assert again <= 4 * MIB + len(out.config)  # what was missing: neither the small layers nor the four parts


async def test_a_client_that_goes_away_leaves_what_it_sent(behind: RegistryProcess, tmp_path: Path) -> None:
    out, facts, hanging = image(tmp_path, 6 * MIB), Facts(), script("stall@PATCH#4")
    async with FaultProxy(behind.host, hanging).running() as proxy:
        address = f"{proxy.host}/left:1"
        with anyio.move_on_after(30) as scope:
            async with anyio.create_task_group() as group:

                async def push() -> None:
                    await outlet(facts).publish(out, address, None)

                group.start_soon(push)
                while not hanging.injected:  # noqa: ASYNC110  # the proxy has no event for it
                    await anyio.sleep(0.02)
                group.cancel_scope.cancel()
        assert not scope.cancelled_caught
        hanging.begin()
        await outlet(facts).publish(out, address, None)
        assert layer_bytes(hanging.seen) <= 3 * MIB + len(out.config)
    assert behind.tag_digest("left", "1") == out.digest


@pytest.mark.parametrize(
    "fault",
    [
        "lost@PATCH#2",
        "503:0@PATCH#2-3",
        "429:0@HEAD#2",
        "416@PATCH#2",
        "500@POST#1-2",
        "lost@PUT/blobs/#1",
        "502@PUT/manifests/#1",
        "lost@PUT/manifests/#1",
    ],
)
async def test_what_passes_is_repeated_without_beginning_anew(
    behind: RegistryProcess, tmp_path: Path, fault: str
) -> None:
    out, passing = image(tmp_path, 5 * MIB), script(fault)
    async with FaultProxy(behind.host, passing).running() as proxy:
        await outlet().publish(out, f"{proxy.host}/passing:1", None)
        assert passing.injected
        assert layer_bytes(passing.seen) <= 7 * MIB + 2 * len(
            out.config
        )  # at most the parts that were struck once more
    assert behind.tag_digest("passing", "1") == out.digest


async def test_a_part_that_is_cut_begins_only_its_layer_anew(behind: RegistryProcess, tmp_path: Path) -> None:
    """Distribution's registry forgets an upload whose part was cut in its middle."""
    out, cutting = image(tmp_path, 4 * MIB, MIB, MIB), script("cut-body@PATCH#3")
    async with FaultProxy(behind.host, cutting).running() as proxy:
        await outlet().publish(out, f"{proxy.host}/cut:1", None)
        assert cutting.injected
        assert layer_bytes(cutting.seen) <= 9 * MIB + len(out.config)
    assert behind.tag_digest("cut", "1") == out.digest


async def test_a_blob_the_registry_has_elsewhere_is_mounted(behind: RegistryProcess, tmp_path: Path) -> None:
    out, facts, watched = image(tmp_path, 2 * MIB), Facts(), script()
    async with FaultProxy(behind.host, watched).running() as proxy:
        await outlet(facts).publish(out, f"{proxy.host}/team/one:1", None)
        watched.begin()
        await outlet(facts).publish(out, f"{proxy.host}/team/two:1", None)
        assert layer_bytes(watched.seen) == 0
        assert any("mount=" in one.path and one.status == 201 for one in watched.seen)
    assert behind.tag_digest("team/two", "1") == out.digest


@pytest.mark.parametrize("fault", ["stall@HEAD", "stall@PATCH", "stall-body@PATCH", "stall-answer@PUT"])
async def test_a_registry_that_stands_still_is_given_up_on_by_name(
    behind: RegistryProcess, tmp_path: Path, fault: str
) -> None:
    out = image(tmp_path, 5 * MIB)
    async with FaultProxy(behind.host, script(fault)).running() as proxy:
        with anyio.fail_after(15):
            with pytest.raises(RuntimeFailure, match=proxy.host) as caught:
                await outlet(patience_s=1).publish(out, f"{proxy.host}/still:1", None)
    assert "stands still for 1 s" in str(caught.value)


async def test_a_registry_that_is_restarted_in_the_middle(tmp_path: Path) -> None:
    need_registry()
    out, facts = image(tmp_path, 6 * MIB, MIB), Facts()
    dying = script("cut@PATCH#4-", "cut@GET/blobs/uploads/")
    with running_registry(tmp_path / "registry") as first:
        port = int(first.host.rpartition(":")[2])
        async with FaultProxy(first.host, dying).running() as proxy:
            with pytest.raises(RuntimeFailure):
                await outlet(facts).publish(out, f"{proxy.host}/restarted:1", None)
            address = proxy.host
    with running_registry(tmp_path / "registry", port=port) as second:
        counted = script()
        async with FaultProxy(second.host, counted).running(int(address.rpartition(":")[2])):
            await outlet(facts).publish(out, f"{address}/restarted:1", None)
        assert second.tag_digest("restarted", "1") == out.digest
        assert layer_bytes(counted.seen) <= 4 * MIB + len(out.config)


async def test_a_damaged_layer_is_named_and_taken_away(behind: RegistryProcess, tmp_path: Path) -> None:
    out = image(tmp_path, 2 * MIB)
    damaged = out.layers[0].path
    damaged.write_bytes(os.urandom(2 * MIB))
    with pytest.raises(RuntimeFailure, match="was damaged and is removed"):
        await outlet().publish(out, f"{behind.host}/damaged:1", None)
    assert not damaged.exists()
    assert behind.tags("damaged") == []


async def test_an_index_comes_after_its_images(behind: RegistryProcess, tmp_path: Path) -> None:
    images = (image(tmp_path, 1000), image(tmp_path, 2000))
    entries = [
        {"mediaType": one.media_type, "digest": one.digest, "size": len(one.manifest)} for one in images
    ]
    document = {"schemaVersion": 2, "mediaType": OutIndex(b"").media_type, "manifests": entries}
    text = oci.encoded(document)
    await outlet().publish(OutIndex(text, images, oci.digest_of(text)), f"{behind.host}/many:1", None)
    assert behind.tag_digest("many", "1") == oci.digest_of(text)


async def test_a_manifest_without_its_layers_is_never_named(behind: RegistryProcess, tmp_path: Path) -> None:
    out = image(tmp_path, 2 * MIB)
    failing = script("403@PATCH")
    async with FaultProxy(behind.host, failing).running() as proxy:
        with pytest.raises(RuntimeFailure, match=r"push access denied.* 403"):
            await outlet().publish(out, f"{proxy.host}/denied:1", None)
        assert not [one for one in failing.seen if one.method == "PUT" and "/manifests/" in one.path]
    assert behind.tags("denied") == []
