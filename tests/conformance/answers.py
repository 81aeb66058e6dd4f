"""Running a theme's cases in one session, and what of their answers is comparable."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import anyio
import dagger

from .case import Answer, Case, Theme
from .sessions import Engine, Running, session
from .site import Home, Site, attempt

AT_ONCE = 4
CASE_LIMIT_S = 90
_TRACE = re.compile(r" ?\[traceparent:[0-9a-f-]+\]")
_DIGEST = re.compile(r"\b(?:sha256|sha512|xxh3):[0-9a-f]{8,}\b")
_REGISTRY = re.compile(
    r"\b127\.0\.0\.1:\d{4,5}(?=/)"
)  # also of an earlier run, which Dagger's engine may name
_SERVICE = re.compile(r"(?<=^start )[a-z0-9]{13}(?= |:)")
_ENGINE_PATH = re.compile(
    r"(?:/var/lib/dagger[\w./-]*|/tmp/(?:buildkit|dagger|containerd|rootfs|mount)[\w-]*)"
)


def answers_of(theme: Theme, engine: Engine, home: Home) -> dict[str, Answer]:
    """Every case's answer, comparable."""
    with session(engine, home, theme.name) as running, _session_variables(running):
        return anyio.run(_all, theme, running, home)


async def _all(theme: Theme, running: Running, home: Home) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    limit = anyio.CapacityLimiter(AT_ONCE)

    async def one(case: Case) -> None:
        async with limit:
            site = Site(home, running.port, running.token, running.workdir, case.name, running.nonce)
            found[case.name] = comparable(await _answer(case, site), site)

    async with dagger.connection(dagger.Config(retry=None)):
        async with anyio.create_task_group() as group:
            for case in theme.cases:
                if not case.alone:
                    group.start_soon(one, case)
        for case in theme.cases:
            if case.alone:
                await one(case)
    return found


async def _answer(case: Case, site: Site) -> Answer:
    try:
        with anyio.fail_after(CASE_LIMIT_S):
            return await attempt(case.program(site))
    except TimeoutError:
        return {"error": "TimeoutError", "message": f"no answer in {CASE_LIMIT_S} s"}
    except Exception as error:  # the case itself is wrong, or the connection broke: seen in the comparison
        return {"error": type(error).__name__, "message": str(error)}


@contextlib.contextmanager
def _session_variables(running: Running) -> Iterator[None]:
    given = {"DAGGER_SESSION_PORT": str(running.port), "DAGGER_SESSION_TOKEN": running.token}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, text in before.items():
            os.environ.pop(name) if text is None else os.environ.update({name: text})


def comparable(answer: Answer, site: Site) -> Answer:
    """The answer without what differs from run to run: addresses, paths, digests (by order), trace ids."""
    texts = {
        site.home.registry: "<registry>",
        site.home.guarded: "<guarded>",
        str(site.workdir): "<workdir>",
        str(site.home.scratch): "<scratch>",
        site.nonce: "<nonce>",
    }
    return _replaced(answer, texts, {})


def _replaced(answer: Answer, texts: Mapping[str, str], digests: dict[str, str]) -> Answer:
    if isinstance(answer, str):
        return _text(answer, texts, digests)
    if isinstance(answer, Mapping):
        return {
            _text(str(key), texts, digests): _replaced(value, texts, digests) for key, value in answer.items()
        }
    if isinstance(answer, list | tuple):
        return [_replaced(one, texts, digests) for one in answer]
    return answer if answer is None or isinstance(answer, int | float) else f"<{type(answer).__name__}>"


def _text(text: str, texts: Mapping[str, str], digests: dict[str, str]) -> str:
    for found, name in texts.items():
        text = text.replace(found, name)
    text = _REGISTRY.sub("<registry>", _TRACE.sub("", text))
    text = _SERVICE.sub("<host>", text)
    text = _ENGINE_PATH.sub("<engine path>", text)
    return _DIGEST.sub(lambda match: digests.setdefault(match[0], f"<digest {len(digests) + 1}>"), text)


def differing(ours: Answer, theirs: Answer, at: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two answers differ: a dotted place to both values."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted({*ours, *theirs}):
            found |= differing(ours.get(key), theirs.get(key), f"{at}.{key}".lstrip("."))
        return found
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        found = {}
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            found |= differing(*pair, f"{at}.{number}".lstrip("."))
        return found
    return {} if _same(ours, theirs) else {at: (ours, theirs)}


def _same(ours: Answer, theirs: Answer) -> bool:
    return type(ours) is type(theirs) and bool(ours == theirs)
