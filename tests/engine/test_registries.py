"""Registries as a site has them: mirrors and other places, logins in files, a private CA, a proxy.

Whole sessions against real registries. A host that is not this machine is reached through a small web proxy,
since for loopback neither certificates nor proxies count.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny_base
from engine_home import EngineHome
from engine_process import SessionProcess, based, engine_session
from registry_process import PASSWORD, USERNAME, RegistryProcess, free_port, running_registry
from web_proxy import WebProxy

from tests.registries.authority import Authority

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.timeout(120)]
TLS_HOST = "registry.test"


@dataclass(frozen=True)
class Site:
    """A user's home directory and the settings of one session."""

    home: Path
    state: Path
    environ: dict[str, str]

    def write(self, place: str, text: str) -> Path:
        file = self.home / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def conf(self, text: str) -> None:
        self.environ["CONTAINERS_REGISTRIES_CONF"] = str(self.write("registries.conf", text))

    def session(self) -> contextlib.AbstractContextManager[SessionProcess]:
        return engine_session(self.state, "--quiet", workdir=None, **self.environ)

    def auths(self, place: str, **document: object) -> Path:
        return self.write(place, json.dumps(document))


@pytest.fixture
def site(home: EngineHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    return Site(tmp_path / "home", home.state, {"HOME": str(tmp_path / "home")})


def stored(registry: RegistryProcess, directory: Path, name: str) -> str:
    """An image of its own, so that it has to be pulled; its BASE says which. The address."""
    tiny_base.write_layout(directory / name.replace("/", "-"), env=("PATH=/usr/bin:/bin", f"BASE={name}"))
    tiny_base.push(directory / name.replace("/", "-"), f"{registry.host}/{name}:1")
    return f"{registry.host}/{name}:1"


def which(session: SessionProcess, address: str) -> str:
    """The variable BASE of an image; the image is pulled whole."""
    return str(session.leaf(based(address, 'envVariable(name: "BASE")')))


def failure(session: SessionProcess, chain: str) -> str:
    answer = session.ask("{ " + chain + " }")
    assert "errors" in answer, answer
    return str(answer["errors"][0]["message"])


def test_names_are_looked_up_where_registries_conf_says(home: EngineHome, site: Site, tmp_path: Path) -> None:
    for name in ("library/mirrored", "inner/app", "found", "copy/app"):
        stored(home.registry, tmp_path, f"site-{name}" if name == "found" else name)
    host, dead = home.registry.host, free_port()
    site.conf(
        f"""
unqualified-search-registries = ["127.0.0.1:{dead}", "{host}"]
[[registry]]
location = "docker.io"
mirror = [{{location = "127.0.0.1:{dead}", insecure = true}}, {{location = "{host}", insecure = true}}]
[[registry]]
prefix = "apps.test/team"
location = "{host}/inner"
insecure = true
[[registry]]
location = "apps.test/closed"
blocked = true
[[registry]]
location = "copied.test"
mirror = [{{location = "{host}/copy", insecure = true}}]
[aliases]
"tool" = "apps.test/team/app"
"""
    )
    with site.session() as session:
        assert which(session, "docker.io/library/mirrored:1") == "library/mirrored"
        assert which(session, "mirrored:1@" + home.registry.tag_digest("library/mirrored", "1")) == (
            "library/mirrored"
        )
        assert which(session, "apps.test/team/app:1") == "inner/app"
        assert which(session, "copied.test/app:1") == "copy/app"
        assert which(session, "tool:1") == "inner/app"
        assert which(session, "site-found:1") == "site-found"
        assert "blocked" in failure(session, based("apps.test/closed/app:1", "sync"))
        assert "blocked" in failure(session, based(home.base, 'publish(address: "apps.test/closed/app:1")'))
        dockerfile = "FROM tool:1\\nCOPY --from=site-found:1 /etc/passwd /other"
        build = f'directory {{ withNewFile(path: "Dockerfile", contents: "{dockerfile}") {{ dockerBuild {{'
        assert session.leaf(build + ' envVariable(name: "BASE") } } }') == "inner/app"


SHIM = """#!/bin/sh
printf '%s\\n' "$0 $*" >> {log}
exec {program} "$@"
"""
HELPER = """#!/bin/sh
read server
[ "$server" = {host} ] || {{ echo "credentials not found in native keychain"; exit 1; }}
echo '{{"Username": "{user}", "Secret": "{password}"}}'
"""


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RegistryProcess]:
    with running_registry(tmp_path / "guarded", password=True) as running:
        yield running


@pytest.fixture
def commands(site: Site) -> Path:
    """A file with every command line of the tools."""
    log = site.home / "commands"
    for name in ("skopeo", "buildah"):
        shim = site.write(f"bin/{name}", SHIM.format(log=log, program=shutil.which(name)))
        shim.chmod(0o755)
    site.environ["PATH"] = f"{site.home}/bin:{os.environ['PATH']}"
    return log


def entry(password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{USERNAME}:{password}".encode()).decode()}


def there_and_back(session: SessionProcess, home: EngineHome, address: str, before: str = "") -> str:
    """Publish a new image, bring it back, and tell its label; ``before`` begins the chain that publishes."""
    steps = (*([before] if before else []), f'withLabel(name: "at", value: "{address}")')
    reference = session.leaf(based(home.base, *steps, f'publish(address: "{address}")'))
    return str(session.leaf(based(reference, 'label(name: "at")')))


def test_logins_from_files(home: EngineHome, site: Site, guarded: RegistryProcess, commands: Path) -> None:
    host, right, wrong = guarded.host, entry(PASSWORD), entry("wrong")
    helper = HELPER.format(host=host, user=USERNAME, password=PASSWORD)
    site.write("bin/docker-credential-test", helper).chmod(0o755)
    (site.home / "run").mkdir()  # one that is not there does not count
    site.environ["XDG_RUNTIME_DIR"] = str(site.home / "run")
    docker, podman = ".docker/config.json", "run/containers/auth.json"
    found: tuple[tuple[str, dict[str, object]], ...] = (
        (docker, {"auths": {host: right}}),
        (docker, {"credHelpers": {host: "test"}, "auths": {host: wrong}}),
        (docker, {"credsStore": "test", "auths": {host: {}}}),
        (docker, {"auths": {host: wrong}}),  # the next one is looked at first
        (podman, {"auths": {f"{host}/team": right, host: wrong}}),
        (podman, {"auths": {host: wrong}}),  # and before this, REGISTRY_AUTH_FILE
    )
    with site.session() as session:
        for number, (place, document) in enumerate(found):
            site.auths(place, **document)
            if document != {"auths": {host: wrong}}:
                address = f"{host}/team/app:{number}"
                assert there_and_back(session, home, address) == address
    site.environ["REGISTRY_AUTH_FILE"] = str(site.auths("named.json", auths={host: right}))
    with site.session() as session:
        assert there_and_back(session, home, f"{host}/team/app:named") == f"{host}/team/app:named"
    told = commands.read_text()
    assert f"{host}/team/" in told
    for hidden in (PASSWORD, right["auth"]):
        assert hidden not in told


def test_the_sessions_login_comes_before_any_file_and_is_no_argument(
    home: EngineHome, site: Site, guarded: RegistryProcess, commands: Path
) -> None:
    address = f"{guarded.host}/team/session:1"
    with site.session() as session:
        told = failure(session, based(home.base, f'publish(address: "{address}")'))
        assert "no basic auth credentials" in told and "withRegistryAuth" in told
    site.auths(".docker/config.json", auths={guarded.host: entry("wrong")})
    with site.session() as session:
        assert "access denied" in failure(session, based(home.base, f'publish(address: "{address}")'))
        secret = session.leaf(f'setSecret(name: "pw", plaintext: "{PASSWORD}") {{ id }}')
        login = f'withRegistryAuth(address: "{address}", username: "{USERNAME}", secret: "{secret}")'
        assert there_and_back(session, home, address, login) == address
        build = f'directory {{ withNewFile(path: "Dockerfile", contents: "FROM {address}") {{ dockerBuild {{'
        assert session.leaf(build + ' label(name: "at") } } }') == address
    assert PASSWORD not in commands.read_text()
    assert entry(PASSWORD)["auth"] not in commands.read_text()


@dataclass(frozen=True)
class Company:
    """A registry with a certificate of the company's own, behind its proxy."""

    registry: RegistryProcess
    authority: Authority
    proxy: WebProxy


@pytest.fixture(scope="module")
def company(home: EngineHome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    directory = tmp_path_factory.mktemp("company")
    authority = Authority(directory / "authority", (TLS_HOST,))
    pem = str(authority.server_file)
    tls = {"http": {"tls": {"certificate": pem, "key": pem}}}
    with running_registry(directory / "registry", settings=tls) as registry:
        places = {
            f"{TLS_HOST}:443": int(registry.host.rpartition(":")[2]),
            "plain.test:5000": int(home.registry.host.rpartition(":")[2]),
            "plain.test:80": int(home.registry.host.rpartition(":")[2]),
        }
        with WebProxy(places, login="me:proxy-pw").running() as proxy:
            yield Company(registry, authority, proxy)


@pytest.mark.parametrize("trust", ["SSL_CERT_FILE", "certs.d"])
def test_a_private_ca_and_a_proxy(home: EngineHome, site: Site, company: Company, trust: str) -> None:
    if trust == "SSL_CERT_FILE":
        site.environ[trust] = str(company.authority.ca_file)
    else:
        site.write(f".config/containers/certs.d/{TLS_HOST}/ca.crt", company.authority.ca_file.read_text())
    site.environ.update(HTTPS_PROXY=company.proxy.url, NO_PROXY="other.test")
    company.proxy.seen.clear()
    sent = company.proxy.sent
    with site.session() as session:
        address = f"{TLS_HOST}/team/{trust.lower()}:1"
        assert there_and_back(session, home, address) == address
    assert set(company.proxy.seen) == {f"CONNECT {TLS_HOST}:443"}  # loopback (the base) goes past it
    assert trust != "SSL_CERT_FILE" or company.proxy.sent - sent > 1_000_000  # the layers went through it


def test_what_is_not_trusted_or_not_proxied_is_told(home: EngineHome, site: Site, company: Company) -> None:
    publish = based(home.base, f'publish(address: "{TLS_HOST}/team/untrusted:1")')
    site.environ["HTTPS_PROXY"] = company.proxy.url
    with site.session() as session:
        told = failure(session, publish)
        assert "certificate is not trusted" in told and f"certs.d/{TLS_HOST}/ca.crt" in told
        told = failure(session, based(f"{TLS_HOST}/team/untrusted:1", "sync"))
        assert "certificate" in told and f"certs.d/{TLS_HOST}/ca.crt" in told
    site.conf(f'[[registry]]\nlocation = "{TLS_HOST}"\ninsecure = true\n')
    with site.session() as session:
        address = f"{TLS_HOST}/team/unverified:1"
        assert there_and_back(session, home, address) == address
    site.environ["NO_PROXY"] = "test"
    company.proxy.seen.clear()
    with site.session() as session:
        assert f"{TLS_HOST}: cannot be reached" in failure(session, publish)
        assert TLS_HOST in failure(session, based(f"{TLS_HOST}/team/untrusted:1", "sync"))
    assert company.proxy.seen == []


@pytest.mark.parametrize("host", ["plain.test:5000", "plain.test"])
def test_plain_http_through_a_proxy(home: EngineHome, site: Site, company: Company, host: str) -> None:
    site.conf(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
    site.environ.update(HTTP_PROXY=company.proxy.url, HTTPS_PROXY=company.proxy.url)
    company.proxy.seen.clear()
    with site.session() as session:
        address = f"{host}/team/plain:1"
        assert there_and_back(session, home, address) == address
    port = host.partition(":")[2] or "80"
    assert f"PUT plain.test:{port}" in company.proxy.seen
    assert f"GET plain.test:{port}" in company.proxy.seen


def test_a_registry_that_stands_still_is_given_up_on(home: EngineHome, site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        site.environ["EMBEDDED_ENGINE_REGISTRY_TIMEOUT"] = "1"
        with site.session() as session:
            for chain in (
                based(f"{host}/app:1", "sync"),
                based(home.base, f'publish(address: "{host}/app:1")'),
            ):
                told = failure(session, chain)
                assert host in told and "1 s" in told and "EMBEDDED_ENGINE_REGISTRY_TIMEOUT" in told
