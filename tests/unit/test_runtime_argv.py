"""Command lines of the runtime are plain data: they say what is meant, and never a secret."""

from __future__ import annotations

import stat
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from embedded_engine.runtime import machine
from embedded_engine.runtime.buildah import (
    Isolation,
    hosts_text,
    mount_points,
    prepare,
    run_argv,
    secret_variables,
    volume_arg,
)
from embedded_engine.runtime.dockerfile import base_args, build_argv, secret_args
from embedded_engine.runtime.host_settings import HostSettings
from embedded_engine.runtime.images import archive_kind, platform_args, resolve_argv, untagged
from embedded_engine.runtime.init import is_static
from embedded_engine.runtime.links import Link
from embedded_engine.runtime.logins import auth_file, host_of, is_loopback
from embedded_engine.runtime.networks import dns_args
from embedded_engine.runtime.port import (
    BuildStep,
    ExecStep,
    Login,
    Mount,
    RuntimeFailure,
    SecretFile,
    Snapshot,
)
from embedded_engine.runtime.programs import settled
from embedded_engine.runtime.working import commit_argv, from_argv

SETTINGS = HostSettings(Path("/state/host/x"), (("PIP_CERT", "/run/.engine/ca.pem"), ("A", "host")))
PARENT = Snapshot("f" * 64)


def test_a_run_has_the_steps_environment_before_the_hosts() -> None:
    step = ExecStep(PARENT, ("echo", "--flag"), env=(("A", "mine"),), user="app", workdir="/w")
    argv = run_argv(step, "ee-1-2-x", ["--isolation=chroot"], SETTINGS, [(Path("/h"), "/etc/hosts", True)])
    assert argv[:2] == ["buildah", "run"]
    assert argv[-4:] == ["ee-1-2-x", "--", "echo", "--flag"]
    assert "--env=A=mine" in argv
    assert "--env=A=host" not in argv
    assert {
        "--env=PIP_CERT=/run/.engine/ca.pem",
        "--user=app",
        "--workingdir=/w",
        "--volume=/h:/etc/hosts:ro",
        "--isolation=chroot",
    } <= set(argv)


def test_an_init_stands_before_the_command_unless_the_step_has_none() -> None:
    settings = replace(SETTINGS, init=("/run/.engine/init", "--"))
    step = ExecStep(PARENT, ("echo", "x"))
    assert run_argv(step, "c", [], settings, [])[-6:] == ["c", "--", *settings.init, "echo", "x"]
    assert run_argv(replace(step, init=False), "c", [], settings, [])[-4:] == ["c", "--", "echo", "x"]


@pytest.mark.parametrize(
    ("content", "mode", "with_init"),
    [
        (b"#!/bin/sh\n", 0o755, True),
        (b"\x7fELF\x02", 0o755, True),
        (b"echo\n", 0o755, False),
        (b"", 0o755, False),
        (b"echo\n", 0o644, True),  # refused by anyone
    ],
)
def test_what_a_shell_would_read_is_not_started_by_an_init(
    tmp_path: Path, content: bytes, mode: int, with_init: bool
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/prog").write_bytes(content)
    (tmp_path / "bin/prog").chmod(mode)
    (tmp_path / "sbin").symlink_to("/bin")
    init = ("/init", "--")
    for args, workdir in ((("prog",), "/"), (("/sbin/prog",), "/"), (("./prog",), "/bin")):
        step = ExecStep(PARENT, args, env=(("PATH", "/nowhere:/sbin"),), workdir=workdir)
        assert settled(step, tmp_path, init).init is with_init
        assert settled(step, tmp_path, ()).init is False
        assert settled(replace(step, init=False), tmp_path, init).init is False


def test_an_init_must_need_no_loader(tmp_path: Path) -> None:
    def program(*kinds: int) -> Path:
        head = b"\x7fELF\x02".ljust(32, b"\0") + struct.pack("<Q", 64)
        head = head.ljust(54, b"\0") + struct.pack("<HH", 56, len(kinds))
        table = b"".join(struct.pack("<I", kind).ljust(56, b"\0") for kind in kinds)
        file = tmp_path / "-".join(map(str, ("p", *kinds)))
        file.write_bytes(head.ljust(64, b"\0") + table)
        return file

    assert is_static(program(1, 1))
    assert not is_static(program(6, 3, 1))
    (tmp_path / "script").write_text("#!/bin/sh\n" + 100 * "x")
    assert not is_static(tmp_path / "script")
    assert not is_static(tmp_path / "missing")


def test_the_machines_key_knows_the_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "init_program", lambda: "")
    without = machine.machine_key()
    (tmp_path / "init").write_text("x")
    monkeypatch.setattr(machine, "init_program", lambda: str(tmp_path / "init"))
    assert machine.machine_key() != without


def test_a_secret_variable_is_in_a_file_that_the_command_sources() -> None:
    step = ExecStep(PARENT, ("prog", "arg"), secret_env=(("TOKEN", "it's $ecret"),))
    argv = run_argv(step, "name", [], SETTINGS, [])
    assert argv[-6:-4] == ["/bin/sh", "-c"]
    assert argv[-4].startswith(". /run/.engine-secrets; ")
    assert argv[-4].endswith('exec "$@"')
    assert argv[-3:] == ["prog", "prog", "arg"]
    assert not [word for word in argv if "ecret'" in word or "$ecret" in word]
    assert secret_variables(step.secret_env) == b"export TOKEN='it'\\''s $ecret'\n"
    assert "$ecret" not in repr(step)


def test_secret_files_are_private_and_mounted_read_only(tmp_path: Path) -> None:
    step = ExecStep(PARENT, ("true",), secret_files=(SecretFile("/s", b"value"),))
    volumes = prepare(step, tmp_path, tmp_path, HostSettings(None))
    (file,) = [source for source, target, _ in volumes if target == "/s"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    assert ("/s", True) in [(target, read_only) for _, target, read_only in volumes]


def test_paths_with_colons_are_mounted_another_way() -> None:
    assert volume_arg(Path("/a"), "/b", True) == "--volume=/a:/b:ro"
    assert volume_arg(Path("/a:1"), "/b", False) == "--mount=type=bind,source=/a:1,target=/b,rw"


def test_every_mount_point_is_known_to_the_clearing_away() -> None:
    step = ExecStep(PARENT, ("true",), mounts=(Mount("/t", kind="tmpfs"),))
    assert mount_points(step, [(Path("/x"), "/deep/x", True)]) == ["/run/.engine", "/deep/x", "/t"]


def test_hosts_of_an_exec() -> None:
    assert hosts_text([("10.0.0.9", ("web", "w2"))]).splitlines()[-1] == "10.0.0.9\tweb w2"


@pytest.mark.parametrize(
    ("isolation", "expected"),
    [
        (Isolation("chroot", "slirp", ""), ["--isolation=chroot"]),
        (Isolation("oci", "slirp", "runc"), ["--isolation=oci", "--runtime=runc", "--network=host"]),
        (Isolation("oci", "private", "crun"), ["--isolation=oci", "--runtime=crun", "--network=private"]),
    ],
)
def test_isolation_options(isolation: Isolation, expected: list[str]) -> None:
    assert isolation.args() == expected


def test_a_container_never_pulls_and_a_commit_stamps_one_time() -> None:
    assert from_argv(PARENT, "n", []) == ["buildah", "from", "--quiet", "--pull-never", "--name", "n", PARENT]
    assert from_argv(Snapshot(""), "n", [])[-1] == "scratch"
    assert "--timestamp=315532800" in commit_argv("n", [])


def test_a_build_names_bases_and_secrets_but_no_value(tmp_path: Path) -> None:
    step = BuildStep(
        tmp_path,
        target="final",
        args=(("A", "1"),),
        secrets=(("token", b"hush"),),
        pins=(("py", "py@sha256:1"),),
    )
    options = [
        *base_args("ARG B=py\nFROM $B\n", step.args, {"py": "id1"}),
        *secret_args(tmp_path, step.secrets),
    ]
    argv = build_argv(step, tmp_path, SETTINGS, options)
    assert "--build-context=$B=container-image://id1" in argv
    assert "--build-context=py=container-image://id1" in argv
    assert "--build-arg=A=1" in argv  # the user's own beats the host's
    assert "--build-arg=A=host" not in argv
    assert not [word for word in argv if "hush" in word]
    assert "hush" not in repr(step)
    assert stat.S_IMODE((tmp_path / "secret-0").stat().st_mode) == 0o600


def test_resolving_asks_with_the_same_options_as_copying() -> None:
    assert resolve_argv("h/x:1", ["--src-tls-verify=false", "--src-authfile", "/a"]) == [
        *("skopeo", "inspect", "--raw", "--no-tags"),
        *("--tls-verify=false", "--authfile", "/a", "docker://h/x:1"),
    ]


def test_addresses_hosts_and_platforms() -> None:
    assert untagged("h:5000/a/b:1@sha256:x") == "h:5000/a/b"
    assert untagged("h:5000/a") == "h:5000/a"
    assert [host_of(one) for one in ("h:5000/a", "localhost/a", "python:3", "a/b")] == [
        *("h:5000", "localhost", "docker.io", "docker.io")
    ]
    loopback = ["127.0.0.1:5000", "localhost", "[::1]:5000", "127.9.9.9"]
    assert [is_loopback(host) for host in [*loopback, "example.com", "10.0.0.1:5000"]] == [True] * 4 + [
        False
    ] * 2
    assert platform_args("linux/arm/v7") == [
        *("--override-os", "linux", "--override-arch", "arm", "--override-variant", "v7")
    ]


def test_a_login_is_a_private_file(tmp_path: Path) -> None:
    file = auth_file(tmp_path, {"h:1": Login("me", "hush")})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "hush" not in file.read_text()  # base64, as containers-auth.json(5) wants it
    assert '"h:1"' in file.read_text()


def test_a_resolver_on_the_loopback_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("search x\nnameserver 127.0.0.53\n")
    assert dns_args("slirp", file) == ["--dns=10.0.2.3"]
    assert dns_args("host", file) == []
    file.write_text("nameserver 192.0.2.53\n")
    assert dns_args("slirp", file) == []


def test_service_addresses_differ_with_their_processes() -> None:
    addresses = [Link(pid).address for pid in (1, 2, 131_069, 4_194_303)]
    assert addresses == ["198.18.0.2", "198.18.0.3", "198.19.255.254", "198.18.0.64"]


def test_what_kind_of_archive_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no")
    with pytest.raises(RuntimeFailure, match=r"x\.tar is not an image archive"):
        archive_kind(tmp_path / "x.tar", "")
