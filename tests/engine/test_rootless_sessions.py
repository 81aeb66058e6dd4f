"""Whole sessions as an ordinary user: with subordinate ids, without them, and in a place like a pod."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from engine_home import EngineHome
from ordinary_user import OrdinaryUser, ordinary_user, why_not
from registry_process import free_port

from embedded_engine.runtime.init import init_program

# Not root's tests in CI run as an ordinary user anyway: there these skip aloud, and that is no failure.
pytestmark = [pytest.mark.timeout(300), *([] if why_not() else [pytest.mark.engine])]

KINDS = ("subordinate ids", "one id", "like a pod")
PROGRAM = "sources/tests/engine/rootless_program.py"


@dataclass(frozen=True)
class Case:
    """A user and the session they ran."""

    kind: str
    user: OrdinaryUser
    home: EngineHome
    first: dict[str, str]
    said: str
    arguments: tuple[str, ...]

    @property
    def single(self) -> bool:
        return self.kind != KINDS[0]


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, home: EngineHome) -> Iterator[Case]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    kind = str(request.param)
    with ordinary_user(subordinate_ids=kind == KINDS[0], like_a_pod=kind == KINDS[2]) as user:
        target = f"{home.registry.host}/rootless/{user.name}:{KINDS.index(kind)}"
        arguments = (home.base, target, str(free_port()))
        done = session(user, arguments)
        assert done.returncode == 0, done.stderr[-4000:]
        yield Case(kind, user, home, json.loads(done.stdout), done.stderr, arguments)


def session(
    user: OrdinaryUser, arguments: tuple[str, ...], **environ: str
) -> subprocess.CompletedProcess[str]:
    python = str(Path(user.command("")[-2]))
    return user.run("-m", "embedded_engine", "run", python, PROGRAM, *arguments, **environ)


def test_a_whole_session_works(case: Case) -> None:
    assert case.first["exec"] == "0\nfrom a run\n"
    assert case.first["owner"] == ("0:0\n" if case.single else "1000:1000\n")
    assert case.first["user"] == ("0\n/home/app\n" if case.single else "1000\n/home/app\n")
    assert case.first["build"] == ("built\n0\n" if case.single else "built\n1000\n")
    assert case.first["service"] == "served"
    if case.kind != "like a pod":  # there /proc is of another namespace
        assert case.first["parent"].startswith("/run/.engine/init") is bool(init_program())
    assert case.first["cache"] == "kept\n"


def test_the_image_is_in_the_registry(case: Case) -> None:
    host, _, rest = case.first["published"].partition("/")
    name, _, digest = rest.partition("@")
    repository = name.partition(":")[0]
    request = urllib.request.Request(  # the loopback registry
        f"http://{host}/v2/{repository}/manifests/{digest}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert json.load(response)["layers"]


def test_what_one_id_costs_is_told_once(case: Case) -> None:
    warned = case.said.count("embedded-engine: warning:")
    assert warned == (1 if case.single else 0), case.said
    if case.single:
        assert "no subordinate ids" in case.said
        assert re.search(rf"usermod --add-subuids \d+-\d+ --add-subgids \d+-\d+ {case.user.name}", case.said)


def test_a_second_session_runs_nothing_and_leaves_nothing(case: Case) -> None:
    events = case.user.home / "events.json"
    again = session(
        case.user,
        case.arguments,
        EMBEDDED_ENGINE_EVENTS=str(events),
        XDG_RUNTIME_DIR="/run/user/not-there",  # as after `su`
    )
    assert again.returncode == 0, again.stderr[-4000:]
    assert json.loads(again.stdout) == case.first
    assert "warning" not in again.stderr
    operations = [json.loads(line) for line in events.read_text().splitlines()]
    ran = {one["kind"] for one in operations if not one["cached"]}
    assert ran <= {"service", "publish"}
    assert case.user.processes() == []
    assert str(case.user.home) not in Path("/proc/self/mountinfo").read_text()


def test_doctor_says_how_it_works_and_what_is_lost(case: Case) -> None:
    done = case.user.run("-m", "embedded_engine", "doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    found = {(one["section"], one["name"]): one for one in document["findings"]}
    assert document["ok"]
    user = found["user", case.user.name]
    assert user["status"] == ("warning" if case.single else "ok")
    if case.kind == KINDS[1]:
        assert re.search(rf"echo {case.user.name}:\d+:65536 >> /etc/subuid", user["remedy"])
    if case.kind == KINDS[2]:
        assert "no_new_privs is set" in user["remedy"]
        assert "Operation not permitted" in found["processes", "a /proc of its own for each run"]["text"]
        assert found["containers", "taken"]["text"].startswith("chroot, the host's network")
        assert found["devices", "/dev/net/tun"]["text"] == "missing"
