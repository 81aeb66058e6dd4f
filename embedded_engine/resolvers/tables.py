"""All resolver tables together: what this engine serves."""

from __future__ import annotations

from embedded_engine.resolvers import (
    builds,
    container_config,
    container_exec,
    container_files,
    container_image,
    container_mounts,
    directory,
    extras,
    file,
    git,
    host,
    http,
    root,
    services,
    sockets,
)
from embedded_engine.resolvers.registry import Fields

_MODULES = (
    root,
    container_config,
    container_exec,
    container_files,
    container_image,
    container_mounts,
    builds,
    services,
    directory,
    file,
    host,
    git,
    http,
    sockets,
    extras,
)


def all_fields() -> Fields:
    """Every served field. Raises ValueError if two modules serve the same one."""
    fields = Fields()
    for module in _MODULES:
        for name, resolver in module.fields.items():
            fields(name)(resolver)
    return fields
