"""Container fields that only change or read the image's configuration: two tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from embedded_engine.elements import EnvVariable, HealthcheckConfig, Label, Port
from embedded_engine.image_config import ImageConfig, parse_duration, with_pair, without_pair
from embedded_engine.resolvers.registry import ApiError, Call, Fields
from embedded_engine.values import Container, Secret

fields = Fields()
Change = Callable[..., ImageConfig]


def _with_env(config: ImageConfig, *, name: str, value: str, expand: bool) -> ImageConfig:
    return config.having(env=with_pair(config.env, name, config.expanded(value) if expand else value))


def _with_entrypoint(config: ImageConfig, *, args: list[str], keep_default_args: bool) -> ImageConfig:
    return config.having(
        entrypoint=tuple(args), default_args=config.default_args if keep_default_args else ()
    )


def _without_entrypoint(config: ImageConfig, *, keep_default_args: bool) -> ImageConfig:
    return _with_entrypoint(config, args=[], keep_default_args=keep_default_args)


def _with_workdir(config: ImageConfig, *, path: str, expand: bool) -> ImageConfig:
    return config.having(workdir=config.path(config.expanded(path) if expand else path))


def _with_port(
    config: ImageConfig,
    *,
    port: int,
    protocol: Any,  # one of the enum's names
    description: str | None = None,
    experimental_skip_healthcheck: bool,
) -> ImageConfig:
    if not 0 < port < 65536:
        raise ApiError(f"port {port} is not between 1 and 65535")
    one = Port(port, protocol, description, experimental_skip_healthcheck)
    return config.having(ports=(*_other_ports(config, port, protocol), one))


def _other_ports(config: ImageConfig, port: int, protocol: str) -> tuple[Port, ...]:
    return tuple(one for one in config.ports if (one.port, one.protocol) != (port, protocol))


def _with_healthcheck(config: ImageConfig, *, args: list[str], **options: Any) -> ImageConfig:
    given = {name: value for name, value in options.items() if value is not None}
    for name in ("interval", "timeout", "start_period", "start_interval"):
        try:
            parse_duration(given.get(name, ""))
        except ValueError as error:
            raise ApiError(f"healthcheck {name}: {error}") from error
        given.setdefault(name, "0s")
    return config.having(healthcheck=HealthcheckConfig(tuple(args), **given))


CHANGES: dict[str, Change] = {
    "withEnvVariable": _with_env,
    "withoutEnvVariable": lambda config, name: config.having(env=without_pair(config.env, name)),
    "withLabel": lambda config, name, value: config.having(labels=with_pair(config.labels, name, value)),
    "withoutLabel": lambda config, name: config.having(labels=without_pair(config.labels, name)),
    "withAnnotation": lambda config, name, value: config.having(
        annotations=with_pair(config.annotations, name, value)
    ),
    "withoutAnnotation": lambda config, name: config.having(
        annotations=without_pair(config.annotations, name)
    ),
    "withEntrypoint": _with_entrypoint,
    "withoutEntrypoint": _without_entrypoint,
    "withDefaultArgs": lambda config, args: config.having(default_args=tuple(args)),
    "withoutDefaultArgs": lambda config: config.having(default_args=()),
    "withUser": lambda config, name: config.having(user=name),
    "withoutUser": lambda config: config.having(user=""),
    "withWorkdir": _with_workdir,
    "withoutWorkdir": lambda config: config.having(workdir=""),
    "withExposedPort": _with_port,
    "withoutExposedPort": lambda config, port, protocol: config.having(
        ports=_other_ports(config, port, protocol)
    ),
    "withDockerHealthcheck": _with_healthcheck,
    "withoutDockerHealthcheck": lambda config: config.having(healthcheck=None),
}

READS: dict[str, Callable[..., Any]] = {
    "envVariable": lambda config, name: config.variable(name),
    "envVariables": lambda config: [EnvVariable(*pair) for pair in config.env],
    "label": lambda config, name: dict(config.labels).get(name),
    "labels": lambda config: [Label(*pair) for pair in config.labels],
    "entrypoint": lambda config: list(config.entrypoint),
    "defaultArgs": lambda config: list(config.default_args),
    "user": lambda config: config.user,
    "workdir": lambda config: config.workdir,
    "exposedPorts": lambda config: list(config.ports),
    "dockerHealthcheck": lambda config: config.healthcheck,
}


def _changing(change: Change) -> Callable[..., Container]:
    def resolver(_: Call, container: Container, **arguments: Any) -> Container:
        return container.having(config=change(container.config, **arguments))

    return resolver


def _reading(read: Callable[..., Any]) -> Callable[..., Any]:
    def resolver(_: Call, container: Container, **arguments: Any) -> Any:
        return read(container.config, **arguments)

    return resolver


for _name, _change in CHANGES.items():
    fields[f"Container.{_name}"] = _changing(_change)
for _name, _read in READS.items():
    fields[f"Container.{_name}"] = _reading(_read)


@fields("Container.withVolatileVariable")
def with_volatile_variable(_: Call, container: Container, *, name: str, value: str) -> Container:
    """A variable whose value is in no cache key and not in the image; its name is in the key."""
    return container.having(volatile=with_pair(container.volatile, name, value))


@fields("Container.withoutVolatileVariable")
def without_volatile_variable(_: Call, container: Container, *, name: str) -> Container:
    """Take a volatile variable away."""
    return container.having(volatile=without_pair(container.volatile, name))


@fields("Container.withSecretVariable")
def with_secret_variable(call: Call, container: Container, *, name: str, secret: str) -> Container:
    """A secret as an environment variable of the execs that follow."""
    others = tuple(pair for pair in container.secret_env if pair[0] != name)
    return container.having(secret_env=(*others, (name, call.session.objects.get(Secret, secret))))


@fields("Container.withoutSecretVariable")
def without_secret_variable(_: Call, container: Container, *, name: str) -> Container:
    """Take a secret variable away."""
    return container.having(secret_env=tuple(pair for pair in container.secret_env if pair[0] != name))
