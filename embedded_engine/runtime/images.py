"""Images in: a tag's digest, an image's layers, an archive. Skopeo does the talking.

An image is fetched into the engine's own blob directory first, so its layers leave again exactly as they came
(same compressed bytes, same digests), and only then into containers-storage. There it is stored *bare*:
without its config, which the engine keeps itself. A bare image's id follows from its layers alone, and
nothing of the image's own settings (VOLUME, ENTRYPOINT, ENV) can act on an exec behind the engine's back.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from embedded_engine.damage import tell
from embedded_engine.runtime import oci
from embedded_engine.runtime.archives_in import docker_image_number, take_oci
from embedded_engine.runtime.logins import auth_file, host_of, is_loopback, private_directory
from embedded_engine.runtime.places import remember_place
from embedded_engine.runtime.port import Facts, Login, PulledImage, RuntimeFailure, Snapshot
from embedded_engine.runtime.process import CommandFailed, Runner
from embedded_engine.runtime.recompress import MEDIA_TYPES, compression_of
from embedded_engine.runtime.registries import Registries
from embedded_engine.runtime.stalls import run_watched
from embedded_engine.runtime.state import State

LAYER_FACT = "layer"
AS_THEY_CAME = "--dest-oci-accept-uncompressed-layers"  # else Skopeo compresses them
_GONE = ("manifest unknown", "not found", "name unknown", "repository name not known")
_DENIED = ("unauthorized", "authentication required", "denied")


@dataclass(frozen=True, slots=True)
class Images:
    """Fetches images. ``insecure_policy``: the machine has no signature policy, so none is asked for."""

    state: State
    runner: Runner
    facts: Facts
    registries: Registries
    insecure_policy: bool = False
    patience_s: float = 60

    async def resolve(self, address: str, login: Login | None) -> str:
        """The digest a tag names now: one request. Raises RuntimeFailure."""
        name, at, digest = address.partition("@")
        if at:
            return digest
        async with self._authentication(name, login) as auth:
            try:
                finished = await run_watched(
                    self.runner, resolve_argv(name, auth), host_of(name), self.patience_s
                )
            except CommandFailed as failure:
                raise told(failure, address) from failure
        return oci.digest_of(finished.stdout)

    async def pull(self, address: str, digest: str, platform: str, login: Login | None) -> PulledImage:
        """Bring an image's blobs, then its file system. Raises RuntimeFailure."""
        source = f"docker://{untagged(address)}@{digest}"
        async with self._authentication(address, login) as auth:
            try:
                options = [AS_THEY_CAME, "--retry-times=2", *auth]
                image = await self.take(source, platform=platform, options=options, host=host_of(address))
            except CommandFailed as failure:
                raise told(failure, address) from failure
        self._remember_origin(address, image)
        return image

    async def import_archive(self, path: Path, tag: str, platform: str) -> PulledImage:
        """Take an archive in: OCI if it has an index.json, else Docker's. Raises RuntimeFailure."""
        number = await anyio.to_thread.run_sync(archive_kind, path, tag)
        if number is None:
            blobs = self.state.blobs
            return await self._stored(*await anyio.to_thread.run_sync(take_oci, path, blobs, tag, platform))
        # Skopeo splits the reference at ":", so the archive is reached through a name without one
        with tempfile.TemporaryDirectory(dir=self.state.temp) as directory:
            link = Path(directory) / "archive.tar"
            link.symlink_to(path)
            try:
                return await self.take(f"docker-archive:{link}:@{number}", options=[AS_THEY_CAME])
            except CommandFailed as failure:
                raise RuntimeFailure(f"{path.name}: {failure}", detail=failure.detail) from failure

    async def name(self, config: bytes, diff_ids: Sequence[str], name: str) -> None:
        """Store an image with its whole config under ``name``: what a Dockerfile's FROM finds. Layers must be
        there."""
        await self.store(config, oci.raw_layers(diff_ids), f"containers-storage:{name}")

    async def bare(self, platform: Mapping[str, Any], diff_ids: Sequence[str]) -> Snapshot:
        """The bare image of layers that storage already has."""
        config = oci.bare_config(platform, diff_ids)
        snapshot = Snapshot(oci.digest_of(config).removeprefix("sha256:"))
        if snapshot not in self.state.present():
            await self.store(config, oci.raw_layers(diff_ids), f"containers-storage:@{snapshot}")
        return snapshot

    async def store(self, config: bytes, layers: Sequence[Mapping[str, Any]], destination: str) -> None:
        """Put an image made of these parts into containers-storage; blobs that storage lacks are read from
        ours."""
        manifest = oci.manifest_for(config, layers)
        for blob in (config, manifest):
            oci.put_blob(self.state.blobs, blob)
        with tempfile.TemporaryDirectory(dir=self.state.temp) as directory:
            oci.write_layout(Path(directory), manifest)
            argv = self._skopeo(
                "--src-shared-blob-dir", str(self.state.blobs), f"oci:{directory}", destination
            )
            await self.runner.run(argv)

    async def take(
        self,
        source: str,
        *,
        platform: str = "",
        options: Sequence[str] = (),
        runner: Runner | None = None,
        host: str = "",
    ) -> PulledImage:
        """Bring what Skopeo calls ``source``; from a registry at ``host`` it must not stand still.

        Skopeo takes a blob that is there for what its name says. Where that fails the bytes are looked at,
        and what is damaged is brought again. Raises CommandFailed, RuntimeFailure.
        """
        manifests: list[str] = []

        async def bring() -> PulledImage:
            with tempfile.TemporaryDirectory(dir=self.state.temp) as directory:
                shared = ["--dest-shared-blob-dir", str(self.state.blobs)]
                before = platform_args(platform)
                argv = self._skopeo(*options, *shared, source, f"oci:{directory}", before=before)
                if host:
                    await run_watched(self.runner, argv, host, self.patience_s)
                else:
                    await (runner or self.runner).run(argv)
                manifests.append(oci.layout_manifest(Path(directory)))
            manifest = self._json(manifests[-1])
            config = self._json(manifest["config"]["digest"])
            return await self._stored(config, manifest["layers"])

        try:
            return await bring()
        except (CommandFailed, ValueError, KeyError):
            if not await anyio.to_thread.run_sync(drop_damaged, self.state, manifests):
                raise
        return await bring()

    async def _stored(self, config: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> PulledImage:
        diff_ids = config["rootfs"]["diff_ids"]
        if len(diff_ids) != len(layers):
            raise RuntimeFailure("the image's config and manifest name different numbers of layers")
        layers = [{**one, "mediaType": self._media_type(one)} for one in layers]
        bare = oci.bare_config(config, diff_ids)
        snapshot = Snapshot(oci.digest_of(bare).removeprefix("sha256:"))
        if snapshot not in self.state.present():
            await self.store(bare, layers, f"containers-storage:@{snapshot}")
        for diff_id, layer in zip(diff_ids, layers, strict=True):
            self._remember_layer(diff_id, layer)
        return PulledImage(snapshot, dict(config))

    def _media_type(self, layer: Mapping[str, Any]) -> str:
        """A layer's type by its first bytes: of a Docker archive Skopeo says gzip where a plain tar is."""
        with self.state.blob(layer["digest"]).open("rb") as stream:
            magic = stream.read(4)
        if magic.startswith(b"\x1f\x8b"):
            return MEDIA_TYPES["gzip"]
        return MEDIA_TYPES["zstd" if magic == b"\x28\xb5\x2f\xfd" else "uncompressed"]

    def _remember_layer(self, diff_id: str, layer: Mapping[str, Any]) -> None:
        """As what blob a layer leaves again. The first one seen stays, so that digests do too; a compressed
        one takes the place of one that is not."""
        known = self.facts.fact(LAYER_FACT, diff_id)
        if isinstance(known, dict) and self.state.blob(str(known["digest"])).exists():
            loose = compression_of(str(known["mediaType"])) == "uncompressed"
            if not loose or compression_of(layer["mediaType"]) == "uncompressed":
                return
        fact = {name: layer[name] for name in ("digest", "size", "mediaType")}
        self.facts.remember(LAYER_FACT, diff_id, {"diff_id": diff_id, **fact})

    def _json(self, digest: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.state.blob(digest).read_bytes())
        return document

    def _skopeo(self, *args: str, before: Sequence[str] = ()) -> list[str]:
        policy = ["--insecure-policy"] if self.insecure_policy else []
        return ["skopeo", *policy, *before, "copy", "--quiet", *args]

    def _remember_origin(self, address: str, image: PulledImage) -> None:
        """Where its layers are, so that a push to the same registry can have them mounted."""
        for diff_id in image.config["rootfs"]["diff_ids"]:  # type: ignore[index, call-overload, union-attr]  # OCI
            fact = self.facts.fact(LAYER_FACT, str(diff_id))
            if isinstance(fact, dict):
                remember_place(self.facts, untagged(address), str(fact["digest"]))

    @contextlib.asynccontextmanager
    async def _authentication(self, address: str, login: Login | None) -> AsyncIterator[list[str]]:
        """The options for the source registry and its mirrors: one private file with their logins.

        Skopeo's own search would not see Docker's credential store, nor a mirror's login beside the
        session's.
        """
        host = host_of(address)
        plain = ["--src-tls-verify=false"] if is_loopback(host) else []
        with private_directory(self.state.temp) as directory:
            found = {} if login is None else {host: login}
            for place in self.registries.conf().sources(untagged(address)):
                if host_of(place) not in found and (known := await self.registries.login(place)):
                    found[host_of(place)] = known
            yield [*plain, "--src-authfile", str(auth_file(directory, found))]


def drop_damaged(state: State, manifests: Sequence[str]) -> bool:
    """Remove the blobs of these images that are not what their names say; whether there were any."""
    found = False
    for digest in manifests:
        named = [digest]
        with contextlib.suppress(ValueError, KeyError, OSError):
            manifest = json.loads(state.blob(digest).read_bytes())
            named += [part["digest"] for part in (manifest["config"], *manifest["layers"])]
        for one in named:
            blob = state.blob(one)
            if blob.exists() and oci.file_digest(blob) != one:
                tell(f"{blob} is damaged: removed, it is brought again")
                blob.unlink()
                found = True
    return found


def resolve_argv(address: str, copy_options: Sequence[str]) -> list[str]:
    """The command that prints the manifest ``address`` names."""
    options = [option.replace("--src-", "--") for option in copy_options]
    return ["skopeo", "inspect", "--raw", "--no-tags", *options, f"docker://{address}"]


def platform_args(platform: str) -> list[str]:
    """Skopeo's global options that choose one platform of an index."""
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    chosen = (("--override-os", system), ("--override-arch", architecture), ("--override-variant", variant))
    return [text for option, value in chosen if value for text in (option, value)]


def untagged(address: str) -> str:
    """``address`` without tag and digest."""
    name = address.partition("@")[0]
    path, colon, tag = name.rpartition(":")
    return path if colon and "/" not in tag else name


def archive_kind(path: Path, tag: str) -> int | None:
    """None for an OCI archive; for Docker's the number of the image in it that is meant.

    Raises RuntimeFailure if it is no image archive.
    """
    import tarfile  # noqa: PLC0415  # only archives need it

    try:
        with tarfile.open(path) as archive:
            names = {member.name.removeprefix("./"): member for member in archive}
            if "index.json" in names:
                return None
            if "manifest.json" in names:
                stream = archive.extractfile(names["manifest.json"])
                return docker_image_number(json.loads(stream.read() if stream else b"[]"), tag, path.name)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise RuntimeFailure(f"{path.name} is not an image archive: {error}") from error
    raise RuntimeFailure(
        f"{path.name} is not an image archive: neither index.json nor manifest.json is in it"
    )


def _advice(text: str, host: str) -> str:
    """What to do about a registry that cannot be spoken to as it is set up."""
    if "x509:" in text:
        return (
            f" (put the CA into /etc/containers/certs.d/{host}/ca.crt, the machine's store or SSL_CERT_FILE)"
        )
    if "server gave http response to https client" in text:
        return ' (mark it with "insecure = true" in registries.conf if plain http is meant)'
    return ""


def told(failure: CommandFailed, address: str) -> RuntimeFailure:
    """What a registry's refusal means for ``address``, in the words users know from Docker."""
    text = failure.detail.lower()
    if any(mark in text for mark in _DENIED):
        message = f"{address}: access denied, or the repository does not exist: {failure}"
    elif any(mark in text for mark in _GONE):
        message = f"{address}: not found: {failure}"
    else:
        message = f"{address}: {failure}{_advice(text, host_of(address))}"
    return RuntimeFailure(message, detail=failure.detail)
