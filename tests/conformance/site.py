"""What a case is given: a session of some engine, a base image, a directory of its own on the host."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
import dagger
import httpx
from dagger import dag

QUERY_LIMIT_S = 60


@dataclass(frozen=True, slots=True)
class Home:
    """What an engine's sessions share: registries and where its session's files are."""

    registry: str  # host:port of a registry that anybody may write to
    guarded: str  # one that asks for a name and a password
    address: str  # of the base image
    scratch: Path


@dataclass(frozen=True, slots=True)
class Site:
    """A case's surroundings."""

    home: Home
    port: int
    token: str
    workdir: Path  # the session's
    name: str  # of the case
    nonce: str  # differs from run to run: Dagger's engine remembers

    @property
    def base(self) -> dagger.Container:
        """A container of the base image."""
        return dag.container().from_(self.home.address)

    @property
    def fresh(self) -> dagger.Container:
        """The same, in which no earlier run's result can be known."""
        return self.base.with_env_variable("NONCE", self.nonce)

    def sh(self, script: str, **options: Any) -> dagger.Container:
        """The base image after a shell's script."""
        return self.base.with_exec(["sh", "-c", script], **options)

    def write(self, files: Mapping[str, str], folder: str = "") -> str:
        """Files in a host directory of the case's own; its path in the session's working directory."""
        root = self.workdir / self.name / folder
        root.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(root.relative_to(self.workdir))

    async def ask(self, document: str, **more: object) -> dict[str, Any]:
        """A GraphQL document's answer: status and body."""
        text = chained(document, self.home.address)
        return await self.post(json.dumps({"query": text, **more}))

    async def leaf(self, document: str) -> Any:
        """The one leaf of a document that succeeds."""
        found = (await self.ask(document))["body"]
        assert "errors" not in found, found
        found = found["data"]
        while isinstance(found, dict):
            found = next(iter(found.values()))
        return found

    async def post(
        self, body: str, *, token: str | None = None, path: str = "/query", method: str = "POST"
    ) -> dict[str, Any]:
        """One request: its status and body (text, if it isn't JSON)."""
        user = self.token if token is None else token
        login = base64.b64encode(f"{user}:".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {login}"}
        async with httpx.AsyncClient(trust_env=False, timeout=QUERY_LIMIT_S) as client:
            response = await client.request(
                method, f"http://127.0.0.1:{self.port}{path}", content=body, headers=headers
            )
        try:
            return {"status": response.status_code, "body": response.json()}
        except ValueError:
            return {"status": response.status_code, "text": response.text.strip()}

    async def manifest(self, published: str) -> dict[str, Any]:
        """The manifest or index that a published reference names, as the registry has it."""
        name, _, digest = published.partition("@")
        return dict(await self._stored(name, "manifests", digest))

    async def config(self, published: str) -> dict[str, Any]:
        """The image configuration of a published reference."""
        manifest = await self.manifest(published)
        name = published.partition("@")[0]
        return dict(await self._stored(name, "blobs", manifest["config"]["digest"]))

    async def _stored(self, name: str, kind: str, digest: str) -> Any:
        host, _, path = name.partition("/")
        repository = path.partition(":")[0]
        accept = ", ".join(
            f"application/vnd.{kind}+json"
            for kind in (
                "oci.image.manifest.v1",
                "oci.image.index.v1",
                "docker.distribution.manifest.v2",
                "docker.distribution.manifest.list.v2",
            )
        )
        async with httpx.AsyncClient(trust_env=False, timeout=QUERY_LIMIT_S) as client:
            url = f"http://{host}/v2/{repository}/{kind}/{digest}"
            response = await client.get(url, headers={"Accept": accept}, follow_redirects=True)
        response.raise_for_status()
        return response.json()

    async def read(self, path: Path) -> str:
        """A host file's text."""
        return await anyio.to_thread.run_sync(path.read_text)


def chained(document: str, address: str) -> str:
    """``{ BASE { a { b`` with the base image's chain, and closed as often as opened."""
    text = document.replace("BASE", f'container {{ from(address: "{address}")').replace("ADDRESS", address)
    return text + " }" * (text.count("{") - text.count("}"))


async def attempt(awaitable: Awaitable[Any]) -> Any:
    """What comes of it; an error is an answer too."""
    try:
        return await awaitable
    except dagger.ExecError as error:
        return {
            "error": "ExecError",
            "message": error.message,
            "command": error.command,
            "exit_code": error.exit_code,
            "stdout": error.stdout,
            "stderr": error.stderr,
        }
    except dagger.QueryError as error:
        return {"error": "QueryError", "message": str(error.errors[0].message), "path": error.errors[0].path}
