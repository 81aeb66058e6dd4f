"""Files in a container, mounts over them, and what of both is in its file system afterwards."""

from __future__ import annotations

import pytest
from dagger import dag

from .case import Answer, Theme
from .checking import test_answers_as_dagger_does  # noqa: F401  # the test of each case below
from .site import Site, attempt

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
THEME = Theme("container_files")
case = THEME.case
LOOK = "cd /w && find . -exec stat -c '%n %a %u:%g %F' {} + | sort"


@case
async def copied_in_with_modes_and_owners(site: Site) -> Answer:
    source = (
        dag.directory()
        .with_new_file("x/f", "1", permissions=0o640)
        .with_new_directory("e", permissions=0o700)
    )
    made = (
        site.base.with_directory("/w", source)
        .with_directory("/w/app", source, owner="app")
        .with_directory("/w/ids", source, owner="12:34")
        .with_directory("/w/id", source, owner="12")
        .with_file("/w/file", source.file("x/f"))
        .with_file("/w/owned", source.file("x/f"), owner="app:root", permissions=0o600)
        .with_new_file("/w/new", "2", owner="app")
        .with_new_file("/w/made/for/it", "3", permissions=0o755)
        .with_files("/w/files", [source.file("x/f")], owner="app", permissions=0o444)
        .with_symlink("f", "/w/x/link")
    )
    return await made.with_exec(["sh", "-c", LOOK]).stdout()


@case
async def copied_in_as_a_user(site: Site) -> Answer:
    made = (
        site.base.with_user("app")
        .with_directory("/w/d", dag.directory().with_new_file("f", "1"))
        .with_new_file("/w/n", "2")
    )
    return await made.with_exec(["sh", "-c", LOOK]).stdout()


@case
async def with_directory_permissions(site: Site) -> Answer:
    source = dag.directory().with_new_file("f", "1").with_new_file("d/g", "1")
    made = site.base.with_directory("/w", source, permissions=0o750)
    return await attempt(made.with_exec(["sh", "-c", LOOK]).stdout())


@case
async def an_unknown_owner(site: Site) -> Answer:
    source = dag.directory().with_new_file("f", "1")
    return [
        await attempt(site.base.with_directory("/w", source, owner="nobody-knows").sync()),
        await attempt(site.base.with_new_file("/w", "x", owner="nobody-knows").sync()),
        await attempt(site.base.with_new_file("/w", "x", owner="app:nogroup-knows").sync()),
        await attempt(site.base.with_new_file("/w", "x", owner=":").sync()),
    ]


@case
async def paths_follow_the_workdir(site: Site) -> Answer:
    base = dag.container().with_workdir("/w").with_env_variable("D", "sub")
    made = (
        base.with_new_file("f", "1")
        .with_directory("d", dag.directory().with_new_file("x", "2"))
        .with_new_file("$D/g", "3", expand=True)
        .with_new_file("$D/h", "4")
        .with_new_file("../up", "5")
        .with_file("into/", dag.file("named", "6"))
    )
    return await made.rootfs().glob("**")


@case
async def a_directory_over_a_file(site: Site) -> Answer:
    source = dag.directory().with_new_file("x", "1")
    return [
        await attempt(
            dag.container().with_new_file("/w", "f").with_directory("/w", source).rootfs().glob("**")
        ),
        await attempt(
            dag.container().with_directory("/w", source).with_new_file("/w", "f").rootfs().glob("**")
        ),
        await attempt(
            dag.container()
            .with_directory("/w", source)
            .with_file("/w", dag.file("n", "f"))
            .rootfs()
            .glob("**")
        ),
    ]


@case
async def through_links(site: Site) -> Answer:
    base = (
        dag.container()
        .with_new_file("/real/x", "1")
        .with_symlink("/real", "/link")
        .with_symlink("real/x", "/f")
    )
    made = base.with_new_file("/link/y", "2").with_directory(
        "/link/d", dag.directory().with_new_file("z", "3")
    )
    return [
        await made.rootfs().glob("**"),
        await made.file("/link/y").contents(),
        await made.directory("/link").entries(),
        await made.file("/f").contents(),
        await made.with_new_file("/f", "new").rootfs().glob("**"),
        await attempt(made.with_new_file("/f", "new").file("/real/x").contents()),
    ]


@case
async def without(site: Site) -> Answer:
    base = dag.container().with_directory(
        "/", dag.directory().with_new_file("a/x", "").with_new_file("a/y", "").with_new_file("b", "")
    )
    return {
        "file": await base.without_file("/a/x").rootfs().glob("**"),
        "directory": await base.without_directory("/a").rootfs().glob("**"),
        "files": await base.without_files(["/a/x", "b", "/no"]).rootfs().glob("**"),
        "missing": await base.without_file("/no/such").rootfs().glob("**"),
        "directory as file": await attempt(base.without_file("/a").rootfs().glob("**")),
        "file as directory": await attempt(base.without_directory("/b").rootfs().glob("**")),
        "pattern": await attempt(base.without_file("/a/*").rootfs().glob("**")),
        "relative": await base.with_workdir("/a").without_file("x").rootfs().glob("**"),
    }


@case
async def exists_and_stat(site: Site) -> Answer:
    base = site.base.with_workdir("/etc")
    return [
        await base.exists("passwd"),
        await base.exists("/etc"),
        await base.exists("/no"),
        await base.exists("$HOME/x", expand=True),
        await base.stat("/etc/passwd").name(),
        await base.stat("/bin").name(),
        (await base.stat("/bin", do_not_follow_symlinks=True).file_type()).value,
        (await base.stat("/bin").file_type()).value,
        await attempt(base.stat("/no").name()),
    ]


@case
async def reading_what_is_not_there(site: Site) -> Answer:
    return [
        await attempt(site.base.file("/no").contents()),
        await attempt(site.base.directory("/no").entries()),
        await attempt(site.base.directory("/etc/passwd").entries()),
        await attempt(site.base.file("/etc").contents()),
    ]


@case
async def an_exec_between(site: Site) -> Answer:
    made = site.base.with_new_file("/w/a", "1").with_exec(
        ["sh", "-c", "echo 2 >> /w/a; rm /etc/group; echo 3 > /w/b"]
    )
    return [
        await made.file("/w/a").contents(),
        await made.directory("/w").entries(),
        await made.exists("/etc/group"),
        await made.rootfs().directory("w").entries(),
    ]


@case
async def diff_of_an_exec(site: Site) -> Answer:
    made = site.sh("echo 1 > /new; mkdir -p /d/e; echo 2 > /d/e/f; echo app2 >> /etc/group; rm /etc/passwd")
    return await site.base.rootfs().diff(made.rootfs()).glob("**")


@case
async def a_mounted_directory(site: Site) -> Answer:
    source = dag.directory().with_new_file("x", "1")
    mounted = site.base.with_mounted_directory("/m", source)
    ran = mounted.with_exec(["sh", "-c", "cat /m/x; echo 2 >> /m/x; mkdir /m/d; ls /m"])
    return [
        await ran.stdout(),
        await ran.file("/m/x").contents(),
        await ran.directory("/m").entries(),
        await ran.with_exec(["cat", "/m/x"]).stdout(),
        await mounted.with_exec(["cat", "/m/x"]).stdout(),
        await ran.exists("/m/d"),
        await ran.rootfs().exists("m"),
        await ran.mounts(),
        await ran.without_mount("/m").exists("/m"),
    ]


@case
async def a_read_only_mount(site: Site) -> Answer:
    source = dag.directory().with_new_file("x", "1")
    mounted = site.base.with_mounted_directory("/m", source, read_only=True)
    return await attempt(
        mounted.with_exec(["sh", "-c", "cat /m/x; touch /m/y 2>/dev/null || echo refused"]).stdout()
    )


@case
async def a_mounted_file(site: Site) -> Answer:
    ran = site.base.with_mounted_file("/m/f", dag.file("x", "1")).with_exec(
        ["sh", "-c", "echo 2 >> /m/f; ls /m"]
    )
    return [await ran.stdout(), await attempt(ran.file("/m/f").contents()), await ran.mounts()]


@case
async def mounts_with_owners(site: Site) -> Answer:
    source = dag.directory().with_new_file("f", "1", permissions=0o600)
    made = (
        site.base.with_mounted_directory("/w/d", source, owner="app")
        .with_mounted_file("/w/f", dag.file("x", "1", permissions=0o640), owner="12:34")
        .with_mounted_cache("/w/c", dag.cache_volume(f"owners-{site.nonce}"), owner="app")
        .with_mounted_temp("/w/t")
    )
    return await made.with_exec(["sh", "-c", LOOK]).stdout()


@case
async def mounts_over_mounts(site: Site) -> Answer:
    made = (
        site.base.with_mounted_directory("/m", dag.directory().with_new_file("outer", "1"))
        .with_mounted_directory("/m/sub", dag.directory().with_new_file("inner", "2"))
        .with_exec(["sh", "-c", "find /m | sort"])
    )
    return [
        await made.stdout(),
        await made.directory("/m").entries(),
        await made.directory("/m/sub").entries(),
        await made.mounts(),
    ]


@case
async def a_mount_replaced(site: Site) -> Answer:
    first, second = dag.directory().with_new_file("a", "1"), dag.directory().with_new_file("b", "2")
    made = site.base.with_mounted_directory("/m", first).with_mounted_directory("/m", second)
    return [
        await made.directory("/m").entries(),
        await made.mounts(),
        await made.without_mount("/no").mounts(),
    ]


@case
async def mounts_in_order(site: Site) -> Answer:
    empty = dag.directory()
    made = (
        site.base.with_mounted_directory("/b", empty)
        .with_mounted_directory("/a", empty)
        .with_mounted_temp("/c")
    )
    return [await made.mounts(), await made.with_mounted_directory("/b", empty).mounts()]


@case
async def written_into_a_mount_by_the_api(site: Site) -> Answer:
    made = site.base.with_mounted_directory("/m", dag.directory().with_new_file("a", "1"))
    written = made.with_new_file("/m/b", "2").with_directory("/m/c", dag.directory().with_new_file("d", "3"))
    return [
        await attempt(written.directory("/m").glob("**")),
        await attempt(made.without_file("/m/a").directory("/m").entries()),
    ]


@case
async def a_temporary_directory(site: Site) -> Answer:
    mounted = site.base.with_mounted_temp("/t", size=1 << 20)
    ran = mounted.with_exec(
        ["sh", "-c", "touch /t/x; stat -c '%a %u:%g' /t; grep -c ' /t tmpfs' /proc/mounts"]
    )
    after = ran.with_exec(["ls", "/t"])
    return [await ran.stdout(), await after.stdout(), await attempt(ran.directory("/t").entries())]


@case
async def mount_points_do_not_stay(site: Site) -> Answer:
    made = (
        site.base.with_mounted_directory("/one/two", dag.directory())
        .with_mounted_temp("/three")
        .with_mounted_cache("/four", dag.cache_volume(f"points-{site.nonce}"))
        .with_mounted_secret("/five/six", dag.set_secret("points", "secret-value"))
        .with_exec(["true"])
    )
    entries = await made.rootfs().entries()
    return sorted({"one/", "three/", "four/", "five/"} & set(entries))


@case
async def rootfs_of_a_directory_runs(site: Site) -> Answer:
    base = dag.container().with_rootfs(site.base.rootfs().with_new_file("added", "1"))
    return await base.with_exec(["cat", "/added"]).stdout()


@case
async def ownership_through_a_directory(site: Site) -> Answer:
    owned = site.base.with_new_file("/w/f", "x", owner="app").directory("/w")
    chowned = dag.directory().with_new_file("f", "1").with_new_file("d/g", "2").chown("/", "12:34")
    made = site.base.with_directory("/w/kept", owned).with_directory("/w/chowned", chowned)
    return await attempt(made.with_exec(["sh", "-c", LOOK]).stdout())


@case
async def chown_of_a_part(site: Site) -> Answer:
    made = dag.directory().with_new_file("a", "1").with_new_file("d/g", "2").chown("d", "7")
    file = dag.file("f", "x").chown("3:4")
    base = site.base.with_directory("/w", made).with_file("/w/f", file)
    return [
        await attempt(base.with_exec(["sh", "-c", LOOK]).stdout()),
        await attempt(made.chown("no", "1").sync()),
        await attempt(made.chown("a", "name").sync()),
    ]


@case
async def timestamps(site: Site) -> Answer:
    made = dag.directory().with_new_file("d/f", "1").with_timestamps(1_000_000_000)
    base = site.base.with_directory("/w", made).with_file("/w/g", dag.file("g", "x").with_timestamps(5))
    return await base.with_exec(["sh", "-c", "stat -c '%n %Y' /w/d /w/d/f /w/g"]).stdout()


@case
async def links_and_modes_survive_a_copy(site: Site) -> Answer:
    made = site.sh("mkdir /w; cd /w; echo x > f; chmod 4755 f; ln -s f l; ln f h; mkdir -m 1777 t")
    copied = site.base.with_directory("/w", made.directory("/w"))
    return await copied.with_exec(["sh", "-c", LOOK]).stdout()
