"""What `make demo` prepares: packages, the registry on loopback, the base image."""

from __future__ import annotations

import gzip
import json
import os
import socket
import tomllib
from pathlib import Path

import pytest

from demo import base_image, demo, registry, system


def write_layout(cache: Path) -> Path:
    layout = cache / f"base-image-{base_image._recipe_digest()[:12]}"
    layout.mkdir(parents=True)
    (layout / "index.json").write_text("{}")
    return layout


def test_a_missing_package_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(system.GROUPS, "x", (system.Package("frobnicate", ("frobnicate",), "to frob"),))
    assert system.main(["x"]) == 8
    said = capsys.readouterr().err
    assert "missing: frobnicate" in said
    assert "to frob" in said
    assert "apt-get install frobnicate" in said


def test_what_is_there_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "frobnicate"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(system.GROUPS, "x", (system.Package("frobnicate", ("frobnicate",), "to frob"),))
    assert system.main(["x"]) == 0


def test_without_root_and_sudo_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apt-get").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setitem(system.GROUPS, "x", (system.Package("frobnicate", ("frobnicate",), "to frob"),))
    with pytest.raises(system.NotInstalled, match="sudo apt-get install frobnicate"):
        system.ensure(["x"])


def test_the_mirror_is_asked_before_the_public_registry(tmp_path: Path) -> None:
    conf = tomllib.loads(base_image.mirror_configuration("127.0.0.1:5999", tmp_path).read_text())
    (docker,) = conf["registry"]
    assert docker["prefix"] == docker["location"] == "docker.io"
    assert docker["mirror"] == [{"location": "127.0.0.1:5999", "insecure": True}]


def test_an_old_base_image_is_made_again(tmp_path: Path) -> None:
    assert base_image.made(tmp_path) is None
    layout = write_layout(tmp_path)
    assert base_image.made(tmp_path) == layout
    os.utime(layout / "index.json", (0, 0))
    assert base_image.made(tmp_path) is None


def test_another_recipe_is_another_base_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_layout(tmp_path)
    monkeypatch.setattr(base_image, "PACKAGES", (*base_image.PACKAGES, "git"))
    assert base_image.made(tmp_path) is None


def test_the_public_registry_is_not_reached_without_skopeo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not base_image.reached()


def test_a_slow_public_registry_counts_as_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skopeo = tmp_path / "skopeo"
    skopeo.write_text("#!/bin/sh\nexec sleep 20\n")
    skopeo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert not base_image.reached(timeout_s=0.2)


def test_the_layer_is_compressed_the_same_way_twice(tmp_path: Path) -> None:
    tar = tmp_path / "root.tar"
    tar.write_bytes(b"a file system" * 100_000)
    layers = []
    for name in ("one", "two"):
        (tmp_path / name / "blobs/sha256").mkdir(parents=True)
        diff_id, layer = base_image._compressed(tar, tmp_path / name)
        blob = tmp_path / name / "blobs/sha256" / str(layer["digest"]).removeprefix("sha256:")
        assert gzip.decompress(blob.read_bytes()) == tar.read_bytes()
        layers.append((diff_id, layer))
    assert layers[0] == layers[1]


def test_a_failing_program_is_told_with_its_last_words() -> None:
    with pytest.raises(base_image.BaseImageError, match=r"sh failed:\nno such mirror"):
        base_image._run(["sh", "-c", "echo no such mirror >&2; exit 3"])


def test_the_demo_knows_the_three_examples() -> None:
    assert demo._models() == ["embeddings", "filetype", "langid"]


def test_a_process_that_took_over_the_id_is_not_ours(tmp_path: Path) -> None:
    ours = registry.Registry("127.0.0.1:1", os.getpid(), "not its start time")
    (tmp_path / "registry.json").write_text(
        json.dumps({"address": ours.address, "pid": ours.pid, "started": ours.started})
    )
    assert registry.running(tmp_path) is None
    assert registry.stop(tmp_path) is False, "and is not ended"


def test_without_the_program_the_registry_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "program", lambda: None)
    with pytest.raises(registry.RegistryError, match="not installed"):
        registry.start(tmp_path)


@pytest.fixture
def program() -> str:
    found = registry.program()
    if found is None:
        pytest.skip("needs docker-registry")
    return found


@pytest.mark.registry
def test_the_registry_stays_and_is_found_again(program: str, tmp_path: Path) -> None:
    first = registry.start(tmp_path)
    try:
        assert first.address.startswith("127.0.0.1:")
        assert registry.start(tmp_path) == first
    finally:
        assert registry.stop(tmp_path)
    assert not first.alive()
    assert registry.stop(tmp_path) is False
    with registry.temporary(tmp_path) as again:
        assert again.address == first.address, "printed references stay good"


@pytest.mark.registry
def test_a_port_in_use_is_left_alone(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        monkeypatch.setattr(registry, "PREFERRED_PORT", taken)
        with registry.temporary(tmp_path) as local:
            assert local.address != f"127.0.0.1:{taken}"


@pytest.mark.registry
def test_a_registry_that_ends_at_once_is_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "docker-registry"
    broken.write_text("#!/bin/sh\necho bad configuration >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(registry, "program", lambda: str(broken))
    with pytest.raises(registry.RegistryError, match="ended at once: bad configuration"):
        registry.start(tmp_path / "state")
