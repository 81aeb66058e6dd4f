"""The image configuration of a container: what each field changes and reads."""

from __future__ import annotations

import pytest
from dagger import NetworkProtocol, dag

from .case import Answer, Theme
from .checking import test_answers_as_dagger_does  # noqa: F401  # the test of each case below
from .site import Site, attempt

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
THEME = Theme("config")
case = THEME.case


@case
async def of_the_base_image(site: Site) -> Answer:
    base = site.base
    return {
        "env": [[await one.name(), await one.value()] for one in await base.env_variables()],
        "labels": [[await one.name(), await one.value()] for one in await base.labels()],
        "entrypoint": await base.entrypoint(),
        "args": await base.default_args(),
        "user": await base.user(),
        "workdir": await base.workdir(),
        "platform": str(await base.platform()),
        "ports": len(await base.exposed_ports()),
        "mounts": await base.mounts(),
    }


@case
async def of_an_empty_container(site: Site) -> Answer:
    empty = dag.container()
    return {
        "env": len(await empty.env_variables()),
        "entrypoint": await empty.entrypoint(),
        "args": await empty.default_args(),
        "user": await empty.user(),
        "workdir": await empty.workdir(),
        "entries": await empty.rootfs().entries(),
        "mounts": await empty.mounts(),
        "label": await empty.label("no"),
    }


@case
async def env_variables_in_order(site: Site) -> Answer:
    base = dag.container().with_env_variable("B", "1").with_env_variable("A", "2").with_env_variable("B", "3")
    return [[await one.name(), await one.value()] for one in await base.env_variables()]


@case
async def env_variable_away_and_unknown(site: Site) -> Answer:
    base = dag.container().with_env_variable("A", "1").with_env_variable("E", "")
    return [
        await base.env_variable("A"),
        await base.without_env_variable("A").env_variable("A"),
        await base.without_env_variable("NO").env_variable("A"),
        await base.env_variable("E"),
        await base.env_variable("NO"),
        await base.env_variable("a"),
    ]


@case
async def env_variables_with_strange_names(site: Site) -> Answer:
    async def of(name: str, value: str = "v") -> Answer:
        return await attempt(dag.container().with_env_variable(name, value).env_variable(name))

    return [await of(""), await of("a b"), await of("a=b"), await of("A", "x=y"), await of("1")]


@case
async def expansion_of_an_unknown_variable(site: Site) -> Answer:
    base = dag.container().with_env_variable("A", "1")
    return [
        await base.with_env_variable("B", text, expand=True).env_variable("B")
        for text in ("$A", "${A}x", "$NO", "$A$A", "$$", "${}", "${A", "$", "a$", "$1", "$A-b", "\\$A")
    ]


@case
async def labels(site: Site) -> Answer:
    base = site.base.with_label("b", "1").with_label("a", "2").with_label("b", "3").with_label("e", "")
    return [
        sorted([await one.name(), await one.value()] for one in await base.labels()),
        await base.label("b"),
        await base.label("no"),
        await base.without_label("base").label("base"),
        await base.without_label("no").label("b"),
    ]


@case
async def entrypoint_clears_the_arguments(site: Site) -> Answer:
    base = dag.container().with_default_args(["a"]).with_entrypoint(["e"])
    return [await base.entrypoint(), await base.default_args()]


@case
async def entrypoint_keeps_the_arguments(site: Site) -> Answer:
    base = dag.container().with_default_args(["a"])
    kept = base.with_entrypoint(["e"], keep_default_args=True)
    return [
        await kept.default_args(),
        await kept.without_entrypoint().default_args(),
        await kept.without_entrypoint(keep_default_args=True).default_args(),
        await kept.without_entrypoint().entrypoint(),
        await kept.without_default_args().default_args(),
    ]


@case
async def empty_entrypoint_and_arguments(site: Site) -> Answer:
    base = dag.container().with_entrypoint([]).with_default_args([])
    return [await base.entrypoint(), await base.default_args()]


@case
async def user(site: Site) -> Answer:
    base = dag.container().with_user("app")
    return [
        await base.user(),
        await base.without_user().user(),
        await base.with_user("1:2").user(),
        await attempt(base.with_user("").user()),
    ]


@case
async def workdir(site: Site) -> Answer:
    base = dag.container().with_workdir("/a")
    return [
        await base.workdir(),
        await base.with_workdir("b").workdir(),
        await base.with_workdir("../c/./d/").workdir(),
        await base.without_workdir().workdir(),
        await base.with_workdir("/").workdir(),
        await base.with_workdir("").workdir(),
        await base.with_env_variable("D", "x").with_workdir("/$D", expand=True).workdir(),
        await base.with_env_variable("D", "x").with_workdir("/$D").workdir(),
    ]


@case
async def ports(site: Site) -> Answer:
    base = (
        dag.container()
        .with_exposed_port(8080, description="web")
        .with_exposed_port(53, protocol=NetworkProtocol.UDP)
        .with_exposed_port(53, experimental_skip_healthcheck=True)
        .with_exposed_port(8080, description="again")
    )

    async def of(container: object) -> Answer:
        return sorted(
            [
                [
                    await one.port(),
                    (await one.protocol()).value,
                    await one.description(),
                    await one.experimental_skip_healthcheck(),
                ]
                for one in await container.exposed_ports()  # type: ignore[attr-defined]  # a container
            ],
            key=str,
        )

    return [
        await of(base),
        await of(base.without_exposed_port(53)),
        await of(base.without_exposed_port(53, protocol=NetworkProtocol.UDP)),
        await of(base.without_exposed_port(1)),
    ]


@case
async def ports_that_are_none(site: Site) -> Answer:
    return [
        await attempt(dag.container().with_exposed_port(number).workdir()) for number in (0, 65535, 65536, -1)
    ]


@case
async def docker_healthcheck(site: Site) -> Answer:
    base = dag.container().with_docker_healthcheck(["test", "-f", "/x"], interval="5s", retries=3)
    check = base.docker_healthcheck()
    return {
        "args": await check.args(),
        "shell": await check.shell(),
        "interval": await check.interval(),
        "timeout": await check.timeout(),
        "start_period": await check.start_period(),
        "start_interval": await check.start_interval(),
        "retries": await check.retries(),
    }


@case
async def docker_healthcheck_in_a_shell(site: Site) -> Answer:
    base = dag.container().with_docker_healthcheck(["exit 0"], shell=True, timeout="1m30s", start_period="2s")
    check = base.docker_healthcheck()
    return [await check.args(), await check.shell(), await check.timeout(), await check.start_period()]


@case
async def docker_healthcheck_none(site: Site) -> Answer:
    document = """{ container { withDockerHealthcheck(args: ["true"]) { withoutDockerHealthcheck {
        dockerHealthcheck { args } } } } }"""
    return [await site.ask("{ container { dockerHealthcheck { args } } }"), await site.ask(document)]


@case
async def docker_healthcheck_with_a_bad_duration(site: Site) -> Answer:
    return await attempt(dag.container().with_docker_healthcheck(["true"], interval="soon").workdir())


@case
async def image_ref(site: Site) -> Answer:
    return [
        await site.base.image_ref(),
        await attempt(site.base.with_label("a", "b").image_ref()),
        await attempt(dag.container().image_ref()),
    ]


@case
async def from_after_other_changes(site: Site) -> Answer:
    base = (
        dag.container()
        .with_env_variable("A", "1")
        .with_env_variable("BASE", "mine")
        .with_label("l", "1")
        .with_label("base", "mine")
        .with_workdir("/before")
        .with_user("app")
        .with_exposed_port(80)
        .with_entrypoint(["e"])
        .with_default_args(["d"])
        .with_mounted_temp("/t")
        .with_new_file("/kept", "x")
        .from_(site.home.address)
    )
    return {
        "env": [await base.env_variable(name) for name in ("A", "BASE", "PATH")],
        "label": [await base.label(name) for name in ("l", "base")],
        "workdir": await base.workdir(),
        "user": await base.user(),
        "ports": len(await base.exposed_ports()),
        "entrypoint": await base.entrypoint(),
        "args": await base.default_args(),
        "mounts": await base.mounts(),
        "file": await base.exists("/kept"),
    }


@case
async def from_missing_tag(site: Site) -> Answer:
    error = await attempt(dag.container().from_(f"{site.home.registry}/tiny:no").sync())
    return [error["error"], error["path"]]


@case
async def from_a_registry_that_is_not(site: Site) -> Answer:
    error = await attempt(dag.container().from_("127.0.0.1:1/tiny:1").sync())
    return [error["error"], error["path"]]


@case
async def from_a_digest_and_a_tag(site: Site) -> Answer:
    digest = (await site.base.image_ref()).partition("@")[2]
    return await dag.container().from_(f"{site.home.address}@{digest}").image_ref()


@case
async def platform_of_a_single_platform_image(site: Site) -> Answer:
    import dagger

    base = dag.container(platform=dagger.Platform("linux/arm64"))
    return [str(await base.platform()), str(await base.from_(site.home.address).platform())]


@case
async def rootfs_replaced_keeps_the_config(site: Site) -> Answer:
    base = site.base.with_env_variable("A", "1").with_rootfs(dag.directory().with_new_file("x", "y"))
    return [await base.env_variable("A"), await base.rootfs().entries(), await base.file("/x").contents()]


@case
async def annotations_do_not_show_as_labels(site: Site) -> Answer:
    base = dag.container().with_annotation("a", "1").with_label("l", "2").without_annotation("no")
    return [[await one.name(), await one.value()] for one in await base.labels()]
