"""Images out: to a registry, or as one tar file. Both send exactly the manifest they are given, so digests
agree."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import anyio.to_thread

from embedded_engine.runtime import oci
from embedded_engine.runtime.images import told
from embedded_engine.runtime.logins import auth_file, host_of, is_loopback, private_directory
from embedded_engine.runtime.port import Login, OutImage, RuntimeFailure
from embedded_engine.runtime.process import CommandFailed, Runner
from embedded_engine.runtime.state import State


@dataclass(frozen=True, slots=True)
class Outlet:
    """Sends images."""

    state: State
    runner: Runner
    policy: Sequence[str] = ()

    async def publish(self, image: OutImage, address: str, login: Login | None) -> None:
        """Send ``image``; blobs the registry has are not sent again. Raises RuntimeFailure."""
        self._keep(image)
        host = host_of(address)
        options = ["--dest-tls-verify=false"] if is_loopback(host) else []
        with (
            tempfile.TemporaryDirectory(dir=self.state.temp) as layout,
            private_directory(self.state.temp) as private,
        ):
            oci.write_layout(Path(layout), image.manifest)
            if login is not None:
                options += ["--dest-authfile", str(auth_file(private, host, login))]
            argv = publish_argv(self.state.blobs, Path(layout), address, options, self.policy)
            try:
                await self.runner.run(argv)
            except CommandFailed as failure:
                raise told(failure, address) from failure

    async def write_tarball(self, image: OutImage, target: Path, name: str) -> None:
        """Write the archive. Raises RuntimeFailure."""
        try:
            await anyio.to_thread.run_sync(write_archive, image, target, name)
        except OSError as error:
            raise RuntimeFailure(f"{target}: {error.strerror}") from error

    def _keep(self, image: OutImage) -> None:
        for blob in (image.config, image.manifest):
            oci.put_blob(self.state.blobs, blob)


def publish_argv(
    blobs: Path, layout: Path, address: str, options: Sequence[str], policy: Sequence[str] = ()
) -> list[str]:
    """The command that sends a layout's image as it is: its manifest byte for byte."""
    fixed = ["--quiet", "--preserve-digests", f"--src-shared-blob-dir={blobs}"]
    return [
        "skopeo",
        *policy,
        "copy",
        *fixed,
        *options,
        f"oci:{layout}",
        f"docker://{address.partition('@')[0]}",
    ]


def write_archive(image: OutImage, target: Path, name: str = "") -> None:
    """An OCI layout with docker's manifest.json in one tar file; byte-stable: sorted, times 0, no owners."""
    manifest_digest = oci.digest_of(image.manifest)
    descriptor = {"mediaType": oci.MANIFEST, "digest": manifest_digest, "size": len(image.manifest)}
    if name:
        descriptor["annotations"] = {"org.opencontainers.image.ref.name": name.rpartition(":")[2] or name}
    small = {
        "oci-layout": oci.LAYOUT,
        "index.json": oci.encoded({"schemaVersion": 2, "manifests": [descriptor]}),
        _member(manifest_digest): image.manifest,
        _member(oci.digest_of(image.config)): image.config,
        "manifest.json": docker_manifest(image, name),
    }
    large = {_member(layer.digest): layer.path for layer in image.layers}
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for directory in ("blobs", "blobs/sha256"):
            archive.addfile(_info(directory, 0, tarfile.DIRTYPE))
        for member in sorted(small | large):
            if member in small:
                archive.addfile(_info(member, len(small[member])), BytesIO(small[member]))
            else:
                with large[member].open("rb") as source:
                    archive.addfile(_info(member, large[member].stat().st_size), source)


def docker_manifest(image: OutImage, name: str) -> bytes:
    """What `docker load` reads."""
    layers = [_member(layer.digest) for layer in image.layers]
    document = [
        {
            "Config": _member(oci.digest_of(image.config)),
            "RepoTags": [name] if name else None,
            "Layers": layers,
        }
    ]
    return oci.encoded(document)


def _member(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _info(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode = size, kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info
