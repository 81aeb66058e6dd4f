"""Where logins come from, and that none of them is ever told."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from pipelines.config_values import SecretRef
from pipelines.errors import UsageError
from pipelines.registries.auth import Challenge
from pipelines.registries.credentials import Login, login_from_files, login_source
from pipelines.registries.errors import AccessRefused
from pipelines.registries.reference import Reference, Repository

HARBOR = Repository("harbor.example:8443", "team/models/langid")
HUB = Repository.parse("me/langid")


def encoded(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def home(tmp_path: Path, content: object, name: str = ".docker/config.json") -> dict[str, str]:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return {"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")}


def test_the_most_specific_entry_wins(tmp_path: Path) -> None:
    auths = {
        "harbor.example:8443": encoded("host", "1"),
        "harbor.example:8443/team": encoded("team", "2"),
        "harbor.example:8443/team/other": encoded("other", "3"),
    }
    assert login_from_files(HARBOR, home(tmp_path, {"auths": auths})) == Login("team", "2")


@pytest.mark.parametrize(
    "key", ["harbor.example:8443", "https://harbor.example:8443", "https://harbor.example:8443/v1/"]
)
def test_old_url_forms_count(tmp_path: Path, key: str) -> None:
    assert login_from_files(HARBOR, home(tmp_path, {"auths": {key: encoded("a", "b:c")}})) == Login(
        "a", "b:c"
    )


def test_docker_hub_has_its_own_key(tmp_path: Path) -> None:
    environ = home(tmp_path, {"auths": {"https://index.docker.io/v1/": encoded("me", "x")}})
    assert login_from_files(HUB, environ) == Login("me", "x")


@pytest.mark.parametrize("variable", ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"])
def test_every_place_is_looked_at(tmp_path: Path, variable: str) -> None:
    content = {"auths": {"harbor.example:8443": encoded("u", "p")}}
    name = {
        "DOCKER_CONFIG": "d/config.json",
        "REGISTRY_AUTH_FILE": "d",
        "XDG_RUNTIME_DIR": "d/containers/auth.json",
    }
    home(tmp_path, content, name[variable])
    assert login_from_files(HARBOR, {variable: str(tmp_path / "d")}) == Login("u", "p")


def helper(tmp_path: Path, name: str, script: str) -> None:
    program = tmp_path / "bin" / f"docker-credential-{name}"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_a_credential_helper_is_asked_for_the_host(tmp_path: Path) -> None:
    environ = home(tmp_path, {"credHelpers": {"harbor.example:8443": "ecr-login"}, "credsStore": "missing"})
    helper(tmp_path, "ecr-login", 'read host; echo "{\\"Username\\":\\"$1\\",\\"Secret\\":\\"$host\\"}"')
    assert login_from_files(HARBOR, environ) == Login("get", "harbor.example:8443")


def test_an_identity_token_of_a_helper(tmp_path: Path) -> None:
    environ = home(tmp_path, {"credsStore": "desktop"})
    helper(tmp_path, "desktop", 'echo \'{"Username":"<token>","Secret":"t0ken"}\'')
    assert login_from_files(HARBOR, environ) == Login("", identity_token="t0ken")


def test_a_store_that_knows_nothing_is_no_login(tmp_path: Path) -> None:
    environ = home(tmp_path, {"credsStore": "desktop", "auths": {"harbor.example:8443": {}}})
    helper(tmp_path, "desktop", "echo credentials not found; exit 1")
    assert login_from_files(HARBOR, environ) is None


@pytest.mark.parametrize("name", ["gone", "../../bin/sh", "a b"])
def test_a_helper_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    environ = home(tmp_path, {"credHelpers": {"harbor.example:8443": name}})
    with pytest.raises(AccessRefused, match=r"docker-credential-.* is not on PATH"):
        login_from_files(HARBOR, environ)


def test_a_helper_that_is_not_there_does_not_end_the_search(tmp_path: Path) -> None:
    environ = home(tmp_path, {"credsStore": "gone", "auths": {"harbor.example:8443": encoded("u", "p")}})
    assert login_from_files(HARBOR, environ) == Login("u", "p")


def test_a_helper_that_does_not_know_the_host_does_not_end_the_search(tmp_path: Path) -> None:
    environ = home(tmp_path, {"credHelpers": {"harbor.example:8443": "none"}, "credsStore": "all"})
    helper(tmp_path, "none", "echo credentials not found in native keychain; exit 1")
    helper(tmp_path, "all", """echo '{"Username": "u", "Secret": "p"}'""")
    assert login_from_files(HARBOR, environ) == Login("u", "p")


def test_the_scopes_of_a_challenge() -> None:
    challenge = Challenge.parse(
        'Bearer realm="x",scope="repository:a/b:pull,push repository:host:5000/c:pull registry:catalog:* odd"'
    )
    assert list(challenge.scopes()) == [("a/b", ("pull", "push")), ("host:5000/c", ("pull",))]


def test_a_helper_that_prints_its_secret_badly_does_not_leak_it(tmp_path: Path) -> None:
    environ = home(tmp_path, {"credsStore": "odd"})
    helper(tmp_path, "odd", "echo '{secret-value'")
    with pytest.raises(AccessRefused) as caught:
        login_from_files(HARBOR, environ)
    assert "secret-value" not in f"{caught.value!r}{caught.value.hint}{caught.value.__cause__!r}"


@pytest.mark.parametrize(
    "content", [[], {"auths": []}, {"auths": {"harbor.example:8443": {"auth": "%%%"}}}, {"credHelpers": 3}]
)
def test_a_strange_auth_file_is_no_login(tmp_path: Path, content: object) -> None:
    assert login_from_files(HARBOR, home(tmp_path, content)) is None


@pytest.mark.anyio
async def test_the_configuration_comes_first(tmp_path: Path) -> None:
    environ = home(tmp_path, {"auths": {"harbor.example:8443": encoded("file", "x")}}) | {
        "U": "ci",
        "P": "pw",
    }
    source = login_source(HARBOR, environ, SecretRef("env://U"), SecretRef("env://P"))
    assert await source() == Login("ci", "pw")
    assert await login_source(HARBOR, environ)() == Login("file", "x")


def test_a_login_is_safe_to_print() -> None:
    assert "hidden" not in repr(Login("u", "hidden", "hidden"))


@pytest.mark.parametrize(
    ("header", "scheme", "parameters"),
    [
        ('Basic realm="x, y"', "basic", {"realm": "x, y"}),
        (
            'Bearer realm="https://auth/token",service="r",scope="repository:a:pull,push"',
            "bearer",
            {"realm": "https://auth/token", "service": "r", "scope": "repository:a:pull,push"},
        ),
        ("", "", {}),
        ("bearer realm=https://a, service=b", "bearer", {"realm": "https://a", "service": "b"}),
        (
            'Bearer realm="https://a",scope="repository:a:pull,push,delete repository:b:pull",error="x"',
            "bearer",
            {"realm": "https://a", "scope": "repository:a:pull,push,delete repository:b:pull", "error": "x"},
        ),
        (
            'Basic realm="r", Bearer realm="https://a",service="s"',
            "bearer",
            {"realm": "https://a", "service": "s"},
        ),
        ('Negotiate, Basic realm="r"', "basic", {"realm": "r"}),
        ("Negotiate", "negotiate", {}),
    ],
)
def test_challenges(header: str, scheme: str, parameters: dict[str, str]) -> None:
    found = Challenge.parse(header)
    assert (found.scheme, found.parameters) == (scheme, parameters)


DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "host", "path", "wanted"),
    [
        ("127.0.0.1:5000/models/langid:1.0", "127.0.0.1:5000", "models/langid", "1.0"),
        (f"r.example/a/b:1.0@{DIGEST}", "r.example", "a/b", DIGEST),
        ("[::1]:5000/a", "[::1]:5000", "a", "latest"),
        ("python:3.11-slim", "docker.io", "library/python", "3.11-slim"),
        ("me/langid", "docker.io", "me/langid", "latest"),
    ],
)
def test_references(text: str, host: str, path: str, wanted: str) -> None:
    found = Reference.parse(text)
    assert (found.repository.host, found.repository.path, found.wanted) == (host, path, wanted)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "r.example/A/B",
        "r.example/a@sha256:12",
        "http://r.example/a",
        "r.example:99999/a",
        "r.example/a:b/c:",
        "-x",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(UsageError):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("host", "plain", "url"),
    [
        ("127.0.0.1:5000", False, "http://127.0.0.1:5000"),
        ("localhost:5000", False, "http://localhost:5000"),
        ("r.example", False, "https://r.example"),
        ("r.example", True, "http://r.example"),
        ("docker.io", False, "https://registry-1.docker.io"),
    ],
)
def test_plain_http_is_for_loopback_or_when_said(host: str, plain: bool, url: str) -> None:
    assert Repository(host, "a", plain).base_url == url
