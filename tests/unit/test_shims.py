"""The CI files: one product command each, credentials only where a release is made, actions pinned."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github/workflows/modelport.yml"
CIRCLE = ROOT / ".circleci/config.yml"
JENKINSFILE = ROOT / "Jenkinsfile"

PRODUCT = "python ci/main.py run"
SET_UP = {
    "make setup",
    'make setup && echo "$PWD/.venv/bin" >> "$GITHUB_PATH"',
    """make setup && echo 'export PATH="$PWD/.venv/bin:$PATH"' >> "$BASH_ENV\"""",
}
PASSWORD = {"MODELPORT_REGISTRY_USERNAME", "MODELPORT_REGISTRY_PASSWORD"}


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    return yaml.safe_load(WORKFLOW.read_text())


@pytest.fixture(scope="module")
def circle() -> dict[str, Any]:
    return yaml.safe_load(CIRCLE.read_text())


@pytest.fixture(scope="module")
def jenkins() -> dict[str, list[dict[str, Any]]]:
    """The steps that the Jenkinsfile executes, by build, under Groovy with a stub of Jenkins' DSL."""
    groovy, java = shutil.which("groovy"), shutil.which("java")
    if groovy is None or java is None:
        pytest.skip("groovy is not installed: the Jenkinsfile is not executed (apt-get install groovy)")
    done = subprocess.run(
        [groovy, "tests/jenkins/executor.groovy", "Jenkinsfile", "main", "feature", "PR-12", "tag=v1.2.0"],
        cwd=ROOT,
        env={**os.environ, "JAVA_HOME": str(Path(java).resolve().parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps: dict[str, list[dict[str, Any]]] = {}
    for line in done.stdout.splitlines():
        step = json.loads(line)
        steps.setdefault(step["build"], []).append(step)
    return steps


def run_steps(job: dict[str, Any]) -> list[str]:
    commands = []
    for step in job["steps"]:
        run = step.get("run") if isinstance(step, dict) else None
        if run is not None:
            commands.append(run if isinstance(run, str) else run["command"])
    return commands


@pytest.mark.parametrize("job", ["check", "release"])
def test_github_runs_one_product_command(workflow: dict[str, Any], job: str) -> None:
    *before, last = run_steps(workflow["jobs"][job])
    assert last == PRODUCT
    assert set(before) <= SET_UP


def test_circleci_runs_one_product_command(circle: dict[str, Any]) -> None:
    assert list(circle["jobs"]) == ["pipeline"]
    *before, last = run_steps(circle["jobs"]["pipeline"])
    assert last == PRODUCT
    assert set(before) <= SET_UP
    assert "orbs" not in circle


@pytest.mark.parametrize("build", ["main", "feature", "PR-12", "tag v1.2.0"])
def test_jenkins_runs_one_product_command(jenkins: dict[str, list[dict[str, Any]]], build: str) -> None:
    assert [step["script"] for step in jenkins[build] if step["step"] == "sh"] == ["make setup", PRODUCT]


@pytest.mark.parametrize(
    ("build", "stage", "credentials"),
    [
        ("main", "Release", PASSWORD),
        ("tag v1.2.0", "Release", PASSWORD),
        ("feature", "Check", set()),
        ("PR-12", "Check", set()),
    ],
)
def test_jenkins_gives_credentials_to_releases_only(
    jenkins: dict[str, list[dict[str, Any]]], build: str, stage: str, credentials: set[str]
) -> None:
    step = jenkins[build][-1]
    assert (step["stage"], set(step["credentials"])) == (stage, credentials)
    assert step["variables"] == ["PATH+VENV=/workspace/.venv/bin"]


def test_the_commands_that_the_ci_files_run_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "setup" in targets
    assert (ROOT / "ci/main.py").is_file()
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_every_checkout_has_the_history(
    workflow: dict[str, Any], jenkins: dict[str, list[dict[str, Any]]]
) -> None:
    for job in workflow["jobs"].values():
        checkouts = [step for step in job["steps"] if "actions/checkout@" in step.get("uses", "")]
        assert [step["with"]["fetch-depth"] for step in checkouts] == [0]
        assert [step["with"]["persist-credentials"] for step in checkouts] == [False]
    for steps in jenkins.values():
        assert [(s["shallow"], s["noTags"]) for s in steps if s["step"] == "checkout"] == [(False, False)]


def test_actions_are_pinned_by_commit_and_say_their_version() -> None:
    uses = re.findall(r"uses: (\S+)(.*)", WORKFLOW.read_text())
    assert len(uses) == 8
    for action, comment in uses:
        assert re.fullmatch(r"[\w-]+(/[\w-]+)+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), (action, comment)


def test_github_gives_each_job_the_least_permissions(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {}
    reads = {"contents": "read", "actions": "read", "security-events": "write"}
    assert workflow["jobs"]["check"]["permissions"] == reads
    assert workflow["jobs"]["release"]["permissions"] == {**reads, "id-token": "write"}


@pytest.mark.parametrize(
    "file", [WORKFLOW, ROOT / "pipelines/templates/github.yml"], ids=lambda file: file.name
)
@pytest.mark.parametrize("job", ["check", "release"])
def test_the_findings_of_a_scan_are_uploaded_where_there_are_some(file: Path, job: str) -> None:
    """Also of a release that was held back; not where no scan was reached, which would be an error."""
    step = yaml.safe_load(file.read_text())["jobs"][job]["steps"][-1]
    assert "codeql-action/upload-sarif@" in step["uses"]
    assert step["if"].startswith("always() && hashFiles('.modelport/runs/*/scan.sarif') != ''")
    assert step["with"] == {"sarif_file": ".modelport/runs"}
    assert step["continue-on-error"] is True


def test_github_shows_no_credential_to_a_pull_request(workflow: dict[str, Any]) -> None:
    triggers = workflow[True]  # YAML 1.1 reads the key `on` as a truth value
    assert set(triggers) == {"push", "pull_request"}
    assert triggers["push"] == {"branches": ["main"], "tags": ["v*"]}
    check, release = workflow["jobs"]["check"], workflow["jobs"]["release"]
    assert check["if"] == "github.event_name == 'pull_request'"
    assert release["if"] == "github.event_name == 'push'"
    assert "secrets." not in json.dumps(check)
    identity = {"AZURE_CLIENT_ID", "AZURE_TENANT_ID"}  # names of an identity: no secrets
    assert set(release["steps"][-2]["env"]) == {"MODELPORT_REGISTRY", *PASSWORD, *identity}


def test_circleci_gives_credentials_to_releases_only(circle: dict[str, Any]) -> None:
    check, release = (job["pipeline"] for job in circle["workflows"]["modelport"]["jobs"])
    assert "context" not in check
    assert check["filters"] == {"branches": {"ignore": "main"}}
    assert release["context"] == "modelport-registry"
    assert release["filters"] == {"branches": {"only": "main"}, "tags": {"only": "/v.*/"}}


def test_ci_stops_on_anything_missing() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert "set -euo pipefail" in script
    assert "export CI=true" in script
    assert script.rstrip().endswith("exec make test")


def pins(name: str) -> set[str]:
    return set(re.findall(r"^(\S+==[^\s;]+)", (ROOT / name).read_text(), re.MULTILINE))


def test_the_tests_run_on_the_versions_that_users_get() -> None:
    assert pins("requirements.lock")
    assert pins("requirements.lock") < pins("requirements-dev.lock")


def test_every_dependency_of_the_project_is_in_its_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dockerfile"]
    locked = {pin.partition("==")[0] for pin in pins("requirements.lock")}
    assert {re.match(r"[a-z0-9-]+", each)[0] for each in wanted} <= locked  # type: ignore[index]
