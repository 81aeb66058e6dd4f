"""``embedded-engine doctor``: what runs containers on this machine, tried now and not guessed.

What it finds is remembered as a session's probe would: after a change of the machine this is also the way to
have it tried again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import anyio

from embedded_engine import __version__
from embedded_engine.doctor_advice import init_advice, isolation_advice, network_advice, storage_advice
from embedded_engine.doctor_host import devices, disk, site, tools, user
from embedded_engine.findings import Finding, Status, document, table
from embedded_engine.resolvers.root import DAGGER_VERSION
from embedded_engine.runtime import notices, registries_conf
from embedded_engine.runtime.auth_files import AuthFiles
from embedded_engine.runtime.buildah import Isolation
from embedded_engine.runtime.drivers import PAYLOAD_MB
from embedded_engine.runtime.open import ContainerRuntime, open_runtime
from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.runtime.probe import told
from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.rootless import REFUSED
from embedded_engine.state import StartFailed, state_directory
from embedded_engine.store import Store


def report(*, as_json: bool = False) -> int:
    """Print what was found; 1 if no container can run here. Raises StartFailed for an unusable state."""
    state = state_directory()
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StartFailed(f"cannot make the state directory {state}: {error.strerror}") from error
    version = f"{__version__}, serves a subset of Dagger's API {DAGGER_VERSION}"
    findings = [Finding("engine", "embedded-engine", "info", version), *user()]
    ok = not os.environ.get(REFUSED)
    if ok:
        tried, ok = _tried(state)
        findings += tried
    findings += [*tools(), *devices(), *_site(os.environ), *disk(state)]
    findings += [Finding("warnings", name, "warning", text) for name, text in notices.told(state).items()]
    ending: tuple[Status, str] = ("ok", "can run") if ok else ("no", "can't run here")
    findings.append(Finding("result", "containers", *ending))
    print(document(findings, ok=ok) if as_json else table(findings))  # noqa: T201  # the result of the command
    return 0 if ok else 1


def _tried(state: Path) -> tuple[list[Finding], bool]:
    store = Store.open(state / "engine.sqlite")
    try:
        return anyio.run(_probe, open_runtime(state, store))
    finally:
        store.close()


async def _probe(runtime: ContainerRuntime) -> tuple[list[Finding], bool]:
    """Try everything with the runtime of a session."""
    probe, began = runtime.probe, time.monotonic()
    found: Isolation | None = None
    failure = ""
    try:
        found = await probe.find()
    except RuntimeFailure as error:
        failure = str(error)
    finally:
        await runtime.close()
    findings = [*_attempts(runtime)]
    if found is None:
        findings.append(Finding("containers", "none can run", "no", failure))
        return findings, False
    seconds = time.monotonic() - began
    findings.append(_storage(runtime))
    texts = (isolation_advice(found.kind), _network(found), init_advice(found.init))
    advice = "\n".join(text for text in texts if text)
    text = f"{told(found)}; tried in {seconds:.1f} s, and remembered until the machine changes"
    findings.append(Finding("containers", "taken", "warning" if advice else "ok", text, advice))
    return findings, True


def _attempts(runtime: ContainerRuntime) -> Iterator[Finding]:
    for one in runtime.probe.attempts:
        yield Finding(one.kind, one.what, "no" if one.reason else "ok", one.reason or "works")


def _storage(runtime: ContainerRuntime) -> Finding:
    state, copy_s = runtime.state, runtime.probe.copy_s
    advice = storage_advice(state.root, state.driver)
    if copy_s:
        text = f"{PAYLOAD_MB} MB took {copy_s:.2f} s to copy, at each step of a run, and as much disk"
        return Finding("storage", "cost of whole copies", "warning", text, advice)
    return Finding("storage", "cost", "ok", "a step stores only what it changed")


def _network(found: Isolation) -> str:
    if found.network != "host":
        return ""
    return "\n".join(
        text
        for text in (
            "runs share the host's network: they see its loopback, and two services can't use one port",
            network_advice(),
        )
        if text
    )


def _site(environ: Mapping[str, str]) -> Iterator[Finding]:
    yield from site(environ, AuthFiles(environ, Runner(environ)).files(), registries_conf.files(environ))
