"""Host: its directories and files. Missing ones are told here, not later."""

from __future__ import annotations

from embedded_engine.filters import Filter
from embedded_engine.resolvers.registry import Call, Fields
from embedded_engine.values import Directory, File, Host

fields = Fields()


@fields("Host.directory")
async def directory(
    call: Call,
    _: Host,
    *,
    path: str,
    exclude: list[str],
    include: list[str],
    no_cache: bool,
    gitignore: bool,
) -> Directory:
    """A directory of the host, by content; loaded once per session and arguments."""
    wanted = Filter(tuple(include), tuple(exclude), gitignore)
    return await call.session.host.directory(path, wanted, fresh=no_cache)


@fields("Host.file")
async def file(call: Call, _: Host, *, path: str, no_cache: bool) -> File:
    """A file of the host."""
    return await call.session.host.file(path, fresh=no_cache)


@fields("Host.findUp")
async def find_up(call: Call, _: Host, *, name: str, no_cache: bool = False) -> str | None:
    """The nearest ``name`` from the session's directory upwards, relative to that; never from a cache."""
    return await call.session.host.find_up(name)
