"""Sessions of the embedded engine as processes, asked by plain HTTP."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "embedded_engine"]
END_LIMIT_S = 20


@dataclass
class SessionProcess:
    """A running ``embedded-engine session``."""

    process: subprocess.Popen[str]
    params: dict[str, Any]
    errors: Path
    connections: list[http.client.HTTPConnection] = field(default_factory=list)
    limit_s: float = 60  # for one answer

    @property
    def port(self) -> int:
        return int(self.params["port"])

    def post(
        self, body: bytes, *, path: str = "/query", token: str | None = None, method: str = "POST"
    ) -> Any:
        """One request on a connection of its own: (status, headers, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.limit_s)
        try:
            connection.request(method, path, body, self.headers(token))
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def headers(self, token: str | None = None) -> dict[str, str]:
        user = self.params["session_token"] if token is None else token
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:".encode()).decode()}

    def ask(self, query: str) -> dict[str, Any]:
        _, _, body = self.post(json.dumps({"query": query}).encode())
        answer: dict[str, Any] = json.loads(body)
        return answer

    def leaf(self, chain: str) -> Any:
        """The one leaf of ``{ chain }``."""
        answer = self.ask("{ " + chain + " }")
        assert "errors" not in answer, answer["errors"]
        found = answer["data"]
        while isinstance(found, dict):
            found = next(iter(found.values()))
        return found

    def end(self) -> int:
        """Close its stdin, as an SDK does, and wait."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(END_LIMIT_S)


@contextlib.contextmanager
def engine_session(
    state: Path, *arguments: str, workdir: Path | None = None, **environment: str
) -> Iterator[SessionProcess]:
    """A session on ``state``; killed at the end if it did not end by itself."""
    state.mkdir(parents=True, exist_ok=True)
    errors = state / f"stderr-{os.urandom(4).hex()}.txt"
    env = {**os.environ, "EMBEDDED_ENGINE_STATE": str(state), **environment}
    with errors.open("w") as stream:
        process = subprocess.Popen(
            [*COMMAND, "session", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            env=env,
            cwd=workdir,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, errors.read_text()
        session = SessionProcess(process, json.loads(line), errors)
        yield session
        if process.poll() is None:
            session.end()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()


def based(image: str, *steps: str) -> str:
    """A chain on an image, closed as often as opened."""
    chain = ["container", f'from(address: "{image}")', *steps]
    return " { ".join(chain) + " }" * (len(chain) - 1)
