"""Secrets by their issuers' shapes: each kind is found, its lookalike is not. Parts are put together here."""

from __future__ import annotations

import base64
import io
import json
import time

import pytest

from pipelines.in_engine import find_secrets
from pipelines.in_engine.find_secrets import hits_in

LETTERS = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY" * 6
KEY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"


def jwt(**claims: object) -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts]
    return ".".join([*encoded, LETTERS[:43]])


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


FOUND: dict[str, tuple[str, str]] = {
    "openai": ("sk-" + "proj-" + LETTERS[:48], "openai-key"),
    "openai, old": ("sk-" + LETTERS[:20] + "T3Blbk" + "FJ" + LETTERS[:20], "openai-key"),
    "anthropic": ("sk-" + "ant-api03-" + LETTERS[:93] + "AA", "anthropic-key"),
    "npm": ("npm" + "_" + LETTERS[:36], "npm-token"),
    "gitlab runner": ("gl" + "rt-" + LETTERS[:20], "gitlab-token"),
    "slack app": ("xapp" + "-1-A0123456789-1234567890123-" + "a1b2c3d4" * 8, "slack-token"),
    "slack webhook": (
        "https://hooks.slack.com/" + "services/T12345678/B12345678/" + LETTERS[:24],
        "slack-webhook",
    ),
    "stripe": ("sk" + "_live_" + LETTERS[:24], "stripe-key"),
    "vault": ("hvs" + "." + LETTERS[:95], "vault-token"),
    "docker hub": ("dckr" + "_pat_" + LETTERS[:27], "docker-hub-token"),
    "databricks": ("dapi" + "0123456789abcdef" * 2, "databricks-token"),
    "google api": ("AIza" + LETTERS[:35], "google-api-key"),
    "sendgrid": ("SG" + "." + LETTERS[:22] + "." + LETTERS[:43], "sendgrid-key"),
    "azure storage": ("AccountName=x;Account" + "Key=" + LETTERS[:86] + "==;", "azure-storage-key"),
    "azure client": ("abc8" + "Q~" + LETTERS[:34], "azure-client-secret"),
    "azure sas": (
        "https://x.blob.core.windows.net/c?sv=2022-11-02&se=2030-01-01&" + "sig=" + LETTERS[:43] + "%3D",
        "azure-sas",
    ),
    "putty": ("PuTTY-User-Key-" + "File-3: ssh-rsa\nPrivate-" + "Lines: 14\n" + KEY, "private-key"),
    "jwt": (jwt(sub="svc", scope="push"), "jwt"),
    "jwt of tomorrow": (jwt(sub="svc", exp=time.time() + 99), "jwt"),
    "postgres": ("db: postgresql+psycopg://svc:" + "Xk29vPq7@db.corp.net:5432/x", "connection-string"),
    "mongodb": ("mongodb+srv://svc:" + "Xk29vPq7@c0.corp.net", "connection-string"),
    "ado": ("Server=tcp:db.corp.net;User Id=sa;" + "Password=Xk29vPq7;Encrypt=true", "connection-string"),
    "token in base64": ("token: " + b64("ghp_" + LETTERS[:36]), "encoded-secret"),
    "key in base64": (b64(f"-----BEGIN {'PRIVATE'} KEY-----\n{KEY}\n"), "encoded-secret"),
}
HARMLESS = {
    "expired": jwt(sub="svc", exp=1_500_000_000),
    "of every manual": jwt(sub="1234567890", name="John Doe"),
    "no jwt": "eyJhbGciOi." + "eyJub3QianNvbg" + "." + LETTERS[:43],
    "tutorial": "postgresql://scott:tiger@localhost/test and redis://:password@redis.example.com",
    "own machine": "mysql://root:Xk29vPq7@127.0.0.1/x",
    "variable": "postgresql://user:${DB_PASSWORD}@db.corp.net/x",
    "placeholder": "Server=db.corp.net;Password={password};",
    "base64 of a certificate": b64("-----BEGIN CERTIFICATE-----\n" + KEY),
    "an npm variable": "npm_config_registry_and_some_more_words_behind_it",
    "a signature": "https://x/?a=b&sig=" + LETTERS[:43],
}


def rules(text: bytes, path: str = "/app/x.txt") -> list[str]:
    return [hit.rule for hit in hits_in(path, io.BytesIO(text), len(text))]


@pytest.mark.parametrize("kind", sorted(FOUND))
def test_each_kind_is_found(kind: str) -> None:
    text, rule = FOUND[kind]
    assert rules(f"first\nx = '{text}'\n".encode()) == [rule]


@pytest.mark.parametrize("kind", sorted(HARMLESS))
def test_what_nobody_can_use_is_not(kind: str) -> None:
    assert rules(f"first\nx = '{HARMLESS[kind]}'\n".encode()) == []


def test_a_kubeconfig_is_known_by_its_name() -> None:
    text = f"users:\n- user:\n    client-key-data: {LETTERS}\n    token: {LETTERS[:30]}\n".encode()
    assert rules(text, "/root/.kube/config") == ["kubeconfig", "kubeconfig"]
    assert rules(text) == []


def test_in_a_big_binary_only_the_common_kinds_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_secrets, "SMALL", 100)
    stripe, github = FOUND["stripe"][0].encode(), b"ghp_" + LETTERS[:36].encode()
    text = b" " + stripe + b" " + github + b" " * 200
    assert sorted(rules(text)) == ["github-token", "stripe-key"]
    assert rules(b"\0" + text) == ["github-token"]


def test_of_a_huge_file_of_numbers_the_beginning_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_secrets, "CHUNK", 64 << 10)
    monkeypatch.setattr(find_secrets, "BEGINNING", 128 << 10)
    monkeypatch.setattr(find_secrets, "LARGEST", 1 << 20)
    stream = io.BytesIO(b"ghp_" + LETTERS[:36].encode() + b"\0" * (4 << 20))
    found = list(hits_in("/m.safetensors", stream, 4 << 20))
    assert [hit.rule for hit in found] == ["github-token"]
    assert stream.tell() == 128 << 10
