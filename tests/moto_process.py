"""The control plane of AWS (moto's server, a process of its own) on a free loopback port, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from registry_process import free_port

START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Moto:
    """A running moto server."""

    url: str

    def reset(self) -> None:
        """Forget everything."""
        _open(f"{self.url}/moto-api/reset", b"")

    def environment(self, home: Path) -> dict[str, str]:
        """What the AWS SDK has to find to talk to it, and to nobody else. moto takes any key of any shape."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(home / "aws-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(home / "aws-credentials"),
        }


@contextlib.contextmanager
def running_moto(directory: Path) -> Iterator[Moto]:
    """Run it until the block ends."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (directory / "moto.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]}
        )
    moto = Moto(f"http://127.0.0.1:{port}")
    try:
        _wait(process, moto, directory / "moto.log")
        yield moto
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _wait(process: subprocess.Popen[bytes], moto: Moto, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            json.loads(_open(f"{moto.url}/moto-api/data.json"))
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"moto did not start:\n{log.read_text()[-2000:]}")


def _open(url: str, data: bytes | None = None) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, data, timeout=5) as answer:
        return bytes(answer.read())
