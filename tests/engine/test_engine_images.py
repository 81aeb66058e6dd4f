"""Images in and out: pull, publish, archives, digests, Dockerfiles."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import anyio
import dagger
import pytest
from dagger import dag
from engine_home import EngineHome
from engine_process import engine_session
from registry_process import running_registry

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.registry, pytest.mark.timeout(180)]


def inspected(reference: str, *, config: bool = False) -> dict[str, object]:
    command = ["skopeo", "inspect", "--tls-verify=false", "--raw", *(["--config"] if config else [])]
    done = subprocess.run([*command, f"docker://{reference}"], capture_output=True, check=True, timeout=60)
    document: dict[str, object] = json.loads(done.stdout)
    return document


def made(base: dagger.Container) -> dagger.Container:
    return (
        base.with_new_file("/app/run.sh", "echo served", permissions=0o755)
        .with_exec(["sh", "-c", "echo installed > /app/lib"])
        .with_env_variable("MODE", "prod")
        .with_entrypoint(["sh", "/app/run.sh"])
        .with_label("a.label", "its value")
        .with_annotation("a.note", "kept")
        .with_exposed_port(8080)
        .with_user("app")
    )


async def test_what_is_published_has_the_config_and_the_tarballs_digest(
    base: dagger.Container, home: EngineHome
) -> None:
    image = made(base)
    reference = await image.publish(f"{home.registry.host}/app:1")
    name, _, digest = reference.rpartition("@")
    assert name == f"{home.registry.host}/app:1"
    assert await image.as_tarball().digest() == digest
    assert (
        await image.publish(f"{home.registry.host}/other/app:2")
        == f"{home.registry.host}/other/app:2@{digest}"
    )
    assert home.registry.tag_digest("app", "1") == digest
    manifest = inspected(f"{home.registry.host}/app@{digest}")
    assert manifest["annotations"] == {"a.note": "kept"}
    config = inspected(f"{home.registry.host}/app@{digest}", config=True)
    inner = config["config"]
    assert isinstance(inner, dict)
    assert inner["Entrypoint"] == ["sh", "/app/run.sh"]
    assert inner["Labels"] == {"a.label": "its value", "base": "tiny"}
    assert "MODE=prod" in inner["Env"] and "BASE=tiny" in inner["Env"]
    assert inner["User"] == "app" and inner["ExposedPorts"] == {"8080/tcp": {}}
    layers = manifest["layers"]
    assert isinstance(layers, list) and len(layers) == 3
    assert layers[0] == inspected(home.base)["layers"][0]  # type: ignore[index]  # the base's own blob


async def test_an_archive_holds_what_was_published_and_comes_back(
    base: dagger.Container, tmp_path: Path
) -> None:
    image = made(base)
    target = tmp_path / "image.tar"
    assert await image.as_tarball().export(str(target)) == str(target)
    with tarfile.open(target) as archive:
        names = archive.getnames()
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]  # it is there
        assert {member.mtime for member in archive.getmembers()} == {0}
    assert {"oci-layout", "manifest.json"} <= set(names)
    assert index["manifests"][0]["digest"] == await image.as_tarball().digest()
    again = tmp_path / "again.tar"
    await image.export(str(again))
    assert again.read_bytes() == target.read_bytes()
    imported = dag.container().import_(dag.host().file(str(target)))
    assert await imported.with_exec([], use_entrypoint=True).stdout() == "served\n"
    assert await imported.label("a.label") == "its value"


async def test_from_tells_its_digest_and_a_missing_image_is_named(
    base: dagger.Container, home: EngineHome
) -> None:
    reference = await base.image_ref()
    assert reference == f"{home.base}@{home.registry.tag_digest('tiny', '1')}"
    assert await dag.container().from_(reference).with_exec(["echo", "x"]).stdout() == "x\n"
    with pytest.raises(dagger.QueryError, match="no-such-image"):
        await dag.container().from_(f"{home.registry.host}/no-such-image:1").sync()


async def test_a_cold_cache_gives_the_same_digest_again(home: EngineHome, tmp_path: Path) -> None:
    chain = home.chain(
        'withNewFile(path: "/a", contents: "b")',
        'withExec(args: ["sh", "-c", "mkdir /d; echo x > /d/f"])',
        'withLabel(name: "v", value: "1")',
        "asTarball",
        "digest",
    )
    digests = []
    for name in ("one", "two"):
        with engine_session(tmp_path / name, SOURCE_DATE_EPOCH="1700000000") as session:
            digests.append(session.leaf(chain))
        await anyio.sleep(1.1)  # another second of the clock
    assert digests[0] == digests[1]
    with engine_session(tmp_path / "one", SOURCE_DATE_EPOCH="1700000001") as session:
        assert session.leaf(chain) != digests[0]


async def test_a_registry_with_passwords(base: dagger.Container, tmp_path: Path) -> None:
    with running_registry(tmp_path / "registry", password=True) as registry:
        address = f"{registry.host}/private:1"
        with pytest.raises(dagger.QueryError, match=r"(?i)auth"):
            await base.publish(address)
        wrong = dag.set_secret("wrong", "wrong-password")
        with pytest.raises(dagger.QueryError) as caught:
            await base.with_registry_auth(address, registry.username, wrong).publish(address)
        assert "wrong-password" not in str(caught.value)
        right = dag.set_secret("right", registry.password)
        reference = await base.with_registry_auth(address, registry.username, right).publish(address)
        assert reference.startswith(address + "@sha256:")
        pulled = dag.container().from_(reference).with_exec(["echo", "pulled"])  # the login is the session's
        assert await pulled.stdout() == "pulled\n"


async def test_a_dockerfile_stands_on_the_base_it_names(base: dagger.Container, home: EngineHome) -> None:
    """Buildah's own cache takes bases for the same that differ only in their settings."""
    for setting in ("one", "two"):
        address = f"{home.registry.host}/settings/{setting}:1"
        await base.with_label("setting", setting).publish(address)
        dockerfile = dag.directory().with_new_file("Dockerfile", f"FROM {address}\nENV OWN=1\n")
        assert await dockerfile.docker_build().label("setting") == setting


async def test_a_dockerfile(base: dagger.Container, home: EngineHome) -> None:
    dockerfile = f"""
ARG BASE={home.base}
FROM $BASE AS build
ARG VERSION=none
COPY code.txt /code.txt
RUN --mount=type=secret,id=token echo "$VERSION $(cat /code.txt) $(wc -c < /run/secrets/token)" > /made
FROM build AS final
ENV MODE=docker
LABEL from=dockerfile
WORKDIR /w
CMD ["cat", "/made"]
"""
    context = dag.directory().with_new_file("Dockerfile", dockerfile).with_new_file("code.txt", "code")
    context = context.with_new_file(".dockerignore", "ignored\n").with_new_file("ignored", "1")
    token = dag.set_secret("token", "four")
    built = context.docker_build(build_args=[dagger.BuildArg("VERSION", "7")], secrets=[token])
    assert await built.with_exec([]).stdout() == "7 code 4\n"
    assert await built.label("from") == "dockerfile"
    assert await built.env_variable("MODE") == "docker"
    assert await built.workdir() == "/w"
    only = context.docker_build(target="build", secrets=[token])
    assert await only.env_variable("MODE") is None


async def test_a_dockerfile_step_that_fails(base: dagger.Container, home: EngineHome) -> None:
    text = f"FROM {home.base}\nRUN echo going && echo 'this is why' >&2 && exit 5\n"
    with pytest.raises(dagger.ExecError) as caught:
        await dag.directory().with_new_file("Dockerfile", text).docker_build().sync()
    assert caught.value.exit_code == 5
    assert "this is why" in caught.value.stderr


async def test_publishing_nothing_is_refused(base: dagger.Container, home: EngineHome) -> None:
    with pytest.raises(dagger.QueryError, match="no containers to export"):
        await dag.container().publish(f"{home.registry.host}/empty:1")
