"""Container fields that run commands or tell how the last one ended."""

from __future__ import annotations

from embedded_engine.evaluator import gathered
from embedded_engine.image_config import ImageConfig
from embedded_engine.op_exec import Exec, Expect, after_exec
from embedded_engine.operations import Outcome
from embedded_engine.resolvers.registry import ApiError, Call, Fields
from embedded_engine.values import Container, DirectoryMount, Service

fields = Fields()


@fields("Container.withExec")
def with_exec(
    _: Call,
    container: Container,
    *,
    args: list[str],
    use_entrypoint: bool,
    stdin: str,
    redirect_stdin: str,
    redirect_stdout: str,
    redirect_stderr: str,
    expect: Expect,
    expand: bool,
    experimental_privileged_nesting: bool,
    insecure_root_capabilities: bool,
    no_init: bool,
) -> Container:
    """Plan a command; it runs when its outputs or file system are needed."""
    refuse_privileges("Container.withExec", experimental_privileged_nesting, insecure_root_capabilities)
    if stdin and redirect_stdin:
        raise ApiError("cannot set both stdin and redirectStdin")
    command = command_of(container.config, args, use_entrypoint=use_entrypoint, expand=expand)
    expanded = container.config.expanded if expand else str
    operation = Exec(
        container=container,
        args=command,
        stdin=stdin,
        redirect_stdin=expanded(redirect_stdin),
        redirect_stdout=expanded(redirect_stdout),
        redirect_stderr=expanded(redirect_stderr),
        expect=expect,
        init=not no_init,
    )
    return after_exec(container, operation)


def refuse_privileges(field: str, nesting: bool, capabilities: bool) -> None:
    """Raises ApiError for arguments only Dagger's engine serves."""
    for asked, name in (
        (nesting, "experimentalPrivilegedNesting"),
        (capabilities, "insecureRootCapabilities"),
    ):
        if asked:
            raise ApiError(
                f"{field}({name}: true) is not supported by the embedded engine: needs Dagger's engine"
            )


def command_of(
    config: ImageConfig, args: list[str], *, use_entrypoint: bool, expand: bool
) -> tuple[str, ...]:
    """``args``, or the default ones if there are none; after the entrypoint if that is wanted."""
    given = tuple(config.expanded(arg) for arg in args) if expand else tuple(args)
    command = given or config.default_args
    return (*config.entrypoint, *command) if use_entrypoint else command


async def last_outcome(call: Call, container: Container) -> Outcome:
    """How the last exec ended. Raises ApiError if there is none; defaults are not run."""
    if container.last_exec is None:
        raise ApiError("no command has been set")
    return await call.session.evaluator.result(container.last_exec)


@fields("Container.stdout")
async def stdout(call: Call, container: Container) -> str:
    """The last exec's stdout; bytes that are no UTF-8 become U+FFFD."""
    return (await last_outcome(call, container)).stdout.decode("utf-8", "replace")


@fields("Container.stderr")
async def stderr(call: Call, container: Container) -> str:
    """The last exec's stderr."""
    return (await last_outcome(call, container)).stderr.decode("utf-8", "replace")


@fields("Container.combinedOutput")
async def combined_output(call: Call, container: Container) -> str:
    """Both outputs, as they came."""
    return (await last_outcome(call, container)).combined.decode("utf-8", "replace")


@fields("Container.exitCode")
async def exit_code(call: Call, container: Container) -> int:
    """The last exec's exit code."""
    return (await last_outcome(call, container)).exit_code


@fields("Container.sync")
async def sync(call: Call, container: Container) -> str:
    """Evaluate everything the container stands on, mounts too."""
    sources = [mount.source.source for mount in container.mounts if isinstance(mount, DirectoryMount)]
    needs = {one.digest: one for one in (container.rootfs, *sources) if one is not None}
    evaluator = call.session.evaluator
    await gathered([lambda one=one: evaluator.result(one) for one in needs.values()])  # type: ignore[misc]  # bound early
    return call.session.objects.put(container)


@fields("Container.asService")
def as_service(
    _: Call,
    container: Container,
    *,
    args: list[str],
    use_entrypoint: bool,
    expand: bool,
    experimental_privileged_nesting: bool,
    insecure_root_capabilities: bool,
    no_init: bool,
) -> Service:
    """The container as a service; it starts when it is first needed."""
    refuse_privileges("Container.asService", experimental_privileged_nesting, insecure_root_capabilities)
    command = command_of(container.config, args, use_entrypoint=use_entrypoint, expand=expand)
    if not command:
        raise ApiError("no service command has been set")
    return Service(container=container, args=command, init=not no_init)


@fields("Container.withServiceBinding")
def with_service_binding(call: Call, container: Container, *, alias: str, service: str) -> Container:
    """Execs that follow reach ``service`` as ``alias``; it runs while they do."""
    bound = call.session.objects.get(Service, service)
    if bound.target is not None:
        raise ApiError("a tunnel can't be bound: bind the service that it leads to")
    others = tuple(pair for pair in container.services if pair[0] != alias)
    return container.having(services=(*others, (alias, bound)))
