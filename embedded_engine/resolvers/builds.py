"""Directory.dockerBuild: its key is what the build can see, by content."""

from __future__ import annotations

from pathlib import Path

from embedded_engine.content import by_content
from embedded_engine.directories import filtered
from embedded_engine.dockerfile import base_images, ignore_patterns
from embedded_engine.op_image import DockerBuild
from embedded_engine.paths import inside
from embedded_engine.resolvers.container_image import container_of
from embedded_engine.resolvers.registry import ApiError, Call, Fields
from embedded_engine.runtime.port import Login
from embedded_engine.values import Container, Directory, Secret

fields = Fields()


@fields("Directory.dockerBuild")
async def docker_build(
    call: Call,
    context: Directory,
    *,
    dockerfile: str,
    build_args: list[dict[str, str]],
    target: str,
    secrets: list[str],
    platform: str | None = None,
    ssh: str | None = None,
    no_init: bool = False,
) -> Container:
    """Build the directory's Dockerfile. The images it stands on are pinned for the session."""
    if ssh:
        raise ApiError(
            "Directory.dockerBuild(ssh) is not supported by the embedded engine: needs Dagger's engine"
        )
    text, ignored = await _texts(call, context, dockerfile)
    if ignored:
        context = filtered(context, exclude=[*ignored, f"!{dockerfile}"])
    args = {one["name"]: one["value"] for one in build_args}
    pins = await _pins(call, base_images(text, args, target))
    operation = DockerBuild(
        context=await by_content(call.session.evaluator, context),
        dockerfile=dockerfile,
        target=target,
        args=tuple(sorted(args.items())),
        secrets=tuple(
            (one.name, one) for one in (call.session.objects.get(Secret, secret) for secret in secrets)
        ),
        platform=platform or call.session.platform,
        pins=pins,
        logins=await _logins(call, pins),
    )
    return await container_of(call, operation, operation.platform)


async def _texts(call: Call, context: Directory, dockerfile: str) -> tuple[str, list[str]]:
    """The Dockerfile, and the patterns of the .dockerignore that goes with it."""
    async with call.session.evaluator.view(context.source) as root:
        base = inside(root, context.path)
        file = inside(base, dockerfile)
        if not file.is_file():
            raise ApiError(f"failed to read dockerfile: {dockerfile}: no such file in the build context")
        for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
            ignore = inside(base, name)
            if ignore.is_file():
                return _read(file), ignore_patterns(_read(ignore))
        return _read(file), []


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


async def _pins(call: Call, images: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pins = []
    for image in images:
        address = await call.session.located(image)
        name, at, _ = address.partition("@")
        digest = "" if at else "@" + await call.session.pinned(address)
        pins.append((image, (name if not at else address) + digest))
    return tuple(pins)


async def _logins(call: Call, pins: tuple[tuple[str, str], ...]) -> tuple[tuple[str, Login], ...]:
    found = [(pinned, await call.session.login(pinned)) for _, pinned in pins]
    return tuple((address, login) for address, login in found if login is not None)
