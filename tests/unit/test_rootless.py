"""The namespace of one id, what leads into a namespace, and what doctor makes of a machine."""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path

import pytest

from embedded_engine import doctor_advice, doctor_host
from embedded_engine.findings import Finding, document, table
from embedded_engine.runtime import machine, notices, rootless
from embedded_engine.runtime.drivers import copies_warning
from embedded_engine.runtime.single_id import CALLS, filter_program, is_single
from embedded_engine.state import StartFailed

ALLOW, PRETEND = 0x7FFF0000, 0x00050000


def verdict(number: int, *arguments: int, architecture: str = "x86_64", audit: int = 0) -> int:
    """What the kernel would answer: the filter, run by hand."""
    calls = CALLS[architecture]
    data = struct.pack("IIQ6Q", number, audit or calls.audit, 0, *arguments, *[0] * (6 - len(arguments)))
    program = [struct.unpack("HBBI", one) for one in filter_program(calls)]
    at, register = 0, 0
    while True:
        code, met, unmet, value = program[at]
        at += 1
        if code == 0x20:
            register = struct.unpack_from("I", data, value)[0]
        elif code == 0x06:
            return int(value)
        else:
            holds = register == value if code == 0x15 else bool(register & value)
            at += met if holds else unmet


@pytest.mark.parametrize("call", [92, 93, 94, 260, 105, 106, 116, 117, 119])
def test_changes_of_owner_and_user_are_pretended(call: int) -> None:
    assert verdict(call) == PRETEND


@pytest.mark.parametrize(
    ("mode", "device", "expected"),
    [
        (0o020600, 0x103, PRETEND),  # a character device
        (0o060600, 0x800, PRETEND),  # a block device
        (0o020000, 0, ALLOW),  # overlayfs's mark of a deleted file
        (0o010600, 0, ALLOW),  # a pipe
        (0o100600, 7, ALLOW),  # a plain file, whatever the third argument holds
    ],
)
def test_only_device_files_are_not_made(mode: int, device: int, expected: int) -> None:
    assert verdict(133, 0, mode, device) == expected
    assert verdict(259, 0, 0, mode, device) == expected
    assert verdict(33, 0, 0, mode, device, architecture="aarch64") == expected


def test_other_calls_and_other_architectures_are_left_alone() -> None:
    assert verdict(0) == verdict(59) == verdict(90) == ALLOW
    assert verdict(92, audit=0x40000003) == ALLOW  # a 32-bit program's call 92 is another one


@pytest.mark.parametrize(
    ("text", "single"),
    [
        ("         0       1000          1\n", True),
        ("         0       1000          1\n         1     100000      65536\n", False),
        ("         0          0 4294967295\n", False),
        ("", False),
    ],
)
def test_one_id_is_told_by_the_map(tmp_path: Path, text: str, *, single: bool) -> None:
    (tmp_path / "uid_map").write_text(text)
    assert is_single(tmp_path / "uid_map") is single
    assert not is_single(tmp_path / "missing")


def test_user_0_without_sys_admin_is_not_root(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nCapEff:\t000001fffedfffff\n")
    assert rootless.capabilities(status) >> 21 & 1 == 0
    assert not rootless.is_root(status)
    status.write_text("CapEff:\t000001ffffffffff\n")
    assert rootless.is_root(status) is (os.geteuid() == 0)


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """This process, taken for an ordinary user's outside of any namespace."""
    monkeypatch.setattr(rootless, "is_root", lambda: False)
    monkeypatch.delenv(rootless.INSIDE, raising=False)
    monkeypatch.setenv(rootless.REFUSED, "")  # restored, whatever the test does to it
    monkeypatch.setenv("EMBEDDED_ENGINE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def test_what_works_is_found_by_running_and_remembered(
    ordinary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    ways = {"buildah": lambda _: ["false"], "unshare": lambda _: ["env"]}
    monkeypatch.setattr(rootless, "WAYS", ways)
    monkeypatch.setattr(os, "execvpe", lambda _, argv, env: started.append([*argv, env[rootless.INSIDE]]))
    rootless.enter(["session", "--quiet"])
    program = [sys.executable, "-m", "embedded_engine", "session", "--quiet"]
    assert started == [["env", *program, "done"]]
    monkeypatch.setattr(rootless, "_tried", lambda *_: pytest.fail("tried again"))
    rootless.enter(["session"])
    assert len(started) == 2
    known = json.loads((ordinary / "namespace.json").read_text())
    (ordinary / "namespace.json").write_text(json.dumps({**known, "machine": "another"}))
    with pytest.raises(pytest.fail.Exception, match="tried again"):
        rootless.enter(["session"])


def test_a_machine_without_namespaces_stops_a_session_but_not_doctor(
    ordinary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = ["sh", "-c", "echo 'unshare failed: Operation not permitted' >&2; exit 1"]
    monkeypatch.setattr(rootless, "WAYS", {"unshare": lambda _: refuse})
    with pytest.raises(StartFailed, match=r"user namespace \(unshare: unshare failed: Operation not permit"):
        rootless.enter(["session"])
    rootless.enter(["doctor"])
    assert "Operation not permitted" in os.environ[rootless.REFUSED]
    found = next(doctor_host.user())
    assert found.status == "no"
    assert not (ordinary / "namespace.json").exists()


def test_a_runtime_directory_that_is_not_ours_is_forgotten(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "gone"), "A": "b"}
    rootless.usable_runtime_directory(environ)
    assert environ == {"A": "b"}
    environ["XDG_RUNTIME_DIR"] = str(tmp_path)
    rootless.usable_runtime_directory(environ)
    assert environ["XDG_RUNTIME_DIR"] == str(tmp_path)


def test_a_warning_is_told_once_for_a_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = copies_warning(0.5, "overlay is refused")
    assert "32 MB in 0.5 s" in text
    assert "1 GB takes about 16 s" in text
    for _ in range(2):
        notices.once(tmp_path, "vfs", text)
    assert capsys.readouterr().err.count("embedded-engine: warning: layers") == 1
    assert notices.told(tmp_path) == {"vfs": text}


def test_the_machine_is_another_one_when_a_tool_or_a_limit_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "buildah"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    first = machine.machine_key()
    assert machine.machine_key() == first
    tool.write_text("#!/bin/sh\n# newer\n")
    assert machine.machine_key() != first


def test_a_free_range_follows_the_others(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    assert machine.free_start(file) == 100_000
    file.write_text("a:100000:65536\nb:300000:65536\n")
    assert machine.free_start(file) == 365_536
    assert machine.has_subordinate_ids(file, "b", 7)
    assert not machine.has_subordinate_ids(file, "c", 7)


@pytest.mark.parametrize(
    ("version", "older"), [("1.28.2", False), ("1.28.10", False), ("1.9.9", True), ("1.28.2+ds1", False)]
)
def test_versions_go_by_number(version: str, *, older: bool) -> None:
    assert doctor_host.is_older(version, "1.28.2") is older


def test_settings_of_the_kernel_come_back_as_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"kernel/unprivileged_userns_clone": "0", "kernel/apparmor_restrict_unprivileged_userns": "1"}
    monkeypatch.setattr(doctor_advice, "sysctl", lambda name: settings.get(name, ""))
    monkeypatch.setattr(doctor_advice, "in_container", lambda: False)
    advice = doctor_advice.namespace_advice()
    assert "sysctl -w kernel.unprivileged_userns_clone=1" in advice
    assert "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0" in advice
    assert "hostUsers" not in advice
    monkeypatch.setattr(doctor_advice, "in_container", lambda: True)
    assert "hostUsers: false" in doctor_advice.namespace_advice()


def test_findings_are_a_table_or_json() -> None:
    findings = [
        Finding("tools", "crun", "no", "not installed", "one\ntwo"),
        Finding("tools", "ip", "ok", "x"),
    ]
    assert table(findings).splitlines() == [
        "tools       NO  crun: not installed",
        "                -> one",
        "                   two",
        "            ok  ip: x",
    ]
    assert json.loads(document(findings, ok=False))["findings"][0]["remedy"] == "one\ntwo"


def test_missing_programs_are_one_line_for_three_families() -> None:
    line = machine.package_line("newuidmap", "newgidmap")
    assert line == "apt-get install uidmap | dnf install shadow-utils | apk add shadow-uidmap"
