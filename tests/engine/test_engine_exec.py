"""What an exec sees, gives back and may do: dagger-io on real containers."""

from __future__ import annotations

import anyio
import dagger
import pytest
from dagger import ReturnType, dag

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.timeout(180)]


async def test_outputs_apart_together_and_untrimmed(base: dagger.Container) -> None:
    ran = base.with_exec(["sh", "-c", "echo ' out '; echo err >&2"])
    assert await ran.stdout() == " out \n"
    assert await ran.stderr() == "err\n"
    assert sorted((await ran.combined_output()).splitlines()) == [" out ", "err"]
    assert await ran.exit_code() == 0


async def test_a_failure_tells_command_code_and_both_outputs(base: dagger.Container) -> None:
    command = ["sh", "-c", "echo before; echo 'the reason' >&2; exit 7"]
    with pytest.raises(dagger.ExecError) as caught:
        await base.with_exec(command).sync()
    error = caught.value
    assert (error.exit_code, error.command, error.stdout, error.stderr) == (
        7,
        command,
        "before",
        "the reason",
    )
    assert "exit code: 7" in str(error) and "the reason" in str(error)


async def test_a_program_that_is_not_there(base: dagger.Container) -> None:
    with pytest.raises(dagger.ExecError) as caught:
        await base.with_exec(["no-such-program"]).sync()
    assert caught.value.exit_code == 1
    assert "executable file not found in $PATH" in caught.value.stderr


async def test_tolerated_failures_keep_their_files_but_signals_are_no_such(
    base: dagger.Container,
) -> None:
    script = ["sh", "-c", "echo kept > /kept; exit 3"]
    ran = base.with_exec(script, expect=ReturnType.ANY)
    assert await ran.exit_code() == 3
    assert await ran.with_exec(["cat", "/kept"]).stdout() == "kept\n"
    killed = base.with_exec(["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], expect=ReturnType.ANY)
    with pytest.raises(dagger.ExecError) as caught:
        await killed.sync()
    assert caught.value.exit_code == 137


async def test_environment_workdir_and_user(base: dagger.Container) -> None:
    ran = (
        base.with_env_variable("A", "1")
        .with_env_variable("B", "${A}2", expand=True)
        .with_workdir("/made/for/it")
        .with_user("app")
        .with_exec(["sh", "-c", "echo $A $B $BASE $HOME $(pwd) $(id -u):$(id -g) $(umask)"])
    )
    assert await ran.stdout() == "1 12 tiny /home/app /made/for/it 1000:1000 0022\n"
    assert (
        await base.with_user("1234:5678").with_exec(["sh", "-c", "id -u; id -g"]).stdout() == "1234\n5678\n"
    )


async def test_an_unknown_user_is_a_set_up_error(base: dagger.Container) -> None:
    with pytest.raises(dagger.ExecError, match="unable to find user nobody-knows") as caught:
        await base.with_user("nobody-knows").with_exec(["true"]).sync()
    assert caught.value.exit_code == -1


async def test_stdin_and_redirects(base: dagger.Container) -> None:
    assert await base.with_exec(["cat"], stdin="typed").stdout() == "typed"
    teed = base.with_exec(
        ["sh", "-c", "echo o; echo e >&2"], redirect_stdout="/tmp/o", redirect_stderr="/tmp/e"
    )
    assert await teed.stdout() == "o\n"
    assert await teed.file("/tmp/e").contents() == "e\n"
    fed = base.with_new_file("/in", "from a file").with_exec(["cat"], redirect_stdin="/in")
    assert await fed.stdout() == "from a file"


async def test_entrypoint_and_default_arguments(base: dagger.Container) -> None:
    container = base.with_entrypoint(["echo", "entry"]).with_default_args(["default"])
    assert await container.with_exec(["given"], use_entrypoint=True).stdout() == "entry given\n"
    assert await container.with_exec([], use_entrypoint=True).stdout() == "entry default\n"
    assert await container.with_exec(["echo", "alone"]).stdout() == "alone\n"


async def test_secrets_are_seen_masked_and_not_left_behind(base: dagger.Container) -> None:
    secret = dag.set_secret("token", "s3cret-value")
    container = base.with_secret_variable("TOKEN", secret).with_mounted_secret("/run/token", secret)
    ran = container.with_exec(
        ["sh", "-c", "echo $TOKEN; cat /run/token >&2; stat -c %a:%u /run/token; echo ${#TOKEN}"]
    )
    assert await ran.stdout() == "***\n400:0\n12\n"
    assert await ran.stderr() == "***"
    with pytest.raises(dagger.ExecError) as caught:
        await container.with_exec(["sh", "-c", "echo oh $TOKEN >&2; exit 1"]).sync()
    assert caught.value.stderr == "oh ***"
    assert "s3cret" not in str(caught.value)
    plain = ran.without_secret_variable("TOKEN").without_mount("/run/token")
    found = await plain.with_exec(["sh", "-c", "env | grep -c s3cret; ls /run 2>/dev/null; true"]).stdout()
    assert found == "0\n"


async def test_mounts_are_not_in_the_image(base: dagger.Container) -> None:
    source = dag.directory().with_new_file("x", "mounted")
    container = (
        base.with_mounted_directory("/ro", source, read_only=True)
        .with_mounted_temp("/tmpfs")
        .with_mounted_cache("/cache", dag.cache_volume("exec-test"))
        .with_exec(
            ["sh", "-c", "cat /ro/x; touch /tmpfs/t /cache/c; touch /ro/y 2>/dev/null || echo refused"]
        )
    )
    assert await container.stdout() == "mountedrefused\n"
    assert not {"ro/", "tmpfs/", "cache/"} & set(await container.rootfs().entries())


async def test_writes_to_a_mounted_directory_stay_in_the_chain(base: dagger.Container) -> None:
    source = dag.directory().with_new_file("x", "1")
    mounted = base.with_mounted_directory("/m", source)
    written = mounted.with_exec(["sh", "-c", "echo 2 >> /m/x; mkdir /m/d; ln -s x /m/l"])
    assert await written.file("/m/x").contents() == "12\n"
    assert await written.with_exec(["cat", "/m/l"]).stdout() == "12\n"
    assert await written.directory("/m").entries() == ["d/", "l", "x"]
    assert await mounted.with_exec(["cat", "/m/x"]).stdout() == "1"


async def test_the_same_exec_asked_three_times_at_once_runs_once(base: dagger.Container) -> None:
    volume = dag.cache_volume("counter")
    script = "echo x >> /c/runs; sleep 0.5; wc -l < /c/runs"
    answers: list[str] = []

    async def ask() -> None:
        ran = base.with_mounted_cache("/c", volume).with_exec(["sh", "-c", script])
        answers.append((await ran.stdout()).strip())

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask)
    assert answers == ["1", "1", "1"]


async def test_volatile_values_are_seen_but_bust_nothing(base: dagger.Container) -> None:
    def ran(value: str) -> dagger.Container:
        return base.with_volatile_variable("URL", value).with_exec(["sh", "-c", "echo $URL"])

    assert await ran("one").stdout() == "one\n"
    assert await ran("two").stdout() == "one\n"  # from the cache: the value is not in the key
    assert await ran("one").env_variable("URL") is None


async def test_megabytes_of_output_come_back_whole_and_failures_keep_the_end(base: dagger.Container) -> None:
    ran = base.with_exec(["seq", "1", "300000"])
    assert len((await ran.stdout()).splitlines()) == 300_000
    with pytest.raises(dagger.ExecError) as caught:
        await base.with_exec(["sh", "-c", "seq 1 100000; exit 1"]).sync()
    assert caught.value.stdout.startswith("[omitting ")
    assert caught.value.stdout.endswith("100000")
    assert len(caught.value.stdout) < 102_500  # the last 100 KiB, and how many bytes are left out


async def test_a_path_that_is_not_there_is_named_as_the_user_knows_it(base: dagger.Container) -> None:
    with pytest.raises(dagger.QueryError, match="/no/dir: no such file or directory"):
        await base.directory("/no/dir").entries()
    with pytest.raises(dagger.QueryError, match="/no/file: no such file or directory"):
        await base.file("/no/file").contents()
    assert await base.exists("/etc/passwd")
    assert not await base.exists("/no/file")


async def test_mounted_files_and_seeded_and_locked_caches(base: dagger.Container) -> None:
    mounted = base.with_mounted_file("/etc/app.conf", dag.file("conf.txt", "a"))
    changed = mounted.with_exec(["sh", "-c", "echo b >> /etc/app.conf"])
    assert await changed.with_exec(["cat", "/etc/app.conf"]).stdout() == "ab\n"
    assert "app.conf" not in await changed.rootfs().directory("etc").entries()
    seed = dag.directory().with_new_file("seed", "s")
    cache = dag.cache_volume("seeded-and-locked")
    locked = base.with_mounted_cache("/c", cache, source=seed, sharing=dagger.CacheSharingMode.LOCKED)
    assert await locked.with_exec(["cat", "/c/seed"]).stdout() == "s"
    with pytest.raises(dagger.QueryError, match="cannot retrieve path from cache"):
        await locked.file("/c/seed").contents()
