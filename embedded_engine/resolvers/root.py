"""Query: the constructors, and the ways back in by id; ids of every type."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from embedded_engine.elements import EnvVariable, HealthcheckConfig, Label, Port, Stat
from embedded_engine.git_values import GitRef, GitRepository
from embedded_engine.image_config import ImageConfig
from embedded_engine.resolvers.registry import ApiError, Call, Fields
from embedded_engine.values import (
    CacheVolume,
    Container,
    Directory,
    File,
    Host,
    Secret,
    Service,
    Sharing,
    Socket,
    Value,
)

fields = Fields()
DAGGER_VERSION = "v0.21.8"
"""What SDKs are told; ours is told by ``embedded-engine --version``."""
_PLATFORM_PART = re.compile(r"[A-Za-z0-9_.-]+")
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}

TYPES: tuple[type[Any], ...] = (
    Container, Directory, File, Secret, CacheVolume, Service, Host, Socket, GitRepository, GitRef,
    EnvVariable, Label, Port, Stat, HealthcheckConfig,
)  # fmt: skip


@fields("Query.version")
def version(_: Call, __: None) -> str:
    """The version of the API served."""
    return DAGGER_VERSION


@fields("Query.defaultPlatform")
def default_platform(call: Call, _: None) -> str:
    """This machine's platform."""
    return call.session.platform


@fields("Query.container")
def container(call: Call, _: None, *, platform: str | None = None) -> Container:
    """An empty container. Raises ApiError for what is no platform."""
    chosen = normal_platform(platform) if platform else call.session.platform
    return Container(platform=chosen, config=ImageConfig())


def normal_platform(platform: str) -> str:
    """``os/architecture[/variant]`` in the names that images use. Raises ApiError."""
    parts = platform.split("/")
    if len(parts) not in (2, 3) or not all(_PLATFORM_PART.fullmatch(part) for part in parts):
        raise ApiError(f"platform {platform!r} is not of the form linux/amd64 or linux/arm64/v8")
    parts[1] = _ARCHITECTURES.get(parts[1], parts[1])
    return "/".join(parts)


@fields("Query.host")
def host(_: Call, __: None) -> Host:
    """This machine."""
    return Host()


@fields("Query.cacheVolume")
def cache_volume(
    call: Call, _: None, *, key: str, sharing: Sharing, owner: str, source: str | None = None
) -> CacheVolume:
    """A named volume; key, seed, sharing and owner are its identity."""
    seed = call.session.objects.get(Directory, source) if source else None
    return CacheVolume(key, seed, sharing, owner)


@fields("Query.setSecret")
def set_secret(call: Call, _: None, *, name: str, plaintext: str) -> Secret:
    """A secret by name; its value is in no cache key."""
    return call.session.secrets.put(name, plaintext)


@fields("Query.secret")
async def secret(call: Call, _: None, *, uri: str, cache_key: str | None = None) -> Secret:
    """A secret by URI; a salted hash of its value is its cache key unless one is given."""
    return await call.session.secrets.at(uri, cache_key)


@fields("Secret.name")
def secret_name(_: Call, one: Secret) -> str:
    """Its name; "" for one by URI."""
    return "" if one.uri else one.name


@fields("Secret.uri")
def secret_uri(_: Call, one: Secret) -> str:
    """Its URI; "" for one set by name."""
    return one.uri


@fields("Secret.plaintext")
async def secret_plaintext(call: Call, one: Secret) -> str:
    """Its value. Never stored."""
    return await call.session.secrets.value(one)


@fields("Query.id")
def query_id(_: Call, __: None) -> str:
    """The root's id."""
    return "UXVlcnk="


@fields("Query.node")
def node(call: Call, _: None, *, id: str) -> Value:  # noqa: A002  # the schema's name
    """The object with this id."""
    return call.session.objects.any(id)


def identity(call: Call, value: Value) -> str:
    """The opaque id of a value."""
    return call.session.objects.put(value)


def _loader(kind: type[Any]) -> Callable[..., Any]:
    def load(call: Call, _: None, *, id: str) -> Any:  # noqa: A002  # the schema's name
        return call.session.objects.get(kind, id)

    return load


def _member(attribute: str) -> Callable[..., Any]:
    def read(_: Call, value: Any) -> Any:
        found = getattr(value, attribute)
        return list(found) if isinstance(found, tuple) else found

    return read


for _type in TYPES:
    fields[f"{_type.__name__}.id"] = identity
    fields[f"Query.load{_type.__name__}FromID"] = _loader(_type)

for _names, _members in {
    ("EnvVariable", "Label"): {"name": "name", "value": "value"},
    ("Port",): {
        "port": "port",
        "protocol": "protocol",
        "description": "description",
        "experimentalSkipHealthcheck": "skip_healthcheck",
    },
    ("Stat",): {"name": "name", "fileType": "file_type", "size": "size", "permissions": "permissions"},
    ("HealthcheckConfig",): {
        "args": "args",
        "shell": "shell",
        "interval": "interval",
        "timeout": "timeout",
        "startPeriod": "start_period",
        "startInterval": "start_interval",
        "retries": "retries",
    },
}.items():
    for _name in _names:
        for _field, _attribute in _members.items():
            fields[f"{_name}.{_field}"] = _member(_attribute)
