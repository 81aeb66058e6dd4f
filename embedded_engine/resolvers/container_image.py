"""Container fields at both ends of a chain: where an image comes from, and where it goes."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from embedded_engine.host_import import told
from embedded_engine.image_config import ImageConfig, parse_config, with_pair
from embedded_engine.image_out import Form, ImageTarball, image_out
from embedded_engine.op_image import HostImage, Import, config_of
from embedded_engine.operations import Operation
from embedded_engine.resolvers.registry import ApiError, Call, Fields
from embedded_engine.runtime.port import JSON, Compression, Outgoing, OutIndex
from embedded_engine.session import full_address, registry_host
from embedded_engine.values import Container, File, Host, Secret

fields = Fields()


async def container_of(call: Call, operation: Operation, platform: str, image_ref: str = "") -> Container:
    """The container an image operation gives; it is evaluated here, since its config is needed at once.

    An image for one platform only brings its own, whatever was asked for.
    """
    outcome = await call.session.evaluator.result(operation)
    document = config_of(outcome)
    config = parse_config(document)
    return Container(
        platform=platform_of(document) or platform, config=config, rootfs=operation, image_ref=image_ref
    )


def platform_of(document: Mapping[str, JSON]) -> str:
    """The platform an image's config names, as Dagger writes it: v8 is the usual arm64, v7 the usual arm."""
    system, architecture = str(document.get("os") or ""), str(document.get("architecture") or "")
    variant = str(document.get("variant") or "")
    if not (system and architecture):
        return ""
    if architecture == "arm64" and variant == "v8":
        variant = ""
    return "/".join(part for part in (system, architecture, variant) if part)


@fields("Container.from")
async def from_(
    call: Call, container: Container, *, address: str, registry_service: str | None = None
) -> Container:
    """An image from a registry; the tag is pinned to its digest for the session."""
    if registry_service:
        raise _unserved("Container.from", "registryService")
    operation = await call.session.image(address, container.platform)
    name = operation.address.partition("@")[0]
    image = await container_of(call, operation, container.platform, f"{name}@{operation.image}")
    return container.having(
        platform=image.platform,
        config=_over(container.config, image.config),
        rootfs=image.rootfs,
        image_ref=image.image_ref,
        last_exec=None,
    )


def _over(before: ImageConfig, image: ImageConfig) -> ImageConfig:
    """The image's configuration, and what it lacks of the variables, labels, annotations and ports before."""
    env, labels, annotations = before.env, before.labels, before.annotations
    for pair in image.env:
        env = with_pair(env, *pair)
    for pair in image.labels:
        labels = with_pair(labels, *pair)
    for pair in image.annotations:
        annotations = with_pair(annotations, *pair)
    own = {(port.port, port.protocol) for port in image.ports}
    kept = (port for port in before.ports if (port.port, port.protocol) not in own)
    return image.having(env=env, labels=labels, annotations=annotations, ports=(*kept, *image.ports))


@fields("Container.import")
async def import_(call: Call, container: Container, *, source: str, tag: str) -> Container:
    """An image from a tar archive."""
    operation = Import(call.session.objects.get(File, source), tag, container.platform)
    return await container_of(call, operation, container.platform)


@fields("Host.containerImage")
async def container_image(call: Call, _: Host, *, name: str) -> Container:
    """An image of this machine's own store (Docker's or Podman's)."""
    address = full_address(name)
    operation = HostImage(address, await call.session.runtime.host_image(address))
    return await container_of(call, operation, call.session.platform)


@fields("Container.imageRef")
def image_ref(_: Call, container: Container) -> str:
    """The address with digest that `from` found."""
    if not container.image_ref:
        raise ApiError("Image reference can only be retrieved immediately after the 'Container.From' call")
    return container.image_ref


@fields("Container.platform")
def platform(_: Call, container: Container) -> str:
    """The platform."""
    return container.platform


@fields("Container.withRegistryAuth")
def with_registry_auth(
    call: Call, container: Container, *, address: str, username: str, secret: str
) -> Container:
    """Credentials for the address's registry, for the whole session (as in Dagger)."""
    call.session.logins[registry_host(address)] = (username, call.session.objects.get(Secret, secret))
    return container


@fields("Container.withoutRegistryAuth")
def without_registry_auth(call: Call, container: Container, *, address: str) -> Container:
    """Forget the credentials for the address's registry."""
    call.session.logins.pop(registry_host(address), None)
    return container


COMPRESSIONS: dict[str, Compression] = {
    "": "",
    "GZIP": "gzip",
    "ZSTD": "zstd",
    "UNCOMPRESSED": "uncompressed",
}


def _unserved(field: str, what: str) -> ApiError:
    return ApiError(f"{field}({what}) is not supported by the embedded engine: needs Dagger's engine")


def _form(call: Call, field: str, arguments: Mapping[str, Any]) -> Form:
    """How the image is wanted. Raises ApiError for what only Dagger's engine does."""
    if arguments.get("registry_service"):
        raise _unserved(field, "registryService")
    compression = str(arguments.get("forced_compression") or "").upper()
    if compression not in COMPRESSIONS:
        raise _unserved(field, f"forcedCompression: {arguments['forced_compression']}")
    if compression == "ZSTD" and shutil.which("zstd") is None:
        raise ApiError(f"{field}(forcedCompression: Zstd) needs the program zstd: apt-get install zstd")
    docker = str(arguments.get("media_types") or "OCI") in ("DOCKER", "DockerMediaTypes")
    return Form(call.session.created, COMPRESSIONS[compression], docker)


def _all(call: Call, container: Container, arguments: Mapping[str, Any]) -> tuple[Container, ...]:
    variants = arguments.get("platform_variants") or []
    return (container, *(call.session.objects.get(Container, one) for one in variants))


async def _shown(
    call: Call, containers: Sequence[Container], kind: str, name: str
) -> AbstractContextManager[None]:
    """Progress for work on images that are there once this returns: its time is not that of their making."""
    for one in containers:
        if one.rootfs is not None:
            await call.session.evaluator.result(one.rootfs)
    return call.session.evaluator.events.activity(kind, name)


@fields("Container.publish")
async def publish(call: Call, container: Container, *, address: str, **arguments: Any) -> str:
    """Push the image; never cached. The answer is the address with the manifest's (or index's) digest."""
    form = _form(call, "Container.publish", arguments)
    name = full_address(address.partition("@")[0])
    containers = _all(call, container, arguments)
    with await _shown(call, containers, "publish", name):
        image = await image_out(call.session.evaluator, containers, form)
        await call.session.runtime.publish(image, name, await call.session.login(name))
    # a tag that was not asked for ("latest") is not in the answer, as with Dagger
    shown = name if has_tag(address) else name.removesuffix(":latest")
    return f"{shown}@{image.digest}"


@fields("Container.asTarball")
async def as_tarball(call: Call, container: Container, **arguments: Any) -> File:
    """The image as an OCI archive, written when its bytes are needed; its digest needs only the manifest."""
    form = _form(call, "Container.asTarball", arguments)
    containers = _all(call, container, arguments)
    image = await image_out(call.session.evaluator, containers, form)
    return File(ImageTarball(containers, form, image.digest), "/container.tar")


@fields("Container.export")
async def export(
    call: Call, container: Container, *, path: str, expand: bool = False, **arguments: Any
) -> str:
    """Write the image as an OCI archive on the host; the answer is the absolute path."""
    form = _form(call, "Container.export", arguments)
    target = call.session.workdir / Path(container.config.expanded(path) if expand else path)
    containers = _all(call, container, arguments)
    with await _shown(call, containers, "export", str(target)):
        image = await image_out(call.session.evaluator, containers, form)
        await write_archive(call, image, target)
    return str(target)


@fields("Container.exportImage")
async def export_image(call: Call, container: Container, *, name: str, **arguments: Any) -> str:
    """Put the image into this machine's own store (Docker's or Podman's), which holds one platform."""
    form = _form(call, "Container.exportImage", arguments)
    image = await image_out(call.session.evaluator, _all(call, container, arguments), form)
    if isinstance(image, OutIndex):
        raise _unserved("Container.exportImage", "platformVariants")
    await call.session.runtime.give_host_image(image, full_address(name.partition("@")[0]))
    return ""  # the schema has a Void there that is not null


async def write_archive(call: Call, image: Outgoing, target: Path) -> None:
    """An image archive straight to where it is wanted, not through the store: it may be large."""
    fresh = target.with_name(f".export-{secrets.token_hex(6)}")
    try:
        with told(str(target), "write"):
            target.parent.mkdir(parents=True, exist_ok=True)
            await call.session.runtime.write_tarball(image, fresh)
            fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def has_tag(address: str) -> bool:
    """Whether an image address has a tag of its own."""
    return ":" in address.partition("@")[0].rsplit("/", 1)[-1]
