"""registries.conf, auth files, certificates and proxies: what is honoured, in which order."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from embedded_engine.runtime import registries_conf
from embedded_engine.runtime.auth_files import AuthFiles, keys_of
from embedded_engine.runtime.distribution import plain, reasons, retry_after, untrusted
from embedded_engine.runtime.logins import auth_file
from embedded_engine.runtime.port import Login, RuntimeFailure
from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.proxies import proxy_of
from embedded_engine.runtime.registries import patience_s
from embedded_engine.runtime.registries_conf import read_registries_conf
from embedded_engine.runtime.trust import tls_context
from embedded_engine.runtime.uploads import told_offset

CONF = """
unqualified-search-registries = ["quay.test", "docker.io"]

[[registry]]
prefix = "example.test/team"
location = "inner.test/elsewhere"
insecure = true

[[registry.mirror]]
location = "mirror.test:5000/copy"

[[registry]]
location = "example.test"
blocked = true

[[registry]]
prefix = "*.wild.test"
insecure = true

[aliases]
"tool" = "example.test/tools/tool"
"""


def environ(directory: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(directory), "PATH": f"{directory}/bin:/usr/bin:/bin", **more}


@pytest.fixture(autouse=True)
def no_system_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own registries.conf.d says nothing here (Debian's has an alias for python)."""
    monkeypatch.setattr(registries_conf, "SYSTEM", tmp_path / "etc/containers")


@pytest.fixture
def conf(tmp_path: Path) -> Mapping[str, str]:
    file = tmp_path / "registries.conf"
    file.write_text(CONF)
    return environ(tmp_path, CONTAINERS_REGISTRIES_CONF=str(file))


def test_the_longest_prefix_says_where_a_name_is(conf: Mapping[str, str]) -> None:
    read = read_registries_conf(conf)
    assert read.sources("example.test/team/app:1") == (
        "mirror.test:5000/copy/app:1",
        "inner.test/elsewhere/app:1",
    )
    assert read.sources("example.test/teamwork/app") == ("example.test/teamwork/app",)
    assert read.sources("other.test/app") == ("other.test/app",)
    assert read.is_insecure("example.test/team/app")
    assert read.is_insecure("a.wild.test/app")
    assert not read.is_insecure("wild.test/app")
    blocked = read.find("example.test/app")
    assert blocked is not None and blocked.blocked


def test_short_names(conf: Mapping[str, str], tmp_path: Path) -> None:
    read = read_registries_conf(conf)
    assert read.candidates("tool:2") == ("example.test/tools/tool:2",)
    assert read.candidates("python") == ("quay.test/python", "docker.io/library/python")
    assert read.candidates("me/app@sha256:x") == ("quay.test/me/app@sha256:x", "docker.io/me/app@sha256:x")
    drop_in = tmp_path / ".config/containers/registries.conf.d/50-mode.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text('short-name-mode = "enforcing"\n')
    with pytest.raises(RuntimeFailure, match="short-name-mode is enforcing"):
        read_registries_conf(conf).candidates("python")


def searched(variables: Mapping[str, str]) -> tuple[str, ...]:
    return read_registries_conf(variables).search


def test_which_files_count_is_as_skopeo_opens_them(tmp_path: Path) -> None:
    """Looked at with strace on Skopeo 1.9.3."""

    def written(name: str, host: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'unqualified-search-registries = ["{host}"]\n')
        return file

    variables = environ(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "xdg"))
    written("xdg/containers/registries.conf", "xdg.test")
    assert searched(variables) == ()
    written("etc/containers/registries.conf", "system.test")
    assert searched(variables) == ("system.test",)
    written("etc/containers/registries.conf.d/10.conf", "system-drop-in.test")
    assert searched(variables) == ("system-drop-in.test",)
    written(".config/containers/registries.conf", "user.test")
    assert searched(variables) == ("user.test",)  # the system's directory does not count beside it
    named = written("named.conf", "named.test")
    assert searched({**variables, "CONTAINERS_REGISTRIES_CONF": str(named)}) == ("system-drop-in.test",)
    written(".config/containers/registries.conf.d/10.conf", "user-drop-in.test")
    assert searched(variables) == ("user-drop-in.test",)
    with pytest.raises(RuntimeFailure, match=r"gone\.conf"):
        searched({**variables, "CONTAINERS_REGISTRIES_CONF": str(tmp_path / "gone.conf")})


def test_a_registries_conf_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.conf"
    file.write_text("[[registry\n")
    with pytest.raises(RuntimeFailure, match=r"broken\.conf"):
        read_registries_conf(environ(tmp_path, CONTAINERS_REGISTRIES_CONF=str(file)))


def write_auth(file: Path, **document: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))


def entry(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


async def found(variables: Mapping[str, str], name: str) -> Login | None:
    return await AuthFiles(variables, Runner(variables)).login(name)


@pytest.mark.anyio
async def test_auth_files_in_their_order(tmp_path: Path) -> None:
    variables = environ(tmp_path, XDG_RUNTIME_DIR=str(tmp_path / "run"))
    places = [
        (tmp_path / ".docker/config.json", "docker"),
        (tmp_path / ".config/containers/auth.json", "config"),
        (tmp_path / "run/containers/auth.json", "runtime"),
        (tmp_path / "named.json", "named"),
    ]
    for file, user in places:
        write_auth(file, auths={"r.test": entry(user, "p:w")})
        if user == "named":
            variables["REGISTRY_AUTH_FILE"] = str(file)
        assert await found(variables, "r.test/app") == Login(user, "p:w")
    assert await found(variables, "unknown.test/app") is None
    elsewhere = tmp_path / "elsewhere"
    write_auth(elsewhere / "config.json", auths={"https://d.test/v1/": entry("moved", "x")})
    assert await found({**variables, "DOCKER_CONFIG": str(elsewhere)}, "d.test/app") == Login("moved", "x")


@pytest.mark.anyio
async def test_the_nearest_key_counts_and_hub_has_many_names(tmp_path: Path) -> None:
    auths = {
        "r.test": entry("host", "1"),
        "r.test/team": entry("team", "2"),
        "https://index.docker.io/v1/": entry("hub", "3"),
        "t.test": {"identitytoken": "refresh"},
    }
    write_auth(tmp_path / ".docker/config.json", auths=auths)
    variables = environ(tmp_path)
    assert await found(variables, "r.test/team/app") == Login("team", "2")
    assert await found(variables, "r.test/other") == Login("host", "1")
    assert await found(variables, "docker.io/library/python") == Login("hub", "3")
    token = await found(variables, "t.test/app")
    assert token is not None and token.is_token and token.password == "refresh"
    assert keys_of("r.test/a/b") == ["r.test/a/b", "r.test/a", "r.test"]


HELPER = """#!/bin/sh
read server
case "$server" in
  has.test) echo '{"Username": "helped", "Secret": "hush"}' ;;
  token.test) echo '{"Username": "<token>", "Secret": "refresh"}' ;;
  broken.test) echo "the vault is locked" >&2; exit 1 ;;
  *) echo "credentials not found in native keychain"; exit 1 ;;
esac
"""


@pytest.mark.anyio
async def test_credential_helpers_and_stores(tmp_path: Path) -> None:
    helper = tmp_path / "bin/docker-credential-test"
    helper.parent.mkdir()
    helper.write_text(HELPER)
    helper.chmod(0o755)
    variables = environ(tmp_path)
    file = tmp_path / ".docker/config.json"
    write_auth(file, credHelpers={"has.test": "test", "broken.test": "test", "lost.test": "absent"})
    assert await found(variables, "has.test/app") == Login("helped", "hush")
    assert await found(variables, "token.test/app") is None
    with pytest.raises(RuntimeFailure, match="the vault is locked"):
        await found(variables, "broken.test/app")
    with pytest.raises(RuntimeFailure, match=r"docker-credential-absent, which is not on PATH"):
        await found(variables, "lost.test/app")
    write_auth(file, credsStore="test", auths={"has.test": {}})
    assert await found(variables, "has.test/app") == Login("helped", "hush")
    token = await found(variables, "token.test/app")
    assert token is not None and token.is_token
    assert await found(variables, "nobody.test/app") is None


def test_a_login_for_skopeo_is_a_private_file(tmp_path: Path) -> None:
    logins = {"a.test": Login("me", "hush"), "t.test": Login("<token>", "refresh", is_token=True)}
    file = auth_file(tmp_path, logins)
    assert file.stat().st_mode & 0o777 == 0o600
    written = json.loads(file.read_text())["auths"]
    assert written["t.test"]["identitytoken"] == "refresh"
    assert written["a.test"] == entry("me", "hush")


@pytest.mark.parametrize(
    ("scheme", "host", "variables", "proxy"),
    [
        ("https", "r.test", {"HTTPS_PROXY": "http://p:3128"}, "http://p:3128"),
        ("https", "r.test", {"https_proxy": "p:3128"}, "http://p:3128"),
        ("http", "r.test:5000", {"HTTPS_PROXY": "http://p:3128"}, None),
        ("http", "r.test:5000", {"HTTP_PROXY": "http://p:3128"}, "http://p:3128"),
        ("https", "127.0.0.1:5000", {"HTTPS_PROXY": "http://p:3128"}, None),
        ("https", "localhost", {"HTTPS_PROXY": "http://p:3128"}, None),
        ("https", "[::1]:5000", {"HTTPS_PROXY": "http://p:3128"}, None),
        ("https", "a.r.test", {"HTTPS_PROXY": "http://p", "NO_PROXY": "x.test, r.test"}, None),
        ("https", "bar.test", {"HTTPS_PROXY": "http://p", "NO_PROXY": "r.test"}, "http://p"),
        ("https", "r.test", {"HTTPS_PROXY": "http://p", "no_proxy": ".r.test"}, "http://p"),
        ("https", "a.r.test", {"HTTPS_PROXY": "http://p", "no_proxy": "*.r.test"}, None),
        ("https", "r.test:5000", {"HTTPS_PROXY": "http://p", "NO_PROXY": "r.test:443"}, "http://p"),
        ("https", "r.test", {"HTTPS_PROXY": "http://p", "NO_PROXY": "r.test:443"}, None),
        ("https", "10.1.2.3:5000", {"HTTPS_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, None),
        ("https", "10.1.2.3", {"HTTPS_PROXY": "http://p", "NO_PROXY": "10.1.2.4"}, "http://p"),
        ("https", "r.test", {"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, None),
    ],
)
def test_proxies(scheme: str, host: str, variables: Mapping[str, str], proxy: str | None) -> None:
    assert proxy_of(scheme, host, variables) == proxy


def test_a_proxy_that_is_not_served_is_refused_without_its_password() -> None:
    with pytest.raises(RuntimeFailure, match="HTTPS_PROXY names a socks5 proxy") as caught:
        proxy_of("https", "r.test", {"HTTPS_PROXY": "socks5://me:hush@p:1080"})
    assert "hush" not in str(caught.value)


def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "ca.pem"
    wrong.write_text("nothing")
    with pytest.raises(RuntimeFailure, match=r"SSL_CERT_FILE .*ca\.pem"):
        tls_context("r.test", environ(tmp_path, SSL_CERT_FILE=str(wrong)))
    directory = tmp_path / ".config/containers/certs.d/r.test:5000"
    directory.mkdir(parents=True)
    (directory / "bad.crt").write_text("nothing")
    with pytest.raises(RuntimeFailure, match=r"bad\.crt"):
        tls_context("r.test:5000", environ(tmp_path))
    assert tls_context("r.test", environ(tmp_path)).check_hostname


def test_what_a_registry_says_is_told_without_what_is_signed() -> None:
    assert plain("https://me:pw@r.test/v2/x?_state=signed") == "https://r.test/v2/x"
    body = b'{"errors": [{"code": "DENIED", "message": "no"}]}'
    assert reasons(body) == ": DENIED no"
    assert reasons(b"<html>") == ""
    assert "insecure = true" in untrusted("[SSL: WRONG_VERSION_NUMBER] wrong version number", "r.test")
    assert "certs.d/r.test" in untrusted("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed", "r.test")


@pytest.mark.parametrize(("text", "seconds"), [("3", 3), ("9999", 30), ("soon", 0), ("", 0)])
def test_retry_after_is_bounded(text: str, seconds: float) -> None:
    assert retry_after(httpx.Response(429, headers={"retry-after": text})) == seconds


@pytest.mark.parametrize(
    ("header", "offset"), [("0-1023", 1024), ("bytes=0-9", 10), ("0-0", 0), ("", None), ("x", None)]
)
def test_how_far_an_upload_is(header: str, offset: int | None) -> None:
    assert told_offset(httpx.Response(202, headers={"range": header})) == offset


@pytest.mark.parametrize(("text", "seconds"), [("", 60), ("5", 5), ("0", 1), ("long", 60)])
def test_the_patience_can_be_set(text: str, seconds: float) -> None:
    assert patience_s({"EMBEDDED_ENGINE_REGISTRY_TIMEOUT": text}) == seconds
