"""Hygiene: what is unusual is told with its layer; what every distribution has is not."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any, cast

import pytest
from layered_images import Entry, directory, entry, image_of

from pipelines.config import DockerfileBuild, Model, PythonBuild
from pipelines.config_scan import ScanPolicy
from pipelines.scanners.hygiene import Hygiene, Recipe
from pipelines.scanners.hygiene_config import in_config, moving_base
from pipelines.scanners.hygiene_files import files_of
from pipelines.scanners.layers import ImageLayers
from pipelines.scanners.port import ImageView

pytestmark = pytest.mark.anyio
DEVICE: dict[str, Any] = {"kind": tarfile.CHRTYPE, "device": (10, 229)}
LINK: dict[str, Any] = {"kind": tarfile.SYMTYPE}

TOLD: dict[str, tuple[Entry, str, str]] = {
    "setuid": (entry("usr/local/bin/run", mode=0o4755), "setuid-file", "high"),
    "setgid": (entry("opt/x", mode=0o2755), "setuid-file", "high"),
    "a usual one that is not root's": (entry("usr/bin/su", mode=0o4755, uid=1000), "setuid-file", "high"),
    "capabilities": (entry("app/net", mode=0o755, capabilities=True), "file-capabilities", "high"),
    "writable": (entry("app/model.bin", mode=0o666), "world-writable-file", "medium"),
    "writable program": (entry("usr/bin/x", mode=0o777), "world-writable-file", "high"),
    "writable directory": (directory("app/data", 0o777), "world-writable-directory", "medium"),
    "writable system": (directory("etc/x", 0o777), "world-writable-directory", "high"),
    "device": (entry("app/fuse", **DEVICE), "device-node", "high"),
    "ssh": (entry("root/.ssh/authorized_keys", "ssh-ed25519 x"), "authorized-keys", "high"),
    "git": (entry("app/.git/HEAD", "ref: x"), "git-directory", "medium"),
    "env": (entry("app/.env", "A=b"), "env-file", "medium"),
    "env of production": (entry("app/.env.production", "A=b"), "env-file", "medium"),
    "in tmp": (entry("tmp/tool", "x", mode=0o755), "executable-in-tmp", "medium"),
    "socket": (entry("var/x", target="/var/run/docker.sock", **LINK), "link-out", "medium"),
    "above": (entry("app/x", target="../../../host", **LINK), "link-out", "medium"),
    "apt": (entry("var/lib/apt/lists/deb_x", "x" * 99), "package-cache", "low"),
    "pip": (entry("root/.cache/pip/http/a", "x" * 99), "package-cache", "low"),
}
USUAL = {
    "su": entry("usr/bin/su", mode=0o4755),
    "merged /usr": entry("bin/mount", mode=0o4755),
    "ping": entry("usr/bin/ping", mode=0o755, capabilities=True),
    "sticky": directory("tmp", 0o1777),
    "setgid directory": directory("var/mail", 0o2775),
    "setuid that nobody runs": entry("opt/x", mode=0o4644),
    "null": entry("dev/null", kind=tarfile.CHRTYPE, device=(1, 3)),
    "link": entry("app/x", mode=0o777, target="../usr/x", **LINK),
    "empty keys": entry("root/.ssh/authorized_keys"),
    "example": entry("app/.env.example", "A=b"),
    "lock": entry("var/lib/apt/lists/lock", "x"),
    "data in tmp": entry("tmp/data", "x"),
}


def told(root: Path, *layers: list[Entry]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = files_of(ImageLayers(image_of(root, *layers)))["found"]
    return found


@pytest.mark.parametrize("what", sorted(TOLD))
def test_what_is_told(what: str, tmp_path: Path) -> None:
    one, rule, severity = TOLD[what]
    image = image_of(tmp_path, [entry("etc/hostname", "x")], [one])
    (found,) = files_of(ImageLayers(image))["found"]
    assert (found["rule"], found["severity"]) == (rule, severity)
    assert found["layer"] == image.image.layers[1].digest


@pytest.mark.parametrize("what", sorted(USUAL))
def test_what_is_usual(what: str, tmp_path: Path) -> None:
    assert told(tmp_path, [USUAL[what]]) == []


def test_what_a_later_layer_removes_or_corrects_is_not_told(tmp_path: Path) -> None:
    bad = [entry("opt/x", mode=0o4755), entry("app/y", mode=0o666), directory("srv", 0o777)]
    assert told(tmp_path, bad, [entry("opt/.wh.x"), entry("app/y"), directory("srv")]) == []


def test_a_setuid_file_of_a_package_is_told_with_it_and_weighs_less(tmp_path: Path) -> None:
    listed = entry("var/lib/dpkg/info/screen:amd64.list", "/.\n/usr/bin/screen\n")
    (found,) = told(tmp_path, [entry("usr/bin/screen", mode=0o2755), listed])
    assert found["severity"] == "medium"
    assert "from the package screen" in found["title"]


def test_one_chmod_of_many_files_is_one_finding(tmp_path: Path) -> None:
    many = [entry(f"srv/model/part/{number}", mode=0o666) for number in range(300)]
    (found,) = told(tmp_path, many)
    assert (found["path"], "300 such paths" in found["title"]) == ("/srv/model/part", True)


def ids(config: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one.id, one.severity) for one in in_config(config, ("sha256:a",))]


@pytest.mark.parametrize("user", ["", "root", "0", "0:0", "root:app"])
def test_root_is_told(user: str) -> None:
    assert ids({"config": {"User": user}}) == [("root-user", "medium")]


@pytest.mark.parametrize("user", ["10001:10001", "app", "nobody"])
def test_another_user_is_not(user: str) -> None:
    assert ids({"config": {"User": user}}) == []


@pytest.mark.parametrize(
    "line",
    [
        "RUN curl -sSf https://sh.rustup.rs | sh -s -- -y",
        "wget -qO- https://x | sudo -E bash",
        'bash -c "$(curl -fsSL https://x)"',
        "bash <(curl -s https://x)",
        "curl https://bootstrap.pypa.io/get-pip.py | python3",
    ],
)
def test_a_download_piped_into_a_shell_is_told_with_its_layer(line: str) -> None:
    (found,) = in_config({"config": {"User": "app"}, "history": [{"created_by": line}]}, ("sha256:a",))
    assert (found.id, found.layer) == ("pipe-to-shell", "sha256:a")
    assert ids({"config": {"User": "app", "Cmd": [line]}}) == [("runs-download", "high")]


@pytest.mark.parametrize("line", ["curl -o x https://x && sha256sum -c x", "curl https://x | tar xz", "true"])
def test_a_download_to_a_file_is_not(line: str) -> None:
    assert ids({"config": {"User": "app"}, "history": [{"created_by": line}]}) == []


def test_a_base_without_a_version_is_told_with_its_line() -> None:
    text = "ARG V=1\nFROM --platform=x a AS build\nFROM b:latest\nFROM c:1\nFROM build\n"
    text += "FROM d@sha256:x\nFROM e:$V\n"
    found = list(moving_base(Recipe("Dockerfile", text, "")))
    assert [(one.subject, one.where) for one in found] == [
        ("FROM a", "Dockerfile:2"),
        ("FROM b:latest", "Dockerfile:3"),
    ]
    assert [one.subject for one in moving_base(Recipe("m.yaml", "", "r.x:5000/python"))] == [
        "FROM r.x:5000/python"
    ]


class View:
    def __init__(self, layers: ImageLayers) -> None:
        self._layers = layers

    async def layers(self) -> ImageLayers:
        return self._layers


async def test_the_scanner_tells_all_of_it_and_honours_ignore(tmp_path: Path) -> None:
    image = image_of(tmp_path / "i", [entry("app/a", mode=0o666), entry("usr/bin/su", mode=0o4755)])
    (tmp_path / "Dockerfile").write_text("FROM python\n")
    for build, base in ((DockerfileBuild(), 1), (PythonBuild(base="python:3.11-slim"), 0)):
        model = Model(name="m", directory=tmp_path, file=tmp_path / "modelport.yaml", build=build)
        view = cast(ImageView, View(ImageLayers(image)))
        result = await Hygiene(model).scan(view, ScanPolicy())
        assert sorted(one.id for one in result.findings) == sorted(
            ["root-user", "world-writable-file", *["base-latest"] * base]
        )
        assert (result.audited, result.looked_at, result.note) == (True, 2, "1 usual setuid files")
        ignoring = await Hygiene(model).scan(
            view, ScanPolicy.model_validate({"hygiene": {"ignore": ["/app/*"]}})
        )
        assert "world-writable-file" not in [one.id for one in ignoring.findings]
