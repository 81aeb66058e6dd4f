"""TLS: a private authority is trusted when it is named, and what goes wrong is said as it is."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from registries_fake import FakeRegistry, target

from pipelines.registries import reference, transport
from pipelines.registries.errors import RegistryError, Unreachable
from pipelines.registries.oci import OciRegistry
from pipelines.registries.reference import Repository

pytestmark = pytest.mark.anyio


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    file = tmp_path / "tls.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(file), "-out", f"{file}.crt"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take 127.0.0.1 for a host like any other: TLS, and proxies from the environment."""
    for module in (transport, reference):
        monkeypatch.setattr(module, "is_loopback", lambda host: False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def tag_of(registry: OciRegistry) -> str | None:
    async with registry.open() as opened:
        return await opened.tag_digest("1")


async def test_a_private_authority(
    certificate: Path, far_away: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeRegistry().running(server_side(certificate)) as fake:
        with pytest.raises(Unreachable, match="its certificate is not trusted") as caught:
            await tag_of(target(fake.host))
        assert "SSL_CERT_FILE" in caught.value.hint
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        assert await tag_of(target(fake.host)) is None
        assert fake.asked("HEAD") == ["/v2/models/langid/manifests/1"]


async def test_the_authority_of_one_registry(certificate: Path) -> None:
    """On loopback, too: a registry with an authority speaks TLS."""
    async with FakeRegistry().running(server_side(certificate)) as fake:
        repository = Repository(fake.host, "models/langid", ca_file=f"{certificate}.crt")
        assert await tag_of(replace(target(fake.host), repository=repository)) is None
        assert fake.asked("HEAD") == ["/v2/models/langid/manifests/1"]


async def test_a_registry_without_tls(far_away: None) -> None:
    async with FakeRegistry().running() as fake:
        with pytest.raises(Unreachable, match="does not speak TLS") as caught:
            await tag_of(target(fake.host))
        assert "plain_http" in caught.value.hint
        assert fake.log == []
        plain = replace(target(fake.host), repository=Repository(fake.host, "models/langid", plain_http=True))
        assert await tag_of(plain) is None


async def test_a_host_that_nobody_knows(far_away: None) -> None:
    with pytest.raises(RegistryError, match="no such host is known here"):
        await tag_of(target("registry.invalid"))


async def test_a_password_is_not_sent_to_a_token_endpoint_without_tls(
    certificate: Path, far_away: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    async with FakeRegistry().running(server_side(certificate)) as fake:
        fake.token_login = "Basic x"  # its realm is http://
        with pytest.raises(RegistryError, match="without TLS"):
            await tag_of(target(fake.host))
        assert not fake.asked("GET", "/token")
