"""Which repository of a registry is known to have a blob: there it can be mounted from, and is not sent."""

from __future__ import annotations

from embedded_engine.runtime.port import Facts

_FACT = "blob-at"


def remember_place(facts: Facts, repository: str, digest: str) -> None:
    """``repository`` is host/path."""
    host, _, path = repository.partition("/")
    if place(facts, host, digest) != path:
        facts.remember(_FACT, f"{host}@{digest}", path)


def place(facts: Facts, host: str, digest: str) -> str:
    """The path of a repository at ``host`` that had the blob, or ""."""
    found = facts.fact(_FACT, f"{host}@{digest}")
    return found if isinstance(found, str) else ""
