"""What bad input gets: its exit code, an error line with its place, a hint line; nothing left or named."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from team import PROGRAM, Team, Typed, left_running, wait_for

ROOT = PROGRAM.parents[1]

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.timeout(600)]


def tags_of(team: Team, repository: str) -> list[str]:
    """What the layout of the team's repository names."""
    index = team.root / ".modelport/images" / repository / "index.json"
    entries = json.loads(index.read_text())["manifests"] if index.exists() else []
    return [entry.get("annotations", {}).get("org.opencontainers.image.ref.name", "") for entry in entries]


def refused(done: Typed, code: int, error: str) -> None:
    """Exit code, one error line that matches, one hint, no traceback."""
    assert done.code == code, done.err
    assert re.search(error, done.error), done.error
    assert done.hint
    assert "Traceback" not in done.err


def test_no_modelport_yaml(team: Team) -> None:
    (team.root / "modelport.yaml").unlink()
    refused(team.run(), 2, r"no modelport\.yaml")


def test_an_unknown_key_has_its_line_and_the_nearest_valid_one(team: Team) -> None:
    team.change("modelport.yaml", "dockerfile: Dockerfile", "dockerflie: Dockerfile")
    done = team.run()
    refused(done, 2, r"modelport\.yaml:4: unknown key \"dockerflie\"")
    assert "dockerfile" in done.hint


def test_not_a_git_repository(team: Team) -> None:
    shutil.rmtree(team.root / ".git")
    refused(team.run(), 2, "not in a git repository")


def test_a_dirty_checkout_is_not_pushed_to_production(team: Team) -> None:
    team.change("serve.py", '{"ok": True}', '{"ok": 1}')
    refused(
        team.run("--push", "--registry", "registry.example.com/models"), 2, "uncommitted changes: serve.py"
    )


def test_a_shallow_checkout_is_not_pushed_to_production(team: Team, tmp_path: Path) -> None:
    team.change("serve.py", '{"ok": True}', '{"ok": 1}')
    team.commit("second")
    clone = tmp_path / "clone"
    team.git("clone", "-q", "--depth=1", f"file://{team.root}", str(clone))
    done = Team(clone, team.machine).run("--push", "--registry", "registry.example.com/models")
    refused(done, 2, "shallow")


def test_no_container_runtime(team: Team, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("git", "sh"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = team.run(PATH=str(tools))
    refused(done, 8, "needs buildah, skopeo")
    assert "apt-get install" in done.hint


def test_dagger_asked_for_where_there_is_none(team: Team, tmp_path: Path) -> None:
    done = team.type(
        "run", "--engine", "dagger", _EXPERIMENTAL_DAGGER_RUNNER_HOST=f"unix://{tmp_path}/no.sock"
    )
    refused(done, 8, "Dagger's engine can't run here")


def test_a_dockerfile_that_fails_names_the_step_and_the_end_of_its_log(any_team: Team) -> None:
    any_team.change(
        "Dockerfile", "COPY serve.py", "RUN echo far from here && echo so near >&2 && exit 9\nCOPY serve.py"
    )
    any_team.commit("broken")
    done = any_team.run()
    refused(done, 3, r"Dockerfile:4: `echo far from here .*` ended with exit code 9")
    assert "  | so near" in done.err
    (log,) = [line.removeprefix("log: ") for line in done.err.splitlines() if line.startswith("log: ")]
    assert "far from here" in Path(log).read_text()
    assert any_team.stages()["build"]["status"] == "failed"
    assert tags_of(any_team, "mood") == []


def test_a_dockerfile_with_a_wrong_instruction(team: Team) -> None:
    team.change("Dockerfile", "FROM python", "FORM python")
    team.commit("broken")
    refused(team.run(), 3, "(?i)dockerfile.*FORM")


def test_a_base_image_that_is_not_there(team: Team) -> None:
    team.change("Dockerfile", "python:3.11-slim", f"{team.machine.registry}/library/python:0.1")
    team.commit("broken")
    refused(team.run(), 3, "library/python:0.1")


def test_a_golden_case_that_differs(any_team: Team) -> None:
    any_team.change("golden.jsonl", '"bad"', '"good"')
    any_team.commit("a wrong expectation")
    done = any_team.run()
    refused(done, 4, r'golden\.jsonl:2: "label" is "bad", expected "good"')
    assert tags_of(any_team, "mood") == []
    assert any_team.stages()["scan"]["status"] == "ok"  # the other gates ran to their end


def test_a_metric_below_its_limit(team: Team) -> None:
    team.change("data.jsonl", '"good"', '"bad"')
    team.commit("other data")
    refused(team.run(), 4, r"accuracy (is )?0\.\d+")


def test_a_model_that_does_not_start(any_team: Team) -> None:
    any_team.change("serve.py", "import json", "raise SystemExit('no weights here')\nimport json")
    any_team.commit("broken")
    done = any_team.run()
    refused(done, 4, "exit code 1")
    assert "no weights here" in done.err


def test_a_secret_in_the_image_blocks_it(team: Team) -> None:
    key = "AKIA" + "Q3EGRIPXMLQ7HDVW"
    team.change(
        "serve.py",
        "import json",
        f"KEY = '{key}'; SECRET = '{'wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzTRUEKEY9'}'\nimport json",
    )
    team.commit("a key")
    done = team.run()
    refused(done, 5, r"/app/serve\.py")
    assert key not in done.err
    assert tags_of(team, "mood") == []


def test_a_registry_that_is_not_there(team: Team) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    refused(team.run("--registry", f"127.0.0.1:{port}/models"), 6, f"127.0.0.1:{port}")


def test_one_registry_of_two_is_down(team: Team) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    where = f"{team.machine.registry}/{team.root.parent.name.lower().replace('_', '-')}"
    done = team.run("--registry", f"{where},127.0.0.1:{port}/models")
    refused(done, 6, "nothing listens there")
    assert "released" not in done.out
    assert list(team.stages()) == ["preflight"]


def test_trace_of_a_tag_that_is_not_there(team: Team) -> None:
    refused(team.type("trace", f"{team.machine.registry}/library/python:nothing"), 9, "nothing")


def test_two_runs_at_once_of_one_model(team: Team) -> None:
    team.change("Dockerfile", "COPY serve.py", "RUN sleep 30\nCOPY serve.py")
    team.commit("slow")
    first = team.start("run", "--engine", "embedded")
    try:
        wait_for((team.root / ".modelport/runs").exists)
        refused(team.run(), 2, "another run of mood is under way")
    finally:
        first.terminate()
        _, err = first.communicate(timeout=60)
    assert first.returncode == 130, err
    assert left_running(team.machine.state) == []


# Ctrl-C, in every stage


def stopped_in(team: Team, done: Typed, stage: str) -> None:
    """Exit 130, the stage says so, nothing is left and nothing is named."""
    assert done.code == 130, done.err
    assert done.error.startswith("error: interrupted")
    assert "Traceback" not in done.err
    record = team.record()
    assert record["status"] == "interrupted"
    assert team.stages()[stage]["status"] == "interrupted"
    assert left_running(team.machine.state) == []
    assert tags_of(team, "mood") == []


def test_ctrl_c_in_build(any_team: Team) -> None:
    any_team.change("Dockerfile", "COPY serve.py", "RUN sleep 4711\nCOPY serve.py")
    any_team.commit("slow")
    stopped_in(any_team, any_team.interrupted("sleep 4711"), "build")


def test_ctrl_c_in_check(team: Team) -> None:
    team.change("serve.py", "import json", "import json, subprocess")
    team.change("serve.py", "        text = ", "        subprocess.run(['sleep', '4712'])\n        text = ")
    team.commit("slow")
    stopped_in(team, team.interrupted("sleep 4712"), "check")


def test_ctrl_c_in_scan(team: Team) -> None:
    team.change("serve.py", '{"ok": True}', '{"ok": "scan me anew"}')
    team.commit("new")
    stopped_in(team, team.interrupted("pipelines.in_engine.confined"), "scan")


def test_ctrl_c_in_preflight(team: Team) -> None:
    with silent_server() as (address, was_called):
        stopped_in(team, team.interrupted(was_called, "--registry", f"{address}/models"), "preflight")


def test_ctrl_c_in_push(team: Team) -> None:
    journal = team.root / ".modelport/push/mood/releases.json"
    with stalling_registry() as address:
        stopped_in(team, team.interrupted(journal.exists, "--registry", f"{address}/models"), "push")


@contextmanager
def stalling_registry() -> Iterator[str]:
    """A registry that takes no upload to its end."""
    command = [sys.executable, "-m", "tests.registries", "--fault", "stall@PUT"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield re.findall(r"127\.0\.0\.1:\d+", process.stdout.readline())[0]
        finally:
            process.terminate()
            process.stdout.read()


@contextmanager
def silent_server() -> Iterator[tuple[str, Callable[[], bool]]]:
    """A registry that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        taken: list[socket.socket] = []

        def was_called() -> bool:
            try:
                taken.append(server.accept()[0])
            except BlockingIOError:
                return bool(taken)
            return True

        try:
            yield f"127.0.0.1:{server.getsockname()[1]}", was_called
        finally:
            for connection in taken:
                connection.close()
