"""The site's CA and package-index settings reach commands while they run, and never an image."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_home import EngineHome
from engine_process import SessionProcess, engine_session

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nc2l0ZS1vd24tY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n"
INDEX = "https://reader:index-passw0rd@packages.site.example/simple"
TRACES = (
    *(b"c2l0ZS1vd24tY2VydGlmaWNhdGU", b"index-passw0rd", b"packages.site.example"),
    *(b"/run/.engine", b"PIP_CONFIG_FILE", b"PIP_CERT", b"SSL_CERT_FILE", b"APT_CONFIG"),
)
# Commands stay in an image's history, so these name nothing that is looked for.
FILES = '$(env | sed -n "s/^PIP_C[A-Z_]*=//p")'
LOOK = ["sh", "-c", f"cat {FILES} && echo seen > /seen"]
DOCKERFILE = """FROM {base}
RUN test $(cat {files} | grep -c -e ^index-url -e CERTIFICATE) = 3 && echo built > /built
ENV OWN=1
RUN cat {files} > /dev/null; echo more > /more
"""


@pytest.fixture(scope="module")
def session(home: EngineHome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionProcess]:
    work = tmp_path_factory.mktemp("settings")
    (work / "ca.pem").write_text(CERTIFICATE)
    state = tmp_path_factory.mktemp("settings-state")
    with engine_session(
        state,
        workdir=work,
        SSL_CERT_FILE=str(work / "ca.pem"),
        PIP_INDEX_URL=INDEX,
        PIP_TRUSTED_HOST="packages.site.example",
    ) as running:
        yield running


def exported(session: SessionProcess, chain: str, file: Path) -> bytes:
    """All that is in the image: manifest, configuration and every layer, unpacked."""
    assert session.leaf(chain.replace("LEAF", f"export(path: {json.dumps(str(file))})"))
    parts = []
    with tarfile.open(file) as archive:
        for member in archive:
            content = archive.extractfile(member)
            data = content.read() if content else b""
            parts.append(gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data)
    return b"\n".join(parts)


def test_a_command_has_them_and_the_image_does_not(
    session: SessionProcess, home: EngineHome, tmp_path: Path
) -> None:
    ran = f"withExec(args: {json.dumps(LOOK)})"
    said = session.leaf(home.chain(ran, "stdout"))
    assert "https://reader:***@packages.site.example/simple" in said  # masked in what is told
    assert CERTIFICATE in said
    image = exported(session, home.chain(ran, "LEAF"), tmp_path / "image.tar")
    assert b"seen\n" in image
    assert [trace for trace in TRACES if trace in image] == []


def test_a_dockerfile_has_them_and_its_image_does_not(
    session: SessionProcess, home: EngineHome, tmp_path: Path
) -> None:
    text = json.dumps(DOCKERFILE.format(base=home.base, files=FILES))
    chain = f'directory {{ withNewFile(path: "Dockerfile", contents: {text}) {{ dockerBuild {{ LEAF }} }} }}'
    image = exported(session, chain, tmp_path / "built.tar")
    assert b"built\n" in image
    assert b"OWN=1" in image
    assert [trace for trace in TRACES if trace in image] == []
