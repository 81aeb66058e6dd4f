"""``gc``, ``info`` and ``reset``, and the ``gc`` at a session's end."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import anyio

from embedded_engine.cache.collect import Bounds, Collected, collect
from embedded_engine.cache.selection import parse_age, parse_size, shown_size
from embedded_engine.cache.usage import Sizes, live_sessions
from embedded_engine.runtime.open import open_runtime
from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.runtime.state import known_state
from embedded_engine.state import StartFailed, hold_alone, state_directory
from embedded_engine.store import Store
from embedded_engine.volumes import volumes_in

MAX_SIZE = "EMBEDDED_ENGINE_MAX_SIZE"
DEFAULT_MAX_SIZE = "50GB"
_TARGET = 0.9
"""An automatic gc frees a little more than it must, so that not every session has to."""


def bound(environ: Mapping[str, str]) -> int:
    """``EMBEDDED_ENGINE_MAX_SIZE`` in bytes. Raises ValueError."""
    return parse_size(environ.get(MAX_SIZE) or DEFAULT_MAX_SIZE)


def gc(max_size: str, max_age: str, *, volumes: bool, dry_run: bool) -> int:
    """Free what is beyond the bounds and tell what went. Raises StartFailed."""
    try:
        size = float(parse_size(max_size)) if max_size else float("inf")
        age = parse_age(max_age) if max_age else float("inf")
        if not max_size and not max_age:
            size = float(bound(os.environ))
    except ValueError as error:
        raise StartFailed(str(error)) from error
    state = _existing()
    bounds = Bounds(size, age, volumes)

    async def run() -> Collected:
        return await collect(state, bounds, dry_run=dry_run)

    try:
        done = anyio.run(run)
    except (RuntimeFailure, OSError, sqlite3.Error) as error:
        raise StartFailed(f"gc: {error}") from error
    print(described(done, dry_run=dry_run))  # noqa: T201  # the result
    return 0


def described(done: Collected, *, dry_run: bool = False) -> str:
    """What a collection did, in one line."""
    verb = "would free" if dry_run else "freed"
    text = f"{verb} {shown_size(done.bytes_freed)}: {done.operations} operations, {done.images} snapshots"
    text += f", {done.volumes} cache volumes" if done.volumes else ""
    text += f", {done.mirrors} git repositories" if done.mirrors else ""
    text += f"; {shown_size(done.bytes_left)} left"
    if done.sessions:
        text += f" ({done.sessions} at work: trees and compressed layers stay until they end)"
    return text


async def collect_if_large(state: Path, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Collect if the state directory is above its bound. Never raises: a session ended well."""
    try:
        limit = bound(environ)
        if Sizes.of(known_state(state, environ)).total <= limit:
            return
        done = await collect(state, Bounds(limit * _TARGET))
        say(f"cache above {shown_size(limit)} ({MAX_SIZE}): {described(done)}")
    except (RuntimeFailure, OSError, sqlite3.Error, ValueError) as error:
        say(f"cache: gc failed: {error}")


def info(*, as_json: bool) -> int:
    """Print what is stored, where, and how much of what. Raises StartFailed."""
    state = _existing()
    try:
        found = _facts(state)
    except (OSError, sqlite3.Error) as error:
        raise StartFailed(f"info: {error}") from error
    print(json.dumps(found, indent=2) if as_json else _text(found))  # noqa: T201  # the result
    return 0


def _facts(state: Path) -> dict[str, object]:
    store = Store.open(state / "engine.sqlite")
    try:
        rows = list(store.rows())
        places = store.database.execute("SELECT place, count(*) FROM promise GROUP BY place").fetchall()
    finally:
        store.close()
    sizes = Sizes.of(known_state(state, os.environ))
    volumes = volumes_in(state / "volumes")
    return {
        "location": str(state),
        "sessions": len(live_sessions(state)),
        "operations": len(rows),
        "kinds": dict(sorted(Counter(row.kind for row in rows).items())),
        "last_use": max((row.used for row in rows), default=None),
        "bytes": {
            "snapshots": sizes.snapshots,
            "compressed_layers": sizes.layers,
            "trees": sizes.trees,
            "git": sizes.git,
            "total": sizes.total,
            "volumes": sum(one.size for one in volumes),
        },
        "max_bytes": bound(os.environ),
        "volumes": [
            {"key": one.key, "sharing": one.sharing, "bytes": one.size, "last_use": one.used}
            for one in volumes
        ],
        "elsewhere": dict(places),
    }


def _text(found: Mapping[str, object]) -> str:
    sizes, kinds, volumes = found["bytes"], found["kinds"], found["volumes"]
    assert isinstance(sizes, dict)  # noqa: S101  # made above
    assert isinstance(kinds, dict)  # noqa: S101
    assert isinstance(volumes, list)  # noqa: S101
    by_kind = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    lines = [
        f"location    {found['location']}",
        f"sessions    {found['sessions']} at work",
        f"operations  {found['operations']}" + (f" ({by_kind})" if by_kind else ""),
        f"last use    {_when(found['last_use'])}",
        *(f"{kind.replace('_', ' '):18}{shown_size(size):>10}" for kind, size in sizes.items()),
        f"{'bound (' + MAX_SIZE + ')'}: {shown_size(float(str(found['max_bytes'])))}",
    ]
    for one in volumes:
        name = one["key"] or "(unnamed)"
        lines.append(
            f"volume {name} ({one['sharing']}): {shown_size(one['bytes'])}, {_when(one['last_use'])}"
        )
    if isinstance(places := found["elsewhere"], dict):
        lines += [f"from {place}: {number} snapshots and trees" for place, number in places.items()]
    return "\n".join(lines)


def _when(moment: object) -> str:
    if not isinstance(moment, float):
        return "never"
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def reset(*, yes: bool) -> int:
    """Remove all that the engine stored. Raises StartFailed while a session is at work."""
    state = _existing()
    if any(place.is_relative_to(state) for place in (Path.home(), Path.cwd())):
        raise StartFailed(f"{state} holds more than the engine's things: remove what is to go by hand")
    if not yes:
        if not sys.stdin.isatty():
            raise StartFailed(f"reset removes all of {state}: say --yes")
        if input(f"Remove all of {state}, cache volumes too? [y/N] ").strip().lower() not in ("y", "yes"):
            return 1
    alone = hold_alone(state)
    if alone is None:
        raise StartFailed(f"a session is at work in {state}: reset when it has ended")
    try:
        runroot = anyio.run(_clear, state)
        shutil.rmtree(state)
        shutil.rmtree(runroot, ignore_errors=True)
    except OSError as error:
        raise StartFailed(f"reset: {error.filename}: {error.strerror}; run it again") from error
    finally:
        os.close(alone)
    return 0


async def _clear(state: Path) -> Path:
    """Take away containers and mounts of dead sessions; gives the run root."""
    store = Store.open(state / "engine.sqlite", hold=False)
    runtime = open_runtime(state, store)
    try:
        await runtime.garbage.sweep()
    finally:
        await runtime.close()
        store.close()
    return runtime.state.runroot


def _existing() -> Path:
    state = state_directory()
    if not (state / "engine.sqlite").exists():
        raise StartFailed(f"{state} holds nothing of the engine (EMBEDDED_ENGINE_STATE)")
    return state
