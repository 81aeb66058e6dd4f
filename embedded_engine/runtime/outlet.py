"""Images out: to a registry, or as one tar file.

To a registry the engine speaks itself. Skopeo, which it uses for everything that comes in, sends a layer from
its beginning after each failure, waits for ever for a registry that stands still, and mounts blobs only where
its own cache in the home directory remembers them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from embedded_engine.runtime import oci
from embedded_engine.runtime.archive import write_archive
from embedded_engine.runtime.logins import host_of, is_loopback
from embedded_engine.runtime.places import place
from embedded_engine.runtime.port import Facts, Login, Outgoing, OutIndex, RuntimeFailure
from embedded_engine.runtime.registries import Registries

if TYPE_CHECKING:
    from embedded_engine.runtime.distribution import Repository
    from embedded_engine.runtime.uploads import Blob

PARALLEL = 4


@dataclass(frozen=True, slots=True)
class Outlet:
    """Sends images."""

    registries: Registries
    facts: Facts
    environ: Mapping[str, str]
    patience_s: float = 60

    async def publish(self, image: Outgoing, address: str, login: Login | None) -> None:
        """Send ``image``; blobs the registry has are not sent again. Raises RuntimeFailure."""
        from embedded_engine.runtime.distribution import Refused  # noqa: PLC0415  # the HTTP library takes 0.2 s

        name, _, tag = address.partition("@")[0].rpartition(":")
        try:
            if login is None:
                login = await self.registries.login(name)
            async with await self._opened(name, login, image) as repository:
                await self._send(repository, image, tag)
        except Refused as error:
            raise RuntimeFailure(f"failed to push {address}: {denied(error, login)}") from None
        except RuntimeFailure as error:
            raise RuntimeFailure(f"failed to push {address}: {error}", detail=error.detail) from None

    async def _opened(self, name: str, login: Login | None, image: Outgoing) -> Repository:
        from embedded_engine.runtime.distribution import Repository  # noqa: PLC0415

        host, conf = host_of(name), self.registries.conf()
        entry = conf.find(name)
        if entry is not None and entry.blocked:
            raise RuntimeFailure(f"{host} is blocked in registries.conf")
        insecure = is_loopback(host) or conf.is_insecure(name)
        path = name.removeprefix(f"{host}/")
        known = {place(self.facts, host, blob.digest) for blob in blobs_of(image)}
        return Repository(
            host, path, login, self.environ, insecure, self.patience_s, {one for one in known if one} - {path}
        )

    async def _send(self, repository: Repository, image: Outgoing, tag: str) -> None:
        """Blobs side by side, then the manifests, then the name; nothing if the name has this image."""
        if await has_manifest(repository, tag, image.digest):
            return
        await self._send_blobs(repository, image)
        if isinstance(image, OutIndex):
            for one in image.images:
                await put_manifest(repository, one.digest, one.manifest, one.media_type)
            await put_manifest(repository, tag, image.index, image.media_type)
        else:
            await put_manifest(repository, tag, image.manifest, image.media_type)

    async def _send_blobs(self, repository: Repository, image: Outgoing) -> None:
        from embedded_engine.runtime.uploads import Upload  # noqa: PLC0415

        failures: list[Exception] = []
        places = anyio.CapacityLimiter(PARALLEL)

        async def one(blob: Blob) -> None:
            async with places:
                try:
                    await Upload(repository, self.facts, blob).send()
                except Exception as error:
                    failures.append(error)
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for blob in blobs_of(image):
                group.start_soon(one, blob)
        if failures:
            raise failures[0]

    async def write_tarball(self, image: Outgoing, target: Path, name: str) -> None:
        """Write the archive. Raises RuntimeFailure."""
        try:
            await anyio.to_thread.run_sync(write_archive, image, target, name)
        except OSError as error:
            raise RuntimeFailure(f"{target}: {error.strerror or error}") from error


async def has_manifest(repository: Repository, tag: str, digest: str) -> bool:
    """Whether ``tag`` names this manifest already. The first request that needs a login."""

    async def ask() -> bool:
        headers = {"Accept": ", ".join(oci.MANIFESTS)}
        target = f"/v2/{repository.path}/manifests/{tag}"
        async with repository.once("HEAD", target, ok=(200, 404), headers=headers) as response:
            return response.status_code == 200 and response.headers.get("docker-content-digest") == digest

    return await repository.repeated(ask)


async def put_manifest(repository: Repository, reference: str, body: bytes, media_type: str) -> None:
    """Name a manifest or index. Raises RuntimeFailure."""

    async def put() -> str:
        target = f"/v2/{repository.path}/manifests/{reference}"
        headers = {"Content-Type": media_type}
        async with repository.once(
            "PUT", target, ok=(200, 201, 202), headers=headers, content=body
        ) as response:
            return str(response.headers.get("docker-content-digest", ""))

    told, ours = await repository.repeated(put), oci.digest_of(body)
    if told and told != ours:
        raise RuntimeFailure(f"{repository.host} stored {told} instead of the manifest {ours}")


def blobs_of(image: Outgoing) -> Iterator[Blob]:
    """What a push of ``image`` needs in the registry, each once, the largest first."""
    from embedded_engine.runtime.uploads import Blob  # noqa: PLC0415

    found: dict[str, Blob] = {}
    for one in image.images if isinstance(image, OutIndex) else (image,):
        digest = oci.digest_of(one.config)
        found[digest] = Blob(digest, len(one.config), one.config)
        for layer in one.layers:
            found[layer.digest] = Blob(layer.digest, layer.size, layer.path)
    return iter(sorted(found.values(), key=lambda blob: -blob.size))


def denied(error: RuntimeFailure, login: Login | None) -> str:
    """A refusal in the words users know from Docker."""
    status = getattr(error, "status", 0)
    if status == 401 and login is None:
        return (
            "push access denied, repository does not exist or may require authorization: authorization "
            "failed: no basic auth credentials (give them with withRegistryAuth, or log in with podman "
            "or docker)"
        )
    if status in (401, 403):
        return f"push access denied, repository does not exist or may require authorization: {error}"
    return str(error)
