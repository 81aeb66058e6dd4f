"""Images in and out, and Dockerfile builds, on real Buildah and Skopeo with a registry of the tests' own."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio
import pytest
from engine_home import EngineHome
from registry_process import PASSWORD, USERNAME, RegistryProcess, password_registry
from runtime_tools import PLATFORM, Base, Facts, base_runtime, members, plain

from embedded_engine.runtime import oci
from embedded_engine.runtime.layers import GZIP
from embedded_engine.runtime.port import (
    BuildStep,
    BuildStepFailed,
    LayerBlob,
    Login,
    OutImage,
    PulledImage,
    RuntimeFailure,
    Write,
)

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.registry]
__all__ = ["password_registry"]
FACTS = Facts()
DOCKERFILE = """ARG FLAVOUR=plain
ARG BASE=tiny:1
FROM ${BASE} AS builder
RUN test -r $SSL_CERT_FILE && echo built > /out
FROM tiny:1
ARG FLAVOUR
COPY --from=builder /out /app/out
RUN --mount=type=secret,id=token test -s /run/secrets/token
COPY code.txt /app/
RUN test -r $PIP_CERT && echo $FLAVOUR > /app/flavour
ENV MODE=serve
CMD ["cat", "/app/flavour"]
"""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runtime-state")


@pytest.fixture
async def base(home: EngineHome, state: Path) -> AsyncIterator[Base]:
    async with base_runtime(state, home.base, FACTS) as running:
        yield running


def build_step(base: Base, context: Path, dockerfile: str = DOCKERFILE) -> BuildStep:
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(dockerfile)
    if not (context / "code.txt").exists():
        (context / "code.txt").write_text("code")
    return BuildStep(
        context,
        args=(("FLAVOUR", "sweet"),),
        secrets=(("token", b"hush"),),
        platform=PLATFORM,
        pins=(("tiny:1", base.reference),),
    )


def composed(image: PulledImage, layers: Sequence[LayerBlob]) -> OutImage:
    config = oci.encoded(
        {**image.config, "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}}
    )
    descriptors = [{"mediaType": one.media_type, "digest": one.digest, "size": one.size} for one in layers]
    manifest = oci.manifest_for(config, descriptors)
    return OutImage(manifest, config, tuple(layers), oci.digest_of(manifest))


async def test_base_layers_leave_as_they_came(base: Base, home: EngineHome) -> None:
    manifest = json.loads(home.registry.blob(base.reference.partition("@")[2]).read_bytes())
    layers = await base.runtime.layers(base.image.snapshot)
    assert [layer.digest for layer in layers] == [layer["digest"] for layer in manifest["layers"]]
    ours = await base.runtime.layers(await base.shell("echo more > /more"))
    assert ours[:-1] == layers
    assert ours[-1].media_type == GZIP


async def test_a_tag_that_is_not_there_and_a_registry_that_is_not_there(base: Base, home: EngineHome) -> None:
    with pytest.raises(RuntimeFailure, match=r"tiny:nosuch: not found"):
        await base.runtime.resolve(f"{home.registry.host}/tiny:nosuch", None)
    with pytest.raises(RuntimeFailure, match=r"127\.0\.0\.1:1/tiny:1: .*refused"):
        await base.runtime.resolve("127.0.0.1:1/tiny:1", None)


async def test_two_cold_stores_build_the_same_digests(base: Base, home: EngineHome, tmp_path: Path) -> None:
    step = build_step(base, tmp_path / "context")
    first = await base.runtime.docker_build(step)
    first_layers = await base.runtime.layers(first.snapshot)
    async with base_runtime(tmp_path / "cold", home.base) as cold:
        second = await cold.runtime.docker_build(step)
        second_layers = await cold.runtime.layers(second.snapshot)
    assert [one.digest for one in first_layers] == [one.digest for one in second_layers]
    assert first.config == second.config
    assert first.snapshot == second.snapshot


async def test_a_build_leaves_no_trace_of_the_host_in_layers_or_config(base: Base, tmp_path: Path) -> None:
    image = await base.runtime.docker_build(build_step(base, tmp_path / "context"))
    layers = (await base.runtime.layers(image.snapshot))[1:]
    names = {name for layer in layers for name, entry in members(layer).items() if not entry.isdir()}
    assert names == {"app/out", "app/code.txt", "app/flavour"}
    assert not [name for layer in layers for name in members(layer) if ".engine" in name or "secrets" in name]
    assert {entry.mtime for layer in layers for entry in members(layer).values()} == {315_532_800}
    whole = json.dumps(image.config).encode() + b"".join(plain(layer) for layer in layers)
    for trace in (
        b".engine",
        b"PIP_CERT=",
        b"CURL_CA",
        b"BEGIN CERTIFICATE",
        b"hush",
        str(tmp_path).encode(),
    ):
        assert trace not in whole, trace
    config = image.config["config"]
    assert config == {  # neither our arguments nor the user's are in the environment
        "Env": ["PATH=/usr/bin:/bin", "BASE=tiny", "MODE=serve"],
        "Cmd": ["cat", "/app/flavour"],
        "Labels": {"base": "tiny"},
    }


async def test_secrets_of_a_build_are_in_no_argument(base: Base, tmp_path: Path) -> None:
    await base.runtime.docker_build(build_step(base, tmp_path / "context"))
    assert [line for line in base.commands if " bud " in line]
    assert not [line for line in base.commands if "hush" in line]


async def test_only_what_changed_is_built_again(base: Base, tmp_path: Path) -> None:
    step = build_step(base, tmp_path / "context")
    (step.context / "code.txt").write_text(f"first {tmp_path}")
    cold = await base.runtime.docker_build(step)
    os.utime(step.context / "code.txt", (1, 1))
    warm = await base.runtime.docker_build(step)
    assert (warm.snapshot, warm.cached_steps) == (cold.snapshot, warm.steps)
    (step.context / "code.txt").write_text(f"second {tmp_path}")
    changed = await base.runtime.docker_build(step)
    assert changed.snapshot != cold.snapshot
    assert (changed.steps, changed.cached_steps) == (8, 4)  # all before COPY code.txt


async def test_a_run_that_fails_tells_its_command_code_and_output(base: Base, tmp_path: Path) -> None:
    text = "FROM tiny:1\nRUN echo first\nRUN --mount=type=tmpfs,target=/t echo out; echo err >&2; exit 7\n"
    with pytest.raises(BuildStepFailed) as caught:
        await base.runtime.docker_build(build_step(base, tmp_path / "context", text))
    failure = caught.value
    assert failure.step_args == ("/bin/sh", "-c", "echo out; echo err >&2; exit 7")
    assert (failure.exit_code, failure.stdout, failure.stderr) == (7, "out\n", "err\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FORM tiny:1\n", r"Dockerfile:1: unknown instruction: FORM \(did you mean FROM\?\)"),
        ("# nothing\n", "Dockerfile: there is no FROM"),
        ("FROM tiny:1\nCOPY nosuch /\n", 'COPY nosuch /: "/nosuch": no such file or directory'),
        ("FROM tiny:1\nRUN nosuch-program\n", None),
    ],
)
async def test_what_is_wrong_with_a_dockerfile_is_told(
    base: Base, tmp_path: Path, text: str, message: str | None
) -> None:
    if message is None:
        with pytest.raises(BuildStepFailed) as caught:
            await base.runtime.docker_build(build_step(base, tmp_path / "context", text))
        assert caught.value.exit_code == 127
        return
    with pytest.raises(RuntimeFailure, match=message) as refused:
        await base.runtime.docker_build(build_step(base, tmp_path / "context", text))
    assert str(base.runtime.state.root) not in str(refused.value)


async def test_what_is_published_is_what_the_archive_holds(
    base: Base, home: EngineHome, tmp_path: Path
) -> None:
    image = PulledImage(await base.shell("echo x > /x"), base.image.config)
    out = composed(image, await base.runtime.layers(image.snapshot))
    await base.runtime.publish(out, f"{home.registry.host}/sent:1", None)
    assert home.registry.tag_digest("sent", "1") == out.digest
    await base.runtime.write_tarball(out, tmp_path / "one.tar", "sent:1")
    await base.runtime.write_tarball(out, tmp_path / "two.tar", "sent:1")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    inspected = await anyio.run_process(["skopeo", "inspect", "--raw", f"oci-archive:{tmp_path}/one.tar"])
    assert oci.digest_of(inspected.stdout) == out.digest
    docker = await anyio.run_process(["skopeo", "inspect", "--config", f"docker-archive:{tmp_path}/one.tar"])
    assert json.loads(docker.stdout)["rootfs"]["diff_ids"] == [layer.diff_id for layer in out.layers]


async def test_an_archive_comes_back_as_it_was(base: Base, home: EngineHome, tmp_path: Path) -> None:
    snapshot = await base.shell("echo y > /y")
    out = composed(PulledImage(snapshot, base.image.config), await base.runtime.layers(snapshot))
    await base.runtime.write_tarball(out, tmp_path / "image:with colon.tar")
    async with base_runtime(tmp_path / "other", home.base) as other:
        back = await other.runtime.import_archive(tmp_path / "image:with colon.tar", "", PLATFORM)
        assert await other.runtime.layers(back.snapshot) is not None
        assert [one.digest for one in await other.runtime.layers(back.snapshot)] == [
            one.digest for one in out.layers
        ]
    assert oci.encoded(back.config) == out.config


async def test_what_is_no_archive_is_refused(base: Base, tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("no tar")
    with pytest.raises(RuntimeFailure, match=r"text\.tar is not an image archive"):
        await base.runtime.import_archive(tmp_path / "text.tar", "", PLATFORM)


async def test_a_small_change_compresses_and_sends_one_layer(base: Base, home: EngineHome) -> None:
    large = await base.runtime.edit(base.image.snapshot, [Write("/weights", os.urandom(3 << 20))])
    first = composed(PulledImage(large, base.image.config), await base.runtime.layers(large))
    await base.runtime.publish(first, f"{home.registry.host}/grown:1", None)
    made = {layer.path: layer.path.stat().st_mtime_ns for layer in first.layers}
    log = home.registry.directory / "log"
    before = len(log.read_text())
    small = await base.runtime.edit(large, [Write("/code", b"print(2)")])
    second = composed(PulledImage(small, base.image.config), await base.runtime.layers(small))
    await base.runtime.publish(second, f"{home.registry.host}/grown:2", None)
    assert {layer.path: layer.path.stat().st_mtime_ns for layer in first.layers} == made
    assert second.layers[:-1] == first.layers
    sent = [line for line in log.read_text()[before:].splitlines() if '"PUT /v2/grown/blobs/uploads' in line]
    assert len(sent) == 2  # the new layer and the config


async def test_credentials_are_used_and_in_no_argument(
    base: Base, password_registry: RegistryProcess
) -> None:
    out = composed(base.image, await base.runtime.layers(base.image.snapshot))
    address = f"{password_registry.host}/private:1"
    with pytest.raises(RuntimeFailure, match="access denied"):
        await base.runtime.publish(out, address, Login(USERNAME, "wrong"))
    login = Login(USERNAME, PASSWORD)
    await base.runtime.publish(out, address, login)
    assert await base.runtime.resolve(address, login) == out.digest
    pulled = await base.runtime.pull(address, out.digest, PLATFORM, login)
    assert pulled.snapshot == base.image.snapshot
    assert not [line for line in base.commands if PASSWORD in line]
    assert PASSWORD not in repr(login)
