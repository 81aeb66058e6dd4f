"""Images built, published, exported and imported."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from dagger import BuildArg, ImageLayerCompression, ImageMediaTypes, dag

from .case import Answer, Theme
from .checking import test_answers_as_dagger_does  # noqa: F401  # the test of each case below
from .site import Site, attempt

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
THEME = Theme("images")
case = THEME.case


def to(site: Site, name: str = "") -> str:
    return f"{site.home.registry}/out/{site.name.replace('_', '-')}{name}"


@case
async def built_from_a_dockerfile(site: Site) -> Answer:
    source = (
        dag.directory()
        .with_new_file(
            "Dockerfile",
            'ARG BASE=x\nFROM $BASE\nARG V=1\nENV SEEN=$V\nLABEL l="a b"\nWORKDIR /w\nCOPY . .\n'
            'RUN echo $V > v && cat f >> v\nUSER app\nEXPOSE 80/tcp\nENTRYPOINT ["cat"]\nCMD ["v"]\n',
        )
        .with_new_file("f", "of the context")
        .with_new_file("ignored", "x")
        .with_new_file(".dockerignore", "ignored\n.dockerignore\n")
    )
    made = source.docker_build(build_args=[BuildArg("BASE", site.home.address), BuildArg("V", "7")])
    return {
        "v": await made.file("/w/v").contents(),
        "files": await made.directory("/w").entries(),
        "env": await made.env_variable("SEEN"),
        "label": await made.label("l"),
        "workdir": await made.workdir(),
        "user": await made.user(),
        "entrypoint": await made.entrypoint(),
        "args": await made.default_args(),
        "ports": [await one.port() for one in await made.exposed_ports()],
        "run": await made.with_exec([], use_entrypoint=True).stdout(),
    }


@case
async def built_to_a_target(site: Site) -> Answer:
    text = f"FROM {site.home.address} AS one\nRUN echo 1 > /x\nFROM one AS two\nRUN echo 2 > /x\n"
    source = dag.directory().with_new_file("deep/Other", text)
    return [
        await source.docker_build(dockerfile="deep/Other", target="one").file("/x").contents(),
        await source.docker_build(dockerfile="deep/Other").file("/x").contents(),
        await attempt(source.docker_build(dockerfile="deep/Other", target="no").sync()),
    ]


@case
async def built_with_a_secret(site: Site) -> Answer:
    text = (
        f"FROM {site.home.address}\n"
        "RUN --mount=type=secret,id=token,target=/run/t grep -c s3cret /run/t > /x\n"
    )
    source = dag.directory().with_new_file("Dockerfile", text)
    made = source.docker_build(secrets=[dag.set_secret("token", "s3cret-value")])
    return await made.file("/x").contents()


@case
async def a_failing_run(site: Site) -> Answer:
    text = f"FROM {site.home.address}\nRUN echo out; echo why >&2; exit 3\n"
    return await attempt(dag.directory().with_new_file("Dockerfile", text).docker_build().sync())


@case
async def a_syntax_error(site: Site) -> Answer:
    error = await attempt(dag.directory().with_new_file("Dockerfile", "FORM scratch\n").docker_build().sync())
    return [error["error"], error["path"], "unknown instruction: FORM" in error["message"]]


@case
async def no_dockerfile(site: Site) -> Answer:
    error = await attempt(dag.directory().with_new_file("x", "").docker_build().sync())
    return [error["error"], error["path"]]


@case
async def a_missing_file_to_copy(site: Site) -> Answer:
    text = f"FROM {site.home.address}\nCOPY no-such /x\n"
    error = await attempt(dag.directory().with_new_file("Dockerfile", text).docker_build().sync())
    return [error["error"], error["path"], "no-such" in error["message"]]


@case
async def built_from_scratch(site: Site) -> Answer:
    text = 'FROM scratch\nCOPY a /b\nENV X=1\nCMD ["/b"]\n'
    made = dag.directory().with_new_file("Dockerfile", text).with_new_file("a", "1").docker_build()
    return [await made.rootfs().entries(), await made.default_args(), await made.env_variable("X")]


@case
async def published_configuration(site: Site) -> Answer:
    made = (
        site.base.with_env_variable("A", "1")
        .with_label("l", "2")
        .with_annotation("n", "3")
        .with_workdir("/w")
        .with_user("app")
        .with_exposed_port(8080)
        .with_entrypoint(["e"])
        .with_default_args(["d"])
        .with_docker_healthcheck(["true"], interval="5s", retries=2)
        .with_new_file("/x", "y")
    )
    reference = await made.publish(to(site, ":1"))
    manifest, config = await site.manifest(reference), await site.config(reference)
    return {
        "reference": reference,
        "media": [
            manifest["mediaType"],
            manifest["config"]["mediaType"],
            {one["mediaType"] for one in manifest["layers"]}.pop(),
        ],
        "annotations": manifest.get("annotations"),
        "config": config["config"],
        "platform": [config["os"], config["architecture"]],
    }


@case
async def published_twice(site: Site) -> Answer:
    made = site.base.with_new_file("/x", "y")
    first, second = await made.publish(to(site, ":1")), await made.publish(to(site, ":2"))
    return [first, second]


@case
async def published_by_strange_addresses(site: Site) -> Answer:
    made = site.base.with_new_file("/x", "strange")
    nothing = f"@sha256:{'0' * 64}"
    return [
        await attempt(made.publish(to(site))),
        (await attempt(made.publish(to(site, ":t" + nothing)))) != nothing,
        (await attempt(made.publish(to(site, ":UPPER")))).partition("@")[0],
        (await attempt(made.publish(f"{site.home.registry}/UPPER:1")))["error"],
        (await attempt(made.publish("127.0.0.1:1/x:1")))["error"],
    ]


@case
async def published_empty(site: Site) -> Answer:
    return await attempt(dag.container().publish(to(site, ":1")))


@case
async def published_as_docker(site: Site) -> Answer:
    made = site.base.with_new_file("/x", "docker")
    reference = await made.publish(to(site, ":1"), media_types=ImageMediaTypes.DockerMediaTypes)
    manifest = await site.manifest(reference)
    return [manifest["mediaType"], manifest["config"]["mediaType"], manifest["layers"][0]["mediaType"]]


@case
async def published_with_a_compression(site: Site) -> Answer:
    found = {}
    made = site.base.with_new_file("/x", "compressed")
    for kind in (ImageLayerCompression.Uncompressed, ImageLayerCompression.Gzip, ImageLayerCompression.Zstd):
        reference = await made.publish(to(site, f":{kind.name.lower()}"), forced_compression=kind)
        layers = (await site.manifest(reference))["layers"]
        found[kind.name] = sorted({layer["mediaType"] for layer in layers})
    return found


@case
async def published_for_two_platforms(site: Site) -> Answer:
    import dagger

    def bare(platform: str) -> dagger.Container:
        return dag.container(platform=dagger.Platform(platform)).with_new_file("/p", platform)

    reference = await dag.container().publish(
        to(site, ":1"), platform_variants=[bare("linux/amd64"), bare("linux/arm64")]
    )
    index = await site.manifest(reference)
    return {
        "media": index["mediaType"],
        "platforms": sorted(
            f"{one['platform']['os']}/{one['platform']['architecture']}" for one in index["manifests"]
        ),
        "manifests": [one["mediaType"] for one in index["manifests"]],
    }


@case
async def published_without_a_login(site: Site) -> Answer:
    error = await attempt(site.base.publish(f"{site.home.guarded}/none:1"))
    return [error["error"], error["path"]]


async def logged_in(site: Site) -> Answer:
    def made(password: str) -> Any:
        secret = dag.set_secret(f"password {password}", password)
        base = site.base.with_new_file("/x", "login")
        return base.with_registry_auth(site.home.guarded, "pusher", secret)

    wrong = await attempt(made("wrong").publish(f"{site.home.guarded}/a:1"))
    right = await attempt(made("not-a-secret-1234").publish(f"{site.home.guarded}/a:1"))
    after = await attempt(site.base.with_new_file("/x", "login").publish(f"{site.home.guarded}/a:2"))
    read = await attempt(dag.container().from_(f"{site.home.guarded}/a:1").file("/x").contents())
    return [wrong["error"], right, after, read]


THEME.alone(logged_in)


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive if one.isfile()}  # type: ignore[union-attr]  # a file


async def exported(site: Site, name: str) -> dict[str, bytes]:
    path: Path = site.workdir / name
    return members(await anyio.to_thread.run_sync(path.read_bytes))


@case
async def as_a_tarball(site: Site) -> Answer:
    made = site.base.with_new_file("/x", "tarball").with_annotation("n", "3")
    name = f"{site.name}.tar"
    answer = await made.as_tarball().export(name)
    reference = await made.publish(to(site, ":1"))
    found = await exported(site, name)
    index = json.loads(found["index.json"])
    return {
        "answer": answer,
        "reference": reference,
        "digest": index["manifests"][0]["digest"],
        "files": sorted(name for name in found if "blobs/" not in name),
        "layout": json.loads(found["oci-layout"]),
        "docker": [sorted(one) for one in json.loads(found["manifest.json"])],
        "name": await made.as_tarball().name(),
    }


@case
async def exported_directly(site: Site) -> Answer:
    made = site.base.with_new_file("/x", "exported")
    name = f"{site.name}.tar"
    answer = await made.export(name)
    again = f"{site.name}-again.tar"
    await made.as_tarball().export(again)
    return [answer, await exported(site, name) == await exported(site, again)]


@case
async def imported(site: Site) -> Answer:
    made = site.base.with_new_file("/x", "imported").with_label("l", "1").with_entrypoint(["cat", "/x"])
    back = dag.container().import_(made.as_tarball())
    return [
        await back.file("/x").contents(),
        await back.label("l"),
        await back.entrypoint(),
        await back.with_exec([], use_entrypoint=True).stdout(),
    ]


@case
async def imported_that_is_none(site: Site) -> Answer:
    error = await attempt(dag.container().import_(dag.file("x.tar", "nonsense")).sync())
    return [error["error"], error["path"]]


@case
async def mounts_and_secrets_are_not_published(site: Site) -> Answer:
    made = (
        site.base.with_mounted_directory("/m", dag.directory().with_new_file("x", "1"))
        .with_mounted_secret("/run/s", dag.set_secret("unpublished", "s3cret-value"))
        .with_secret_variable("T", dag.set_secret("unpublished", "s3cret-value"))
        .with_volatile_variable("V", "volatile")
        .with_exec(["sh", "-c", "echo 1 > /kept; echo 2 > /m/y"])
    )
    reference = await made.publish(to(site, ":1"))
    config = await site.config(reference)
    back = dag.container().from_(reference)
    return [sorted(config["config"].get("Env", [])), await back.exists("/m/x"), await back.exists("/kept")]


@case
async def published_at_once(site: Site) -> Answer:
    made = site.base.with_new_file("/x", "at once")
    found = await asyncio.gather(*(made.publish(to(site, f"-{number}:1")) for number in range(3)))
    return sorted(found)
