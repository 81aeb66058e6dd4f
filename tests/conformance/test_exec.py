"""withExec: outputs, exit codes, what a failure tells, what a command is given."""

from __future__ import annotations

import anyio
import pytest
from dagger import ReturnType, dag

from .case import Answer, Theme
from .checking import test_answers_as_dagger_does  # noqa: F401  # the test of each case below
from .site import Site, attempt

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
THEME = Theme("exec")
case = THEME.case


@case
async def outputs_apart_and_untrimmed(site: Site) -> Answer:
    ran = site.sh("echo ' out '; echo err >&2")
    return [await ran.stdout(), await ran.stderr(), await ran.exit_code()]


@case
async def combined_output(site: Site) -> Answer:
    return await site.sh("echo one; sleep 0.2; echo two >&2; sleep 0.2; echo three").combined_output()


@case
async def outputs_of_the_last_exec_only(site: Site) -> Answer:
    ran = site.sh("echo first").with_exec(["echo", "second"])
    return [await ran.stdout(), await ran.stderr()]


@case
async def output_without_exec(site: Site) -> Answer:
    empty = site.base
    return [
        await attempt(empty.stdout()),
        await attempt(empty.stderr()),
        await attempt(empty.combined_output()),
        await attempt(empty.exit_code()),
    ]


@case
async def output_after_changes_is_still_the_execs(site: Site) -> Answer:
    changed = site.sh("echo kept").with_env_variable("A", "1").with_new_file("/x", "y").with_workdir("/tmp")
    return await attempt(changed.stdout())


@case
async def output_after_rootfs_replaced(site: Site) -> Answer:
    return await attempt(site.sh("echo kept").with_rootfs(site.base.rootfs()).stdout())


@case
async def invalid_utf8(site: Site) -> Answer:
    return await site.sh("printf 'a\\377b\\303'").stdout()


@case
async def nul_and_control_characters(site: Site) -> Answer:
    return await site.sh("printf 'a\\000b\\001\\033[1mc\\r\\n'").stdout()


@case
async def long_output_is_whole(site: Site) -> Answer:
    text = await site.sh("seq 1 200000").stdout()
    return [len(text), text[-14:]]


@case
async def failure(site: Site) -> Answer:
    return await site.sh("echo ' before '; echo 'the reason' >&2; exit 7").stdout()


@case
async def failure_by_sync(site: Site) -> Answer:
    return await attempt(site.sh("echo ' before '; exit 3").sync())


@case
async def failure_earlier_in_the_chain(site: Site) -> Answer:
    return await site.sh("exit 4").with_exec(["echo", "never"]).stdout()


@case
async def failure_seen_through_a_file(site: Site) -> Answer:
    return await site.sh("exit 5").file("/etc/passwd").contents()


@case
async def failure_output_trimmed_of_white_space(site: Site) -> Answer:
    return await site.sh("printf '\\n\\n  a\\n b \\n\\n'; printf '\\t x\\n' >&2; exit 1").stdout()


@case
async def failure_with_long_output(site: Site) -> Answer:
    error = await attempt(site.sh("seq 1 60000; seq 1 40000 >&2; exit 1").stdout())
    return {
        "stdout": [len(error["stdout"]), error["stdout"][:60], error["stdout"][-6:]],
        "stderr": [len(error["stderr"]), error["stderr"][:60], error["stderr"][-6:]],
        "exit_code": error["exit_code"],
    }


@case
async def failure_with_invalid_utf8(site: Site) -> Answer:
    return await site.sh("printf 'a\\377b'; exit 1").stdout()


@case
async def not_found(site: Site) -> Answer:
    return await site.base.with_exec(["no-such-program", "arg"]).stdout()


@case
async def not_found_by_path(site: Site) -> Answer:
    return await site.base.with_exec(["/no/such/program"]).stdout()


@case
async def not_executable(site: Site) -> Answer:
    return await site.base.with_new_file("/x", "data").with_exec(["/x"]).stdout()


@case
async def a_directory_is_no_program(site: Site) -> Answer:
    return await site.base.with_exec(["/etc"]).stdout()


@case
async def a_script_without_shebang(site: Site) -> Answer:
    return await site.base.with_new_file("/x", "echo hi", permissions=0o755).with_exec(["/x"]).stdout()


@case
async def a_missing_interpreter(site: Site) -> Answer:
    made = site.base.with_new_file("/x", "#!/no/such\n", permissions=0o755)
    return await made.with_exec(["/x"]).stdout()


@case
async def an_unknown_user(site: Site) -> Answer:
    return await site.base.with_user("nobody-knows").with_exec(["true"]).stdout()


@case
async def an_unknown_group(site: Site) -> Answer:
    return await site.base.with_user("root:nogroup-knows").with_exec(["true"]).stdout()


@case
async def expect_any(site: Site) -> Answer:
    ran = site.sh("echo out; echo err >&2; echo kept > /kept; exit 3", expect=ReturnType.ANY)
    after = ran.with_exec(["cat", "/kept"])
    return [await ran.exit_code(), await ran.stdout(), await ran.stderr(), await after.stdout()]


@case
async def expect_any_codes(site: Site) -> Answer:
    async def code(number: int) -> Answer:
        return await attempt(site.sh(f"exit {number}", expect=ReturnType.ANY).exit_code())

    return [await code(number) for number in (0, 1, 127, 128, 137, 191, 192, 255)]


@case
async def expect_failure_codes(site: Site) -> Answer:
    async def code(number: int) -> Answer:
        return await attempt(site.sh(f"exit {number}", expect=ReturnType.FAILURE).exit_code())

    return [await code(number) for number in (0, 1, 127, 130, 192, 255)]


@case
async def expect_any_of_a_missing_program(site: Site) -> Answer:
    ran = site.base.with_exec(["no-such-program"], expect=ReturnType.ANY)
    return [await attempt(ran.exit_code()), await attempt(ran.stderr())]


@case
async def death_by_signal(site: Site) -> Answer:
    return await site.sh("kill -9 $$", expect=ReturnType.ANY).stdout()


@case
async def death_by_term(site: Site) -> Answer:
    return await site.sh("echo said; kill -15 $$").stdout()


@case
async def redirects_tee(site: Site) -> Answer:
    ran = site.sh("echo o; echo e >&2", redirect_stdout="/tmp/o", redirect_stderr="/tmp/e")
    return [
        await ran.stdout(),
        await ran.stderr(),
        await ran.file("/tmp/o").contents(),
        await ran.file("/tmp/e").contents(),
    ]


@case
async def redirects_are_relative_to_the_workdir(site: Site) -> Answer:
    base = site.base.with_workdir("/tmp")
    ran = base.with_exec(["sh", "-c", "echo o"], redirect_stdout="o")
    return await ran.file("/tmp/o").contents()


@case
async def redirect_into_a_missing_directory(site: Site) -> Answer:
    return await site.sh("echo o", redirect_stdout="/no/such/o").stdout()


@case
async def redirect_into_the_missing_workdir(site: Site) -> Answer:
    base = site.base.with_workdir("/made")
    return await base.with_exec(["echo", "o"], redirect_stdout="o").stdout()


@case
async def redirect_both_to_one_file(site: Site) -> Answer:
    ran = site.sh("echo o; sleep 0.3; echo e >&2", redirect_stdout="/tmp/x", redirect_stderr="/tmp/x")
    return [await attempt(ran.file("/tmp/x").contents()), await attempt(ran.stdout())]


@case
async def redirect_truncates(site: Site) -> Answer:
    base = site.base.with_new_file("/tmp/o", "much longer than what comes")
    return await base.with_exec(["echo", "o"], redirect_stdout="/tmp/o").file("/tmp/o").contents()


@case
async def redirects_of_a_tolerated_failure(site: Site) -> Answer:
    ran = site.sh("echo o; exit 2", redirect_stdout="/tmp/o", expect=ReturnType.ANY)
    return [await ran.exit_code(), await ran.file("/tmp/o").contents()]


@case
async def redirected_file_mode(site: Site) -> Answer:
    ran = site.sh("echo o", redirect_stdout="/tmp/o").with_exec(["stat", "-c", "%a %u:%g", "/tmp/o"])
    return await ran.stdout()


@case
async def redirect_as_a_user(site: Site) -> Answer:
    base = site.base.with_user("app")
    ran = base.with_exec(["echo", "o"], redirect_stdout="/tmp/o")
    return await attempt(ran.with_exec(["stat", "-c", "%a %u:%g", "/tmp/o"]).stdout())


@case
async def stdin(site: Site) -> Answer:
    return await site.base.with_exec(["cat"], stdin="typed\nlines").stdout()


@case
async def stdin_from_a_file(site: Site) -> Answer:
    base = site.base.with_new_file("/in", "from a file")
    return await base.with_exec(["cat"], redirect_stdin="/in").stdout()


@case
async def stdin_from_a_missing_file(site: Site) -> Answer:
    return await site.base.with_exec(["cat"], redirect_stdin="/no").stdout()


@case
async def stdin_twice(site: Site) -> Answer:
    base = site.base.with_new_file("/in", "x")
    return await base.with_exec(["cat"], stdin="y", redirect_stdin="/in").stdout()


@case
async def stdin_is_empty(site: Site) -> Answer:
    return await site.sh("cat; test -t 0 && echo tty || echo none").stdout()


@case
async def expand_arguments(site: Site) -> Answer:
    base = site.base.with_env_variable("A", "1")
    return await base.with_exec(["echo", "$A", "${A}2", "$UNKNOWN.", "$$A", "\\$A"], expand=True).stdout()


@case
async def no_expansion_by_default(site: Site) -> Answer:
    return await site.base.with_env_variable("A", "1").with_exec(["echo", "$A"]).stdout()


@case
async def expand_redirects(site: Site) -> Answer:
    base = site.base.with_env_variable("D", "/tmp").with_new_file("/tmp/in", "in")
    ran = base.with_exec(["cat"], redirect_stdin="$D/in", redirect_stdout="$D/out", expand=True)
    return await ran.file("/tmp/out").contents()


@case
async def user_by_name(site: Site) -> Answer:
    base = site.base.with_user("app")
    return await base.with_exec(["sh", "-c", "id -u; id -g; echo $HOME; pwd"]).stdout()


@case
async def user_by_ids(site: Site) -> Answer:
    base = site.base.with_user("1234:5678")
    return await base.with_exec(["sh", "-c", "id -u; id -g; echo $HOME"]).stdout()


@case
async def user_by_number_alone(site: Site) -> Answer:
    async def ids(name: str) -> str:
        return await site.base.with_user(name).with_exec(["sh", "-c", "id -u; id -g; echo $HOME"]).stdout()

    return [await ids("1000"), await ids("1234"), await ids("app:root"), await ids("0:1000")]


@case
async def environment(site: Site) -> Answer:
    ran = site.base.with_env_variable("A", "a b\nc").with_env_variable("EMPTY", "").with_exec(["env"])
    lines = (await ran.stdout()).splitlines()
    return sorted(line for line in lines if not line.startswith(("OTEL_", "TRACEPARENT", "BAGGAGE")))


@case
async def environment_from_itself(site: Site) -> Answer:
    base = site.base.with_env_variable("PATH", "/opt:$PATH", expand=True).with_env_variable(
        "X", "$NO", expand=True
    )
    return [await base.env_variable("PATH"), await base.env_variable("X")]


@case
async def path_and_home_without_any(site: Site) -> Answer:
    bare = dag.container().with_rootfs(site.base.rootfs())
    return await bare.with_exec(["sh", "-c", "echo $PATH; echo $HOME; pwd; id -u"]).stdout()


@case
async def an_image_home_is_kept(site: Site) -> Answer:
    base = site.base.with_env_variable("HOME", "/mine")
    return await base.with_exec(["sh", "-c", "echo $HOME"]).stdout()


@case
async def workdir_is_made(site: Site) -> Answer:
    ran = site.base.with_workdir("/made/for/it").with_exec(["sh", "-c", "pwd; stat -c '%a %u:%g' . .."])
    return [await ran.stdout(), await ran.exists("/made/for/it")]


@case
async def workdir_of_a_user(site: Site) -> Answer:
    base = site.base.with_user("app").with_workdir("/made/for/it")
    return await base.with_exec(["sh", "-c", "pwd; stat -c '%a %u:%g' . .."]).stdout()


@case
async def workdir_is_a_file(site: Site) -> Answer:
    return await site.base.with_workdir("/etc/passwd").with_exec(["true"]).stdout()


@case
async def umask_and_modes(site: Site) -> Answer:
    return await site.sh("umask; touch /f; mkdir /d; stat -c '%a' /f /d").stdout()


@case
async def host_name_and_hosts(site: Site) -> Answer:
    return await site.sh("hostname; grep -c localhost /etc/hosts | tr 1-9 y").stdout()


@case
async def capabilities(site: Site) -> Answer:
    return await site.sh("grep -E 'Cap(Eff|Bnd|Inh)|NoNewPrivs|Seccomp:' /proc/self/status").stdout()


@case
async def process_one_is_an_init(site: Site) -> Answer:
    return await site.sh("echo $$; tr '\\0' ' ' < /proc/1/cmdline | grep -c 'sh -c'").stdout()


@case
async def no_init(site: Site) -> Answer:
    return await site.sh("echo $$", no_init=True).stdout()


@case
async def what_is_in_dev(site: Site) -> Answer:
    return await site.sh(
        "ls /dev | grep -E '^(null|zero|full|random|urandom|tty|fd|stdin|stdout|shm|pts)$'"
    ).stdout()


@case
async def a_background_process_does_not_hold_it_up(site: Site) -> Answer:
    with anyio.fail_after(30):
        return await site.sh("sleep 60 >/dev/null 2>&1 </dev/null & echo done").stdout()


@case
async def entrypoint_is_not_used_by_default(site: Site) -> Answer:
    return await site.base.with_entrypoint(["echo", "entry"]).with_exec(["echo", "alone"]).stdout()


@case
async def entrypoint_and_arguments(site: Site) -> Answer:
    base = site.base.with_entrypoint(["echo", "entry"]).with_default_args(["default"])
    return [
        await base.with_exec(["given"], use_entrypoint=True).stdout(),
        await base.with_exec([], use_entrypoint=True).stdout(),
    ]


@case
async def default_arguments(site: Site) -> Answer:
    return await site.base.with_default_args(["echo", "default"]).with_exec([]).stdout()


@case
async def no_command_at_all(site: Site) -> Answer:
    return await site.base.without_default_args().with_exec([]).stdout()


@case
async def only_an_entrypoint(site: Site) -> Answer:
    base = site.base.without_default_args().with_entrypoint(["echo", "entry"])
    return [
        await attempt(base.with_exec([]).stdout()),
        await attempt(base.with_exec([], use_entrypoint=True).stdout()),
    ]


@case
async def an_empty_argument(site: Site) -> Answer:
    return [
        await site.base.with_exec(["printf", "%s|", "", "a", ""]).stdout(),
        await attempt(site.base.with_exec([""]).stdout()),
    ]


@case
async def exec_in_an_empty_container(site: Site) -> Answer:
    return await dag.container().with_exec(["true"]).stdout()


@case
async def two_execs_at_once_run_apart(site: Site) -> Answer:
    found: list[str] = []

    async def run(number: int) -> None:
        found.append(
            await site.fresh.with_exec(["sh", "-c", f"echo {number} > /x; sleep 0.2; cat /x"]).stdout()
        )

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(run, number)
    return sorted(found)


@case
async def the_same_exec_at_once_runs_once(site: Site) -> Answer:
    ran = site.fresh.with_exec(["sh", "-c", "sleep 0.3; cat /proc/sys/kernel/random/uuid"])
    found: set[str] = set()

    async def run() -> None:
        found.add(await ran.stdout())

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(run)
    return len(found)
