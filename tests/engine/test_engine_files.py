"""Files between the host, directories and containers: dagger-io on the embedded engine, real containers."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import dagger
import pytest
import tiny_base
from dagger import dag

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.engine,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not shutil.which("buildah"), reason="needs Buildah"),
]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One engine state for all tests here; the base image in it as an archive."""
    root = tmp_path_factory.mktemp("engine")
    tiny_base.write_layout(root / "layout")
    with tarfile.open(root / "base.tar", "w") as archive:
        archive.add(root / "layout", arcname=".")
    cli = root / "embedded-engine"
    cli.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m embedded_engine "$@"\n')
    cli.chmod(0o755)
    yield root


@pytest.fixture
async def base(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dagger.Container]:
    """A session whose directory is ``tmp_path``, and a container of the base image in it."""
    monkeypatch.setenv("EMBEDDED_ENGINE_STATE", str(state / "state"))
    monkeypatch.setenv("_EXPERIMENTAL_DAGGER_CLI_BIN", str(state / "embedded-engine"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.delenv("DAGGER_SESSION_PORT", raising=False)
    config = dagger.Config(retry=None, workdir=str(tmp_path), log_output=sys.stderr)
    async with dagger.connection(config):
        yield dag.container().import_(dag.host().file(str(state / "base.tar")))


async def test_a_host_directory_in_a_container(base: dagger.Container, tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "bin").mkdir(parents=True)
    (source / "bin" / "tool").write_text("#!/bin/sh\necho tool ran\n")
    (source / "bin" / "tool").chmod(0o755)
    (source / "note.log").write_text("left out")
    (source / "link").symlink_to("bin/tool")
    container = base.with_directory("/app", dag.host().directory("src", exclude=["*.log"]), owner="1000:1000")
    script = "cd /app && ./link && stat -c '%u:%g %a %n' bin bin/tool && ls"
    assert await container.with_exec(["sh", "-c", script]).stdout() == (
        "tool ran\n1000:1000 755 bin\n1000:1000 755 bin/tool\nbin\nlink\n"
    )


async def test_what_a_container_made_comes_out_with_owner_and_mode(
    base: dagger.Container, tmp_path: Path
) -> None:
    script = "mkdir -p /out/d; cd /out/d; echo made >f; chmod 750 .; chown 1000:1000 f; ln -s f l"
    made = base.with_exec(["sh", "-c", script]).directory("/out")
    assert await made.glob("**") == ["d/", "d/f", "d/l"]
    assert await made.file("d/l").contents() == "made\n"
    again = base.with_directory("/in", made).with_exec(["stat", "-c", "%u %a", "/in/d/f", "/in/d"])
    assert await again.stdout() == "1000 644\n0 750\n"
    owned = base.with_exec(["sh", "-c", "mkdir -p /o/d && chown 1000:1000 /o/d"]).directory("/o")
    mounted = base.with_mounted_directory("/m", owned).with_exec(["stat", "-c", "%u", "/m/d"])
    assert await mounted.stdout() == "1000\n"
    assert await made.export("here") == str(tmp_path / "here")
    assert (tmp_path / "here" / "d" / "f").read_text() == "made\n"
    assert stat.S_IMODE((tmp_path / "here" / "d").stat().st_mode) == 0o750


async def test_a_mounted_directory_takes_writes_that_the_store_never_sees(base: dagger.Container) -> None:
    content = dag.directory().with_new_file("a", "kept\n")
    run = base.with_mounted_directory("/m", content).with_exec(
        ["sh", "-c", "echo more >>/m/a && echo new >/m/b"]
    )
    assert await run.with_exec(["cat", "/m/a", "/m/b"]).stdout() == "kept\nmore\nnew\n"
    assert await run.directory("/m").entries() == ["a", "b"]
    assert await content.file("a").contents() == "kept\n"
    assert await base.with_mounted_directory("/m", content).with_exec(["cat", "/m/a"]).stdout() == "kept\n"
    assert not await run.rootfs().exists("/m/a")


async def test_a_read_only_mount_cannot_be_written_to(base: dagger.Container) -> None:
    content = dag.directory().with_new_file("a", "kept\n")
    run = base.with_mounted_directory("/m", content, read_only=True)
    with pytest.raises(dagger.ExecError):
        await run.with_exec(["sh", "-c", "echo more >>/m/a"]).sync()
    assert await run.with_exec(["cat", "/m/a"]).stdout() == "kept\n"


async def test_one_container_s_root_read_only_in_another(base: dagger.Container) -> None:
    image = base.with_new_file("/etc/marker", "model\n")
    tools = base.with_mounted_directory("/image", image.rootfs(), read_only=True)
    assert await tools.with_exec(["cat", "/image/etc/marker"]).stdout() == "model\n"


async def test_a_secret_is_masked_in_outputs_and_in_no_file(base: dagger.Container) -> None:
    secret = dag.set_secret("token", "hunter2-token")
    run = base.with_secret_variable("TOKEN", secret).with_mounted_secret("/run/token", secret)
    assert await run.with_exec(["sh", "-c", "echo $TOKEN; cat /run/token"]).stdout() == "***\n***"
    assert not await run.with_exec(["true"]).rootfs().exists("/run/token")


async def test_a_missing_environment_secret_is_named_in_full(base: dagger.Container) -> None:
    secret = dag.secret("env://NO_SUCH_VARIABLE_HERE")
    with pytest.raises(dagger.QueryError, match="NO_SUCH_VARIABLE_HERE"):
        await base.with_secret_variable("X", secret).with_exec(["true"]).sync()


async def test_root_files_stay_the_engines(base: dagger.Container, state: Path) -> None:
    await (
        base.with_directory("/x", dag.directory().with_new_file("f", "x", permissions=0o4755))
        .with_exec(["sh", "-c", "echo changed >/x/f"])
        .sync()
    )
    stored = [path for path in (state / "state" / "trees" / "files").glob("*/*") if path.stat().st_size == 1]
    assert {path.read_bytes() for path in stored} == {b"x"}
    assert os.access(state, os.W_OK)
