"""Container fields at both ends of a chain: where an image comes from, and where it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embedded_engine.image_config import parse_config
from embedded_engine.image_out import ImageTarball, image_out
from embedded_engine.op_image import Import, config_of
from embedded_engine.operations import Operation
from embedded_engine.resolvers.registry import ApiError, Call, Fields
from embedded_engine.runtime.port import OutImage
from embedded_engine.session import full_address, registry_host
from embedded_engine.values import Container, File, Secret

fields = Fields()


async def container_of(call: Call, operation: Operation, platform: str, image_ref: str = "") -> Container:
    """The container an image operation gives; it is evaluated here, since its config is needed at once."""
    outcome = await call.session.evaluator.result(operation)
    config = parse_config(config_of(outcome))
    return Container(platform=platform, config=config, rootfs=operation, image_ref=image_ref)


@fields("Container.from")
async def from_(
    call: Call, container: Container, *, address: str, registry_service: str | None = None
) -> Container:
    """An image from a registry; the tag is pinned to its digest for the session."""
    if registry_service:
        raise ApiError(
            "Container.from(registryService) is not supported by the embedded engine: needs Dagger's engine"
        )
    operation = await call.session.image(address, container.platform)
    name = full_address(address).partition("@")[0]
    return await container_of(call, operation, container.platform, f"{name}@{operation.image}")


@fields("Container.import")
async def import_(call: Call, container: Container, *, source: str, tag: str) -> Container:
    """An image from a tar archive."""
    operation = Import(call.session.objects.get(File, source), tag)
    return await container_of(call, operation, container.platform)


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


def _refuse(field: str, arguments: dict[str, Any]) -> None:
    """Raises ApiError for what only Dagger's engine does with an image."""
    if arguments.get("platform_variants"):
        problem = "platformVariants"
    elif arguments.get("registry_service"):
        problem = "registryService"
    elif str(arguments.get("forced_compression") or "GZIP").upper() != "GZIP":
        problem = f"forcedCompression: {arguments['forced_compression']}"
    elif str(arguments.get("media_types") or "OCI") not in ("OCI", "OCIMediaTypes"):
        problem = f"mediaTypes: {arguments['media_types']}"
    else:
        return
    raise ApiError(f"{field}({problem}) is not supported by the embedded engine: needs Dagger's engine")


async def _image(call: Call, container: Container) -> OutImage:
    return await image_out(call.session.evaluator, container, call.session.created)


@fields("Container.publish")
async def publish(call: Call, container: Container, *, address: str, **arguments: Any) -> str:
    """Push the image; never cached. The answer is the address with the manifest's digest."""
    _refuse("Container.publish", arguments)
    name = full_address(address.partition("@")[0])
    image = await _image(call, container)
    await call.session.runtime.publish(image, name, await call.session.login(name))
    return f"{name}@{image.digest}"


@fields("Container.asTarball")
async def as_tarball(call: Call, container: Container, **arguments: Any) -> File:
    """The image as an OCI archive, written when its bytes are needed; its digest needs only the manifest."""
    _refuse("Container.asTarball", arguments)
    image = await _image(call, container)
    return File(ImageTarball(container, call.session.created, image.digest), "/image.tar")


@fields("Container.export")
async def export(
    call: Call, container: Container, *, path: str, expand: bool = False, **arguments: Any
) -> str:
    """Write the image as an OCI archive on the host; the answer is the absolute path."""
    _refuse("Container.export", arguments)
    target = call.session.workdir / Path(container.config.expanded(path) if expand else path)
    image = await _image(call, container)
    target.parent.mkdir(parents=True, exist_ok=True)
    await call.session.runtime.write_tarball(image, target)
    return str(target)
