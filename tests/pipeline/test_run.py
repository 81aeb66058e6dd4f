"""From a commit to a registry on the embedded engine, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from team import PROGRAM, RUN_TIMEOUT_S, Machine, Team, left_running

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.timeout(600)]
ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json"}


def repository(team: Team) -> str:
    """A repository of its own for each test."""
    return f"{team.machine.registry}/{team.root.parent.name.lower().replace('_', '-')}"


def manifest(repository: str, reference: str) -> httpx.Response:
    host, _, path = repository.partition("/")
    return httpx.get(f"http://{host}/v2/{path}/manifests/{reference}", headers=ACCEPT, trust_env=False)


def test_a_commit_becomes_a_release_that_traces_back_to_it(any_team: Team) -> None:
    where = repository(any_team)
    commit = any_team.git("rev-parse", "HEAD")
    done = any_team.run("--registry", where)
    assert done.code == 0, done.err

    stages = any_team.stages()
    assert list(stages) == [
        "preflight",
        "build",
        "check",
        "scan",
        "inventory",
        "export",
        "tag",
        "attest",
        "push",
    ]
    assert {stage["status"] for stage in stages.values()} == {"ok"}
    assert "2 of 2 golden cases · accuracy 1.000" in stages["check"]["summary"]

    digest = any_team.record()["receipt"]["digest"]
    for tag in (commit[:12], "latest"):
        assert manifest(f"{where}/mood", tag).headers["Docker-Content-Digest"] == digest
    assert done.out.splitlines()[0] == f"released  {where}/mood@{digest}   tags {commit[:12]}, latest"

    traced = any_team.type("trace", f"{where}/mood:{commit[:12]}")
    assert traced.code == 0, traced.err
    assert commit in traced.out
    assert left_running(any_team.machine.state) == []


def test_a_rerun_with_no_change_executes_nothing_and_uploads_nothing(any_team: Team) -> None:
    where = repository(any_team)
    assert any_team.run("--registry", where).code == 0
    first = any_team.record()["receipt"]
    done = any_team.run("--registry", where)
    assert done.code == 0, done.err
    if any_team.engine == "embedded":  # Dagger's engine does not tell
        told = [stage["operations"] for stage in any_team.stages().values()]
        assert {one["executed"] for one in told if one is not None} == {0}  # preflight is before the engine
        assert len(told) - told.count(None) >= 6
    second = any_team.record()["receipt"]
    assert second["digest"] == first["digest"]
    assert second["deliveries"][0]["uploaded_bytes"] == 0


def test_one_changed_line_of_code_leaves_the_dependencies_alone(team: Team) -> None:
    where = repository(team)
    assert team.run("--registry", where).code == 0
    first = team.stages()["export"]["result"]["layers"]
    team.change("serve.py", '{"ok": True}', '{"ok": True, "version": 2}')
    team.commit("a changed answer")
    done = team.run("--registry", where)
    assert done.code == 0, done.err
    second = team.stages()["export"]["result"]["layers"]
    changed = [new["digest"] for new, old in zip(second, first, strict=True) if new != old]
    assert changed == [second[-1]["digest"]]
    assert team.record()["receipt"]["deliveries"][0]["uploaded_bytes"] < 100_000  # most is the SBOM


def test_a_commit_that_changes_no_input_is_checked_already(team: Team) -> None:
    where = repository(team)
    (team.root / ".dockerignore").write_text("*.md\n")
    team.commit("notes are no input of the build")
    assert team.run("--registry", where).code == 0
    (team.root / "NOTES.md").write_text("not part of the image\n")
    team.commit("notes")
    assert team.run("--registry", where).code == 0
    assert team.stages()["check"]["operations"]["executed"] == 0
    assert team.stages()["export"]["result"]["exported"] is False


def test_a_cold_cache_gives_the_same_digest(team: Team, tmp_path: Path) -> None:
    where = repository(team)
    assert team.run("--registry", where).code == 0
    digest = team.record()["receipt"]["digest"]
    cold = Machine(
        team.machine.registry, {**team.machine.environ, "EMBEDDED_ENGINE_STATE": str(tmp_path / "cold")}
    )
    clone = tmp_path / "clone" / "mood"
    team.git("clone", "-q", str(team.root), str(clone))
    done = Team(clone, cold).run("--registry", f"{where}/second")
    assert done.code == 0, done.err
    assert Team(clone, cold).record()["receipt"]["digest"] == digest


def test_without_a_registry_the_image_is_in_a_layout(team: Team) -> None:
    done = team.run()
    assert done.code == 0, done.err
    index = json.loads((team.root / ".modelport/images/mood/index.json").read_text())
    named = [entry.get("annotations", {}) for entry in index["manifests"]]
    names = {entry.get("org.opencontainers.image.ref.name") for entry in named}
    assert {team.git("rev-parse", "HEAD")[:12], "latest"} <= names
    assert team.type("trace", ".modelport/images/mood:latest").code == 0
    assert team.git("status", "--porcelain") == ""


def test_a_version_tag_names_the_release(team: Team) -> None:
    where = repository(team)
    team.git("tag", "v1.2.0")
    done = team.run("--registry", where)
    assert done.code == 0, done.err
    assert manifest(f"{where}/mood", "1.2.0").status_code == 200
    assert team.type("trace", f"{where}/mood:1.2.0").code == 0


def test_uncommitted_changes_never_take_the_commits_name(team: Team) -> None:
    where = repository(team)
    team.change("serve.py", '{"ok": True}', '{"ok": 1}')
    done = team.run("--registry", where)
    assert done.code == 0, done.err
    commit = team.git("rev-parse", "HEAD")[:12]
    assert manifest(f"{where}/mood", commit).status_code == 404
    assert manifest(f"{where}/mood", f"{commit}-dirty").status_code == 200


def test_python_build_has_its_layers_and_an_ordinary_user(team: Team) -> None:
    (team.root / "Dockerfile").unlink()
    team.change(
        "modelport.yaml",
        "dockerfile: Dockerfile",
        "python: {code: [serve.py, words.json], command: [python3, -B, serve.py]}",
    )
    team.commit("python:")
    done = team.run()
    assert done.code == 0, done.err
    layers = team.stages()["export"]["result"]["layers"]
    assert len(layers) == 2
    layout = team.root / ".modelport/images/mood/blobs/sha256"
    released = json.loads((layout / team.record()["receipt"]["digest"].removeprefix("sha256:")).read_text())
    config = json.loads((layout / released["config"]["digest"].removeprefix("sha256:")).read_text())
    assert config["config"]["User"] == "10001:10001"
    assert config["config"]["Labels"]["org.opencontainers.image.revision"] == team.git("rev-parse", "HEAD")
    assert config["created"] == config["history"][-1]["created"]


def test_embedded_engine_run_gives_the_same_release(team: Team) -> None:
    where = repository(team)
    assert team.run("--registry", where).code == 0
    digest = team.record()["receipt"]["digest"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "embedded_engine",
            "run",
            sys.executable,
            str(PROGRAM),
            "run",
            "--registry",
            where,
        ],
        cwd=team.root,
        env=team.machine.environ,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "DAGGER_SESSION_PORT" in done.stderr
    assert team.record()["receipt"]["digest"] == digest


def test_json_is_the_receipt_on_standard_output(team: Team) -> None:
    done = team.run("--json")
    (outcome,) = json.loads(done.out)
    assert outcome["receipt"]["deliveries"][0]["tags"] == list(
        team.record()["receipt"]["deliveries"][0]["tags"]
    )


def test_a_build_secret_reaches_the_build_and_nothing_that_is_kept(team: Team) -> None:
    secret = "correct-horse-battery-staple"
    team.change(
        "Dockerfile",
        "COPY serve.py",
        "RUN --mount=type=secret,id=TOKEN "
        "sh -c 'test $(wc -c < /run/secrets/TOKEN) = 28 && cat /run/secrets/TOKEN'\n"
        "COPY serve.py",
    )
    team.change("modelport.yaml", "dockerfile: Dockerfile", "secrets: {TOKEN: env://BUILD_TOKEN}")
    team.commit("a secret")
    done = team.run(BUILD_TOKEN=secret)
    assert done.code == 0, done.err
    assert secret not in done.out + done.err
    found = subprocess.run(
        ["grep", "-rlF", secret, str(team.root), str(team.machine.state)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""


def test_byte_code_made_by_a_build_is_valid_in_the_image(team: Team) -> None:
    """Layers have constant times: byte code goes by its source's content (PEP 552: flags 3)."""
    team.change(
        "Dockerfile",
        "COPY serve.py",
        "COPY tool.py /lib/\nRUN python3 -m compileall -q /lib/tool.py\nCOPY serve.py",
    )
    team.change("serve.py", "import json", "import sys; sys.path.append('/lib')\nimport tool, json")
    (team.root / "tool.py").write_text("import importlib.util as u, pathlib\n")
    team.change(
        "serve.py",
        '{"ok": True}',
        '{"flags": pathlib.Path(tool.u.cache_from_source("/lib/tool.py")).read_bytes()[4]}',
    )
    (team.root / "golden.jsonl").write_text(
        '{"request": {"method": "GET", "path": "/"}, "expected": {"json": {"flags": 3}}}\n'
    )
    team.commit("byte code")
    done = team.run()
    assert done.code == 0, done.err
