"""What the tools are configured with, and what of the site reaches a container."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from embedded_engine.runtime import state as state_module
from embedded_engine.runtime.edits import apply_edits, owner_ids
from embedded_engine.runtime.host_settings import apt_conf, host_settings, pip_settings
from embedded_engine.runtime.port import Copy, Link, Remove, RuntimeFailure, Snapshot, Write
from embedded_engine.runtime.probe import candidates, told
from embedded_engine.runtime.residue import Residue
from embedded_engine.runtime.state import (
    containers_conf,
    open_state,
    policy_needed,
    runtime_base,
    subnet_of,
    tool_environ,
    use_driver,
)


def test_limits_are_never_above_this_process_own(tmp_path: Path) -> None:
    state = open_state(tmp_path / "s", {"XDG_RUNTIME_DIR": str(tmp_path / "run")})
    assert '"nofile=1024:1024", "nproc=4096:4096"' in containers_conf(state, 1024, 1 << 30)
    text = (state.root / "containers.conf").read_text()
    assert 'cgroup_manager = "cgroupfs"' in text
    assert subnet_of(state).startswith("10.")


def test_the_tools_see_our_storage_and_the_sites_registries(tmp_path: Path) -> None:
    state = open_state(tmp_path, {"XDG_RUNTIME_DIR": str(tmp_path / "run")})
    environ = tool_environ(
        state, {"CONTAINERS_REGISTRIES_CONF": "/site", "BUILDAH_FORMAT": "docker", "HOME": "/h"}
    )
    assert environ["CONTAINERS_STORAGE_CONF"] == str(tmp_path / "storage.conf")
    assert environ["CONTAINERS_REGISTRIES_CONF"] == "/site"
    assert "BUILDAH_FORMAT" not in environ
    assert f'graphroot = "{tmp_path}/storage"' in (tmp_path / "storage.conf").read_text()


def test_the_driver_once_settled_stays(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    state = open_state(tmp_path, environ)
    assert state.driver == "overlay"
    use_driver(state, "vfs")
    assert open_state(tmp_path, environ).driver == "vfs"


def test_storage_is_read_without_a_process(tmp_path: Path) -> None:
    state = open_state(tmp_path, {"XDG_RUNTIME_DIR": str(tmp_path / "run")})
    assert state.present() == frozenset()
    images = state.storage / "overlay-images"
    images.mkdir(parents=True)
    (images / "images.json").write_text(
        json.dumps([{"id": "abc", "big-data-names": ["manifest"]}, {"id": "half-made"}])
    )
    (images / "abc").mkdir()
    (images / "abc" / "=c2hhMjU2OmFiYw==").write_text('{"rootfs": {"diff_ids": ["sha256:1"]}}')
    assert state.present() == {Snapshot("abc")}
    assert state.image_config(Snapshot("abc"))["rootfs"]["diff_ids"] == ["sha256:1"]


def test_a_policy_is_ours_only_where_the_machine_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedded_engine.runtime.state._POLICY_FILES", (str(tmp_path / "policy.json"),))
    assert policy_needed({"HOME": str(tmp_path)})
    (tmp_path / "policy.json").touch()
    assert not policy_needed({"HOME": str(tmp_path)})


def test_pips_settings_come_from_files_and_variables_without_showing_in_either(tmp_path: Path) -> None:
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip/pip.conf").write_text(
        "[global]\nindex-url = https://u:hush@index/\ntimeout = 5\ncert=/x\n"
    )
    environ = {"HOME": str(tmp_path), "PIP_TIMEOUT": "9", "PIP_USER": "1"}
    found = pip_settings(environ)
    assert found["index-url"] == "https://u:hush@index/"
    assert found["timeout"] == "9"
    assert "user" not in found
    assert "cert" not in found
    bundle = tmp_path / "ca"
    bundle.write_text("CERT")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "a.whl").touch()
    environ |= {"SSL_CERT_FILE": str(bundle), "PIP_FIND_LINKS": f"https://x/ {wheels} {tmp_path / 'none'}"}
    settings = host_settings(tmp_path / "host", environ, [])
    assert settings.directory is not None
    assert "hush" not in repr(settings)
    text = (settings.directory / "pip.conf").read_text()
    assert "hush" in text
    assert "https://x/\n\t/run/.engine-wheels-0" in text
    assert settings.links == ((wheels, "/run/.engine-wheels-0"),)
    assert dict(settings.env)["PIP_CERT"] == "/run/.engine/ca.pem"
    assert (settings.directory / "ca.pem").read_text() == "CERT"
    assert settings.directory.parent.stat().st_mode & 0o777 == 0o700
    assert host_settings(tmp_path / "host", environ, []) == settings


def test_apt_keeps_proxies_and_date_checks_and_gets_our_bundle() -> None:
    dump = [
        'Acquire::http::Proxy "http://p:1/";',
        'Acquire::https::CAInfo "/site/ca.pem";',
        'Acquire::Check-Valid-Until "false";',
        'Acquire::http "";',
        'APT::Architecture "amd64";',
    ]
    assert apt_conf(dump, ca=True).splitlines() == [
        'Acquire::http::Proxy "http://p:1/";',
        'Acquire::Check-Valid-Until "false";',
        'Acquire::https::CAInfo "/run/.engine/ca.pem";',
    ]


def test_candidates_run_from_the_best_isolated_to_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: f"/bin/{tool}")
    assert [told(one) for one in candidates()] == [
        "oci (runc), own network (slirp4netns)",
        "oci (crun), own network (slirp4netns)",
        "oci (runc), own network (bridge)",
        "oci (crun), own network (bridge)",
        "oci (runc), the host's network",
        "oci (crun), the host's network",
        "chroot, own network (slirp4netns)",
        "chroot, the host's network",
    ]


def test_residue_is_what_was_not_there_and_is_still_empty(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "was").mkdir()
    residue = Residue.before(tmp_path, ["/was", "/a/b/c", "/d/file", "/used"], "/a/b/c/w")
    for directory in ("a/b/c/w", "d", "used", "run/secrets"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/hosts").touch()
    (tmp_path / "d/file").touch()
    (tmp_path / "used/own").write_text("by the command")
    residue.clear()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {
        *("etc", "was", "used", "used/own"),
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/passwd").write_text("app:x:1000:1001::/:/bin/sh\n")
    (tmp_path / "root/etc/group").write_text("web:x:33:\n")
    return tmp_path / "root"


def test_owners_are_looked_up_in_the_root(root: Path) -> None:
    owners = {owner: owner_ids(root, owner) for owner in ("", "7", "7:8", "app", "app:web", ":web")}
    assert owners == {
        "": (0, 0),
        "7": (7, 7),
        "7:8": (7, 8),
        "app": (1000, 1001),
        "app:web": (1000, 33),
        ":web": (0, 33),
    }
    with pytest.raises(RuntimeFailure, match="unable to find user ghost"):
        owner_ids(root, "ghost")


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_edits_stay_inside_the_root(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").write_text("x")
    (root / "trap").symlink_to(tmp_path / "outside")
    (root / "up").symlink_to("../../..")
    tree = tmp_path / "tree"
    (tree / "trap").mkdir(parents=True)
    (tree / "trap/new").write_text("n")
    apply_edits(
        root,
        [
            Write("/trap/a", b"1"),
            Write("/up/b", b"2"),
            Link("/l", "trap"),
            Copy(tree, "/"),
            Remove("/trap/precious"),
            Remove("/tra*/pre*"),
        ],
    )
    assert {path.name for path in (tmp_path / "outside").iterdir()} == {"precious"}
    assert (root / "b").read_bytes() == b"2"


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_a_file_never_replaces_a_directory(root: Path) -> None:
    apply_edits(root, [Write("/etc", b"in it")])
    assert (root / "etc/etc").read_bytes() == b"in it"
    (root / "srv/srv").mkdir(parents=True)
    with pytest.raises(RuntimeFailure, match=r"/srv/srv: is a directory"):
        apply_edits(root, [Write("/srv", b"")])


def test_users_in_user_namespaces_do_not_share_a_run_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "TEMPORARY", tmp_path)
    found = {runtime_base(tmp_path, {"_CONTAINERS_ROOTLESS_UID": user}).name for user in ("1000", "1001")}
    assert found == {"embedded-engine-1000", "embedded-engine-1001"}


def test_a_directory_that_somebody_else_made_is_no_run_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "TEMPORARY", tmp_path)
    (tmp_path / "else").mkdir()
    (tmp_path / f"embedded-engine-{os.getuid()}").symlink_to(tmp_path / "else")
    assert runtime_base(tmp_path / "state", {"XDG_RUNTIME_DIR": "/gone"}) == tmp_path / "state" / "run"
