"""Secrets: what is usable is found, where and masked; what only looks like one is not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.in_engine import find_secrets
from pipelines.in_engine.secret_rules import masked
from pipelines.scanners.secrets import result_of

# Put together here, so that no scanner finds this file.
AWS_ID = "AKIA" + "IJ4QRSTUVW2345YZ"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYzzKLMNOPQR"
BODY = "MIIEowIBAAKCAQEA" + "x9Yz" * 12
KEY = "-----BEGIN RSA " + "PRIVATE KEY-----\n"

FOUND = {
    "app/settings.py": (f"\n\nID = '{AWS_ID}'\nKEY = '{AWS_SECRET}'\n", "aws-key", "critical", 3),
    "app/only_id.txt": (f"id {AWS_ID}\n", "aws-key", "medium", 1),
    "app/key.pem": (f"# mine\n{KEY}{BODY}\n", "private-key", "critical", 3),
    "app/key.json": (json.dumps({"key": KEY + BODY}), "private-key", "critical", 1),
    "root/.ssh/id_ed25519": (
        "-----BEGIN OPENSSH " + "PRIVATE KEY-----\n" + BODY,
        "private-key",
        "critical",
        2,
    ),
    "app/gh.txt": ("token = gh" + "p_" + "aB3d" * 9, "github-token", "critical", 1),
    "app/hf.txt": (
        "token: h" + "f_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH",
        "huggingface-token",
        "critical",
        1,
    ),
    "app/slack.txt": ("xo" + "xb-123456789012-abcdefABCDEF1234", "slack-token", "critical", 1),
    "root/.netrc": ("machine x login me password s3cr3tvalue\n", "netrc", "critical", 1),
    "root/.docker/config.json": (
        json.dumps({"auths": {"r.example": {"auth": "dXNlcjpwYXNzd29yZA=="}}}),
        "docker-config",
        "critical",
        1,
    ),
    "etc/pip.conf": (
        "[global]\nindex-url = https://me:s3cr3tvalue@index.example/simple\n",
        "url-password",
        "critical",
        2,
    ),
    "app/.env": ("DEBUG=1\nexport DB_PASSWORD='s3cr3tvalue'\n", "dotenv", "critical", 2),
    "root/.aws/credentials": (
        f"[x]\naws_secret_access_key = {AWS_SECRET}\n",
        "aws-credentials",
        "critical",
        2,
    ),
}

HARMLESS = {
    "app/cert.pem": "-----BEGIN CERTIFICATE-----\n" + BODY,
    "app/public.pem": "-----BEGIN PUBLIC KEY-----\n" + BODY,
    "app/marker.py": 'PEM = "-----BEGIN RSA ' + 'PRIVATE KEY-----"\n',
    "app/docs.md": "AKIA" + "IOSFODNN7EXAMPLE wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "app/.env": "API_KEY=\nTOKEN=${TOKEN}\nDB_PASSWORD=changeme\nKEY_FILE=/run/x1\nAPI_TOKEN=<token>\n",
    "app/.env.example": "DB_PASSWORD=s3cr3tvalue\n",
    "etc/pip.conf": "[global]\nindex-url = https://index.example/simple\n",
    "app/hf.py": "def test_hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH_more(): pass",
    "root/.docker/config.json": '{"auths": {}, "credsStore": "pass"}',
    "root/.netrc": "machine x login me password ${PASSWORD}\n",
}


def scanned(root: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert find_secrets.main([str(root)]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize("path", sorted(FOUND))
def test_a_usable_secret_is_found_and_masked(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, rule, severity, line = FOUND[path]
    put(tmp_path, path, text)
    told = scanned(tmp_path, capsys)
    assert (rule, severity, f"/{path}", line) in [
        (one["rule"], one["severity"], one["path"], one["line"]) for one in told["found"]
    ]
    assert "s3cr3tvalue" not in json.dumps(told)
    assert AWS_SECRET not in json.dumps(told)


@pytest.mark.parametrize("path", sorted(HARMLESS))
def test_what_only_looks_like_a_secret_is_not_one(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, path, HARMLESS[path])
    assert scanned(tmp_path, capsys)["found"] == []


def test_a_secret_across_two_chunks_is_found_once_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_secrets, "CHUNK", 4096)
    monkeypatch.setattr(find_secrets, "OVERLAP", 1024)
    put(tmp_path, "big.txt", "x\n" * 2040 + f"{KEY}{BODY}\n" + "y\n" * 5000)
    found = scanned(tmp_path, capsys)["found"]
    assert [(one["rule"], one["line"]) for one in found] == [("private-key", 2042)]


def test_an_unchanged_file_of_a_debian_package_is_public_and_a_changed_one_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{KEY}{BODY}\n"
    put(tmp_path, "usr/lib/x/key.pem", text)
    digest = hashlib.md5(text.encode()).hexdigest()
    put(tmp_path, "var/lib/dpkg/info/x.md5sums", f"{digest}  usr/lib/x/key.pem\n")
    assert scanned(tmp_path, capsys)["found"] == []
    put(tmp_path, "usr/lib/x/key.pem", f"{text}changed\n")
    assert len(scanned(tmp_path, capsys)["found"]) == 1


def test_known_test_data_and_ignored_paths_are_counted_not_judged() -> None:
    one = {
        "rule": "private-key",
        "title": "private key",
        "severity": "critical",
        "line": 1,
        "masked": "x",
        "more": 0,
    }
    paths = ("/usr/lib/python3/site-packages/tornado/test/test.key", "/app/tests/key.pem", "/app/key.pem")
    told = {
        "found": [{**one, "path": path} for path in paths],
        "looked_at": 9,
        "bytes": 9,
        "problems": [],
    }
    result = result_of(told, {}, ("/app/tests/**",))
    assert [finding.where for finding in result.findings] == ["/app/key.pem:1"]
    assert result.note == "2 in known test data"


def test_secrets_in_the_environment_are_found_by_name_and_by_look() -> None:
    told: dict[str, Any] = {"found": [], "looked_at": 0, "bytes": 0, "problems": []}
    environment = {
        "PATH": "/usr/bin",
        "GPG_KEY": "E3FF2839C048B25C084DEBE9B26995E310250568",
        "API_TOKEN": "q8w7e6r5t4",
        "SECRET_FILE": "/run/secrets/token",
        "NOTE": f"use {AWS_ID} with {AWS_SECRET}",
    }
    found = result_of(told, environment, ()).findings
    assert [one.where for one in found] == ["ENV API_TOKEN", "ENV NOTE"]
    assert "q8w7e6r5t4" not in str(found)


def test_unread_files_make_it_not_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "big.bin", "x")
    with (tmp_path / "big.bin").open("r+b") as stream:
        stream.truncate(find_secrets.LARGEST + 1)
    assert find_secrets.main([str(tmp_path)]) == 1
    result = result_of(json.loads(capsys.readouterr().out), {}, ())
    assert not result.audited
    assert "/big.bin: it is larger than 2 GiB" in result.reason


def test_a_mask_never_shows_a_short_value() -> None:
    assert masked(b"hunter2hunter2") == "…(14 characters)"
    assert masked(b"ghp_aaaaaaaaaaaaaaaa") == "ghp_…(20 characters)"
