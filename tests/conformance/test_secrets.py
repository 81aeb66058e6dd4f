"""Secrets: where they come from, who sees them, where they are not; cache volumes, and what is cached."""

from __future__ import annotations

import pytest
from dagger import CacheSharingMode, ReturnType, dag

from .case import Answer, Theme
from .checking import test_answers_as_dagger_does  # noqa: F401  # the test of each case below
from .site import Site, attempt

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
THEME = Theme("secrets")
case = THEME.case
UUID = ["cat", "/proc/sys/kernel/random/uuid"]


@case
async def seen_and_masked(site: Site) -> Answer:
    secret = dag.set_secret("seen", "s3cret-value")
    ran = (
        site.base.with_secret_variable("TOKEN", secret)
        .with_mounted_secret("/run/t", secret)
        .with_exec(["sh", "-c", "echo $TOKEN; cat /run/t >&2; stat -c '%a %u:%g' /run/t; echo ${#TOKEN}"])
    )
    return [await ran.stdout(), await ran.stderr()]


@case
async def masked_in_an_error(site: Site) -> Answer:
    secret = dag.set_secret("error", "s3cret-value")
    ran = site.base.with_secret_variable("TOKEN", secret)
    return await ran.with_exec(["sh", "-c", "echo out $TOKEN; echo err $TOKEN >&2; exit 3"]).stdout()


@case
async def not_in_the_configuration(site: Site) -> Answer:
    ran = site.base.with_secret_variable("TOKEN", dag.set_secret("config", "s3cret-value"))
    return [
        await ran.env_variable("TOKEN"),
        [await one.name() for one in await ran.env_variables()],
    ]


@case
async def not_in_the_files(site: Site) -> Answer:
    secret = dag.set_secret("files", "s3cret-value")
    ran = site.base.with_mounted_secret("/run/a/t", secret).with_exec(["true"])
    after = ran.without_mount("/run/a/t")
    return [
        await ran.rootfs().exists("run/a/t"),
        await after.exists("/run/a/t"),
        await ran.mounts(),
        await attempt(ran.file("/run/a/t").contents()),
        await attempt(ran.exists("/run/a/t")),
    ]


@case
async def owners_and_modes(site: Site) -> Answer:
    secret = dag.set_secret("owners", "s3cret-value")
    base = site.base.with_mounted_secret("/a", secret, owner="app", mode=0o440).with_mounted_secret(
        "/b", secret, owner="12:34"
    )
    return await base.with_exec(["stat", "-c", "%n %a %u:%g", "/a", "/b"]).stdout()


@case
async def only_masked_where_it_is_known(site: Site) -> Answer:
    secret = dag.set_secret("elsewhere", "s3cret-elsewhere")
    await site.base.with_secret_variable("T", secret).with_exec(["true"]).sync()
    return await site.base.with_exec(["echo", "s3cret-elsewhere"]).stdout()


@case
async def lines_of_a_long_secret(site: Site) -> Answer:
    secret = dag.set_secret("lines", "first-line\nsecond-line\n")
    ran = site.base.with_mounted_secret("/t", secret)
    return await ran.with_exec(["sh", "-c", "cat /t; echo; head -1 /t"]).stdout()


@case
async def removed_again(site: Site) -> Answer:
    secret = dag.set_secret("removed", "s3cret-value")
    ran = site.base.with_secret_variable("T", secret).without_secret_variable("T")
    return await ran.with_exec(["sh", "-c", "echo [$T]"]).stdout()


@case
async def over_a_plain_variable(site: Site) -> Answer:
    secret = dag.set_secret("over", "s3cret-value")
    show = ["sh", "-c", "echo ${#T}"]
    return [
        await site.base.with_env_variable("T", "plain")
        .with_secret_variable("T", secret)
        .with_exec(show)
        .stdout(),
        await site.base.with_secret_variable("T", secret)
        .with_env_variable("T", "plain")
        .with_exec(show)
        .stdout(),
    ]


@case
async def a_missing_program_with_a_secret(site: Site) -> Answer:
    secret = dag.set_secret("missing", "s3cret-value")
    return await site.base.with_secret_variable("T", secret).with_exec(["no-such-program"]).stdout()


@case
async def arguments_with_a_secret(site: Site) -> Answer:
    secret = dag.set_secret("arguments", "s3cret-value")
    base = site.base.with_secret_variable("T", secret).with_user("app")
    return await base.with_exec(["printf", "%s|", "a b", "", "$T", "'"]).stdout()


@case
async def plaintext_and_names(site: Site) -> Answer:
    secret = dag.set_secret("a name", "väl\nue")
    return [await secret.plaintext(), await secret.name(), await secret.uri()]


@case
async def set_again(site: Site) -> Answer:
    first = dag.set_secret("again", "one-value")
    before = await first.plaintext()
    second = dag.set_secret("again", "two-value")
    return [before, await second.plaintext(), await attempt(first.plaintext())]


@case
async def from_the_environment(site: Site) -> Answer:
    secret = dag.secret("env://CONFORMANCE_TOKEN")
    return [
        await secret.plaintext(),
        await attempt(secret.name()),
        await secret.uri(),
        await dag.secret("env://CONFORMANCE_LINES").plaintext(),
    ]


@case
async def from_a_file(site: Site) -> Answer:
    path = site.write({"token": " of a file\n"})
    return [
        await dag.secret(f"file://{path}/token").plaintext(),
        await dag.secret(f"file://{site.workdir}/{path}/token").plaintext(),
    ]


@case
async def from_a_command(site: Site) -> Answer:
    return await dag.secret("cmd://echo made by $((1+1))").plaintext()


@case
async def that_are_not_there(site: Site) -> Answer:
    return [
        await attempt(dag.secret("env://NO_SUCH_VARIABLE").plaintext()),
        await attempt(dag.secret("file://no/such").plaintext()),
        await attempt(dag.secret("cmd://exit 3").plaintext()),
        await attempt(dag.secret("nonsense://x").plaintext()),
        await attempt(dag.secret("no-scheme").plaintext()),
    ]


@case
async def a_missing_one_in_an_exec(site: Site) -> Answer:
    ran = site.base.with_secret_variable("T", dag.secret("env://NO_SUCH_VARIABLE")).with_exec(["true"])
    return await attempt(ran.stdout())


@case
async def a_value_is_no_cache_key(site: Site) -> Answer:
    async def run(value: str, name: str) -> str:
        secret = dag.set_secret(name, value)
        return await site.fresh.with_secret_variable("T", secret).with_exec(UUID).stdout()

    first = await run("value-one", "key")
    return [first == await run("value-two", "key"), first == await run("value-one", "other key")]


@case
async def a_value_by_uri_is_a_cache_key(site: Site) -> Answer:
    path = site.write({"token": "value-one"})

    async def run(**options: str) -> str:
        secret = dag.secret(f"file://{path}/token", **options)
        return await site.fresh.with_secret_variable("T", secret).with_exec(UUID).stdout()

    first, keyed = await run(), await run(cache_key="fixed")
    again = await run()
    (site.workdir / path / "token").write_text("value-two")
    return [first == again, first == await run(), keyed == await run(cache_key="fixed")]


@case
async def an_exec_is_cached(site: Site) -> Answer:
    ran = site.fresh.with_exec(UUID)
    return await ran.stdout() == await ran.stdout()


@case
async def what_makes_an_exec_new(site: Site) -> Answer:
    first = await site.fresh.with_exec(UUID).stdout()
    fresh = site.fresh
    return {
        "env": first == await fresh.with_env_variable("X", "1").with_exec(UUID).stdout(),
        "workdir": first == await fresh.with_workdir("/tmp").with_exec(UUID).stdout(),
        "user": first == await fresh.with_user("app").with_exec(UUID).stdout(),
        "file": first == await fresh.with_new_file("/x", "1").with_exec(UUID).stdout(),
        "arguments": first == await fresh.with_exec([*UUID, "/etc/passwd"]).stdout(),
        "stdin": first == await fresh.with_exec(UUID, stdin="x").stdout(),
        "expect": first == await fresh.with_exec(UUID, expect=ReturnType.ANY).stdout(),
        "mount": first == await fresh.with_mounted_temp("/t").with_exec(UUID).stdout(),
    }


@case
async def what_makes_an_exec_new_in_dagger_only(site: Site) -> Answer:
    first = await site.fresh.with_exec(UUID).stdout()
    fresh = site.fresh
    return {
        "label": first == await fresh.with_label("x", "1").with_exec(UUID).stdout(),
        "port": first == await fresh.with_exposed_port(80).with_exec(UUID).stdout(),
        "annotation": first == await fresh.with_annotation("x", "1").with_exec(UUID).stdout(),
        "entrypoint": first == await fresh.with_entrypoint(["x"]).with_exec(UUID).stdout(),
    }


@case
async def volatile_variables(site: Site) -> Answer:
    def ran(value: str, name: str = "URL") -> object:
        return site.fresh.with_volatile_variable(name, value).with_exec(
            ["sh", "-c", f"cat {UUID[1]}; echo $URL"]
        )

    first = await ran("one").stdout()  # type: ignore[attr-defined]  # a container
    return [
        first.splitlines()[1],
        first == await ran("two").stdout(),  # type: ignore[attr-defined]  # a container
        first == await ran("one", "OTHER").stdout(),  # type: ignore[attr-defined]  # a container
        await site.base.with_volatile_variable("V", "1").env_variable("V"),
        await site.base.with_volatile_variable("V", "1")
        .without_volatile_variable("V")
        .with_exec(["sh", "-c", "echo [$V]"])
        .stdout(),
    ]


@case
async def a_failure_is_not_cached(site: Site) -> Answer:
    volume = dag.cache_volume(f"failures-{site.nonce}")
    script = "echo x >> /c/runs; grep -c x /c/runs; exit 1"
    ran = site.fresh.with_mounted_cache("/c", volume).with_exec(["sh", "-c", script])
    return [(await attempt(ran.stdout()))["stdout"] for _ in range(2)]


@case
async def a_tolerated_failure_is_cached(site: Site) -> Answer:
    volume = dag.cache_volume(f"tolerated-{site.nonce}")
    script = "echo x >> /c/runs; grep -c x /c/runs; exit 1"
    ran = site.fresh.with_mounted_cache("/c", volume).with_exec(["sh", "-c", script], expect=ReturnType.ANY)
    return [await ran.stdout(), await ran.stdout()]


@case
async def a_volume_keeps_by_key(site: Site) -> Answer:
    def ran(key: str, script: str, **options: CacheSharingMode) -> object:
        volume = dag.cache_volume(f"{key}-{site.nonce}", **options)
        return site.fresh.with_mounted_cache("/c", volume).with_exec(["sh", "-c", script]).stdout()

    await ran("a", "echo 1 > /c/x")  # type: ignore[misc]  # an awaitable
    return [
        await ran("a", "ls /c"),  # type: ignore[misc]  # an awaitable
        await ran("b", "ls /c"),  # type: ignore[misc]  # an awaitable
        await ran("a", "ls /c # locked", sharing=CacheSharingMode.LOCKED),  # type: ignore[misc]  # an awaitable
    ]


@case
async def a_volume_with_a_source_and_an_owner(site: Site) -> Answer:
    seed = dag.directory().with_new_file("seed", "1")
    volume = dag.cache_volume(f"seeded-{site.nonce}", source=seed, owner="12:34")
    base = site.base.with_mounted_cache("/c", volume)
    show = "stat -c '%n %a %u:%g' /c /c/*"
    return [
        await base.with_exec(["sh", "-c", show + "; echo 2 > /c/more"]).stdout(),
        await base.with_exec(["sh", "-c", show]).stdout(),
    ]


@case
async def a_volume_cannot_be_read_back(site: Site) -> Answer:
    base = site.base.with_mounted_cache("/c", dag.cache_volume(f"back-{site.nonce}"))
    return [
        await attempt(base.directory("/c").entries()),
        await attempt(base.file("/c/x").contents()),
        await base.mounts(),
        await attempt(base.exists("/c/x")),
    ]


@case
async def registry_auth_does_not_show(site: Site) -> Answer:
    secret = dag.set_secret("login", "s3cret-value")
    base = site.base.with_registry_auth("example.com", "me", secret)
    return [
        await base.mounts(),
        len(await base.env_variables()),
        await base.without_registry_auth("example.com").user(),
    ]
