from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.config import DockerfileBuild, PythonBuild, load
from pipelines.errors import ConfigError, UsageError
from pipelines.init import TEMPLATES, init, template

ROOT = Path(__file__).parents[2]
CI_FILES = {
    ".circleci/config.yml",
    ".github/workflows/modelport.yml",
    "Jenkinsfile",
    "ci/main.py",
    "ci/requirements.txt",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    return made


def files_in(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def test_a_dockerfile_and_its_port_are_found(directory: Path) -> None:
    (directory / "Dockerfile").write_text("FROM x AS base\nEXPOSE 80\nFROM base\n  expose 9001/tcp\n")
    (directory / "golden.jsonl").write_text("{}\n")
    init(directory)
    model = load(directory / "modelport.yaml", {})
    assert model.build == DockerfileBuild()
    assert (model.name, model.check.port, model.check.golden) == ("mine", 9001, "golden.jsonl")
    assert files_in(directory) == CI_FILES | {"Dockerfile", "golden.jsonl", "modelport.yaml"}


def test_python_code_and_weights_are_found_and_the_weights_hashed(directory: Path) -> None:
    weights = os.urandom(5000)
    (directory / "weights" / "a b").mkdir(parents=True)
    (directory / "weights" / "a b" / "model v1.onnx").write_bytes(weights)
    (directory / ".venv" / "lib").mkdir(parents=True)
    (directory / ".venv" / "lib" / "other.onnx").write_bytes(b"x")
    (directory / "requirements.txt").write_text("numpy==2\n")
    (directory / "server.py").write_text("def answer(): ...\n")
    (directory / "serve.py").write_text('if __name__ == "__main__": ...\n')
    (directory / "test_server.py").write_text("")
    for package in ("features", "tests"):
        (directory / package).mkdir()
        (directory / package / "__init__.py").write_text("")
    init(directory)
    build = load(directory / "modelport.yaml", {}).build
    assert isinstance(build, PythonBuild)
    assert build.dependencies == "requirements.txt"
    assert build.code == ("features", "serve.py", "server.py")
    assert build.command == ("python", "serve.py"), "the one that is written to be run"
    [found] = build.weights
    assert found.path == "weights/a b/model v1.onnx"
    assert found.sha256 == {"model v1.onnx": hashlib.sha256(weights).hexdigest()}


def test_an_empty_directory_gets_a_file_that_is_valid_and_says_what_is_missing(directory: Path) -> None:
    done = init(directory)
    assert isinstance(load(directory / "modelport.yaml", {}).build, PythonBuild)
    assert "complete build: in modelport.yaml" in str(done)


def test_a_git_lfs_pointer_is_not_hashed_as_if_it_were_the_weights(directory: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (directory / "model.safetensors").write_text(pointer)
    done = init(directory)
    assert "model.safetensors is a Git LFS pointer" in str(done)
    build = load(directory / "modelport.yaml", {}).build
    assert isinstance(build, PythonBuild)
    assert build.weights == ()
    (directory / "modelport.yaml").unlink()
    (directory / "other.onnx").write_bytes(b"x")
    init(directory)
    build = load(directory / "modelport.yaml", {}).build
    assert isinstance(build, PythonBuild)
    assert [one.path for one in build.weights] == ["other.onnx"]


def test_nothing_that_is_there_is_overwritten(directory: Path) -> None:
    (directory / "Dockerfile").write_text("FROM x\n")
    (directory / "Jenkinsfile").write_text("theirs")
    (directory / "modelport.yaml").write_text("title: theirs\n")
    (directory / "ci").mkdir()
    (directory / "ci" / "main.py").symlink_to(directory / "gone.py")
    done = init(directory)
    assert (directory / "Jenkinsfile").read_text() == "theirs"
    assert (directory / "modelport.yaml").read_text() == "title: theirs\n"
    assert not (directory / "gone.py").exists(), "not written through a broken link either"
    assert {path.name for path in done.kept} == {"Jenkinsfile", "modelport.yaml", "main.py"}
    assert "Jenkinsfile (it was there; not changed)" in str(done)
    again = init(directory)
    assert again.written == ()


def test_ci_files_go_to_the_top_of_the_repository(directory: Path, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    init(directory)
    assert files_in(directory) == {"modelport.yaml"}
    assert files_in(tmp_path) >= CI_FILES


def test_a_file_in_the_way_or_a_missing_directory_is_told(directory: Path) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        init(directory / "none")
    (directory / "ci").write_text("a file")
    with pytest.raises(UsageError, match="can't be written"):
        init(directory)


def test_a_wrong_modelport_yaml_that_was_kept_is_told(directory: Path) -> None:
    (directory / "modelport.yaml").write_text("bild: {}\n")
    with pytest.raises(ConfigError, match='did you mean "build"'):
        init(directory)


@pytest.mark.parametrize(
    "name", ["weird: name.pkl", "#x.pt", "true.h5", "1.5.npz", "é.onnx", "a'b\"c.pkl", "- x.pkl"]
)
def test_any_file_name_survives_yaml(directory: Path, name: str) -> None:
    (directory / name).write_bytes(b"x")
    init(directory)
    build = load(directory / "modelport.yaml", {}).build
    assert isinstance(build, PythonBuild)
    assert [one.path for one in build.weights] == [name]


def test_the_commented_lines_are_valid_once_they_are_used(directory: Path) -> None:
    """Each ``# key: …`` line of the file, taken in, makes a file that the product takes."""
    for name in ("Dockerfile", "requirements.txt", "server.py"):
        (directory / name).write_text("")
    (directory / "evaluation").mkdir()
    for name in ("golden.jsonl", "data.jsonl"):
        (directory / "evaluation" / name).write_text("")
    (directory / "tests").mkdir()
    for dockerfile in (True, False):
        if not dockerfile:
            (directory / "Dockerfile").unlink()
            (directory / "modelport.yaml").unlink()
        init(directory)
        text = (directory / "modelport.yaml").read_text()
        text = text.replace("# golden: golden", "golden: golden")
        lines = [
            line.replace("# ", "", 1)
            if line.strip().startswith("# ") and ": " in line and "64 digits" not in line
            else line
            for line in text.splitlines()
            if "For editors" not in line and "MODELPORT_REGISTRY takes" not in line and "$schema" not in line
            if "modelport schema" not in line
        ]
        used = "\n".join(line.replace("# registries:", "registries:") for line in lines)
        (directory / "modelport.yaml").write_text(used)
        model = load(directory / "modelport.yaml", {})
        assert model.check.quality is not None
        assert model.registries[0].password == "env://MODELPORT_REGISTRY_PASSWORD"


def test_the_shims_are_valid_for_their_systems(directory: Path, tmp_path: Path) -> None:
    init(directory)
    for builtin, file in (
        ("vendor.github-workflows", ".github/workflows/modelport.yml"),
        ("vendor.circle-ci", ".circleci/config.yml"),
    ):
        command = [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            builtin,
            str(directory / file),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_passes_a_security_audit(directory: Path) -> None:
    zizmor = Path(sys.executable).parent / "zizmor"
    init(directory)
    workflow = directory / ".github/workflows/modelport.yml"
    command = [str(zizmor), "--offline", "--no-progress", str(workflow)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_secrets_are_given_to_releases_only() -> None:
    jobs = yaml.safe_load(template("github.yml"))["jobs"]
    assert "secrets." not in str(jobs["check"])
    reads = {"contents": "read", "actions": "read", "security-events": "write"}
    assert jobs["check"]["permissions"] == reads
    assert "secrets." in str(jobs["release"])
    check, release = (
        job["pipeline"] for job in yaml.safe_load(template("circleci.yml"))["workflows"]["modelport"]["jobs"]
    )
    assert "context" not in check
    assert (release["context"], release["filters"]["branches"]) == ("modelport-registry", {"only": "main"})


def test_the_templates_use_the_actions_that_our_own_shims_use() -> None:
    pinned = re.compile(r"uses: (\S+@[0-9a-f]{40} # v[\d.]+)")
    ours = pinned.findall((ROOT / ".github/workflows/modelport.yml").read_text())
    assert ours
    assert pinned.findall(template("github.yml")) == ours


def test_the_entry_runs_the_command_line(directory: Path) -> None:
    init(directory)
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(directory / "ci/main.py"), "--help"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "run" in done.stdout


def test_every_template_is_packaged_and_used() -> None:
    assert set(TEMPLATES.values()) == {
        path.name for path in (ROOT / "pipelines/templates").iterdir() if path.is_file()
    }
