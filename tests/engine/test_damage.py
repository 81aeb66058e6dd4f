"""What the engine keeps, damaged by hand between two sessions: noticed, set aside, told, made anew."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_home import EngineHome
from engine_process import SessionProcess, engine_session

SCRIPT = "seq 1 500 > /made; sha256sum /made"


class Asked:
    """What each session is asked: an exec, a directory made by the engine, a push."""

    def __init__(self, home: EngineHome, name: str) -> None:
        self.home = home
        self.address = f"{home.registry.host}/damage/{name}"
        self.number = 0

    def of(self, session: SessionProcess) -> tuple[str, str, str]:
        self.number += 1
        run = f'withExec(args: ["sh", "-c", "{SCRIPT}"])'
        mounted = 'withDirectory(path: "/d", source: "SOURCE")'
        host = session.leaf('host { directory(path: "sources") { id } }')
        steps = [run, mounted.replace("SOURCE", host)]
        stdout = session.leaf(self.home.chain(run, "stdout"))
        contents = session.leaf(self.home.chain(*steps, 'file(path: "/d/text")', "contents"))
        push = f'publish(address: "{self.address}:{self.number}")'
        return stdout, contents, session.leaf(self.home.chain(*steps, push)).rpartition("@")[2]


@pytest.fixture(scope="module")
def kept(home: EngineHome, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, str, str]]:
    """A state directory after a good session, copied for each damage; what it answered."""
    root = tmp_path_factory.mktemp("damage")
    (root / "sources").mkdir()
    (root / "sources" / "text").write_text("the right text\n" * 2000)
    with engine_session(root / "state", workdir=root) as session:
        answers = Asked(home, "good").of(session)
    return root, answers


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def garbage(file: Path) -> None:
    file.write_bytes(b"\x00garbage" * 1000)


def layer_gone(state: Path) -> None:
    layers = json.loads((state / "storage/overlay-layers/layers.json").read_text())
    shutil.rmtree(state / "storage" / "overlay" / layers[-1]["id"])


def databases(state: Path) -> None:
    garbage(state / "engine.sqlite")
    cut(state / "trees/index.sqlite")


def blobs_and_files(state: Path) -> None:
    """All of them: the base image's layer, its config, layers of ours, files."""
    for file in (*state.glob("blobs/sha256/[0-9a-f]*"), *state.glob("trees/files/*/*")):
        cut(file)


def all_of_storage(state: Path) -> None:
    """The base image comes from its blobs again, which are cut as well."""
    blobs_and_files(state)
    cut(state / "storage/overlay-layers/layers.json")


def images_half_made(state: Path) -> None:
    """As a tool leaves them that was killed before the manifest was written."""
    index = state / "storage/overlay-images/images.json"
    images = json.loads(index.read_text())
    for image in images:
        (index.parent / image["id"] / "manifest").unlink()
        image["big-data-names"] = [name for name in image["big-data-names"] if name != "manifest"]
    index.write_text(json.dumps(images))


DAMAGES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "databases": (databases, ["engine.sqlite", "index.sqlite"]),
    "layer": (layer_gone, ["directory of layer"]),
    "storage": (all_of_storage, ["layers.json"]),
    "images": (images_half_made, []),
    "blobs": (blobs_and_files, []),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_by_hand(
    name: str, home: EngineHome, kept: tuple[Path, tuple[str, str, str]], tmp_path: Path
) -> None:
    """The next session answers as the first did; what was wrong is told in one line, never a traceback."""
    root, answers = kept
    state = tmp_path / "state"
    shutil.copytree(root / "state", state, symlinks=True)
    shutil.copytree(root / "sources", tmp_path / "sources")
    damage, told = DAMAGES[name]
    damage(state)
    with engine_session(state, workdir=tmp_path) as session:
        stdout, contents, pushed = Asked(home, name).of(session)
        said = session.errors.read_text()
    assert (stdout, contents) == answers[:2]
    if name == "blobs":  # the base's layer is packed by us then: other bytes, the same content
        assert layers_in(home, name, pushed) == layers_in(home, "good", answers[2])
    else:
        assert pushed == answers[2]
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if "set aside" in line]
    assert len(lines) == len(told)
    assert all(word in line for word, line in zip(told, lines, strict=True))


def layers_in(home: EngineHome, name: str, digest: str) -> list[str]:
    """The raw layers of an image, as they are in the registry."""
    image = f"docker://{home.registry.host}/damage/{name}@{digest}"
    said = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", "--config", image], capture_output=True, check=True
    )
    found: list[str] = json.loads(said.stdout)["rootfs"]["diff_ids"]
    return found
