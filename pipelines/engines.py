"""Which engine runs the graph: an open session, Dagger's engine, or the embedded one. Nothing else asks.

The order is the design's ("Stages are Dagger functions"): an open session first, then a ``dagger`` CLI with a
runner that answers, else the embedded engine. A runner is tried for seconds before the SDK's ten-minute dial.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

import anyio

from pipelines.errors import EngineUnavailable

PROBE_TIMEOUT_S = 5.0
RUNNER_HOST = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
CLI_BIN = "_EXPERIMENTAL_DAGGER_CLI_BIN"
EMBEDDED_TOOLS = ("buildah", "skopeo")


class Engine(StrEnum):
    """What ``--engine`` takes."""

    AUTO = "auto"
    DAGGER = "dagger"
    EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine that runs the graph, and why: ``str()`` is the text after ``engine:``."""

    kind: str
    """``session``, ``dagger`` or ``embedded``."""
    why: str
    cli: str = ""
    """The ``dagger`` CLI to start, for ``dagger``."""

    def __str__(self) -> str:
        names = {"session": "the open Dagger session", "dagger": "dagger", "embedded": "embedded"}
        return f"{names[self.kind]} ({self.why})"


async def choose(wish: Engine, environ: Mapping[str, str]) -> Choice:
    """The engine for this run.

    Raises:
        EngineUnavailable: the one asked for can't run here; says what is missing and how to get it.
    """
    if port := environ.get("DAGGER_SESSION_PORT"):
        if wish is Engine.EMBEDDED:
            raise EngineUnavailable(
                "a Dagger session is open (DAGGER_SESSION_PORT is set): the embedded engine can't be chosen",
                hint="leave `dagger run` away, or use --engine auto",
            )
        await _session_answers(port)
        return Choice("session", f"DAGGER_SESSION_PORT {port}")
    if wish is Engine.EMBEDDED:
        return _embedded("asked for")
    cli, missing = await _dagger(environ)
    if not missing:
        return Choice("dagger", "asked for" if wish is Engine.DAGGER else f"{cli}, its runner answers", cli)
    if wish is Engine.DAGGER:
        raise EngineUnavailable(
            f"Dagger's engine can't run here: {missing}",
            hint=f"install the dagger CLI and start Docker, or point {RUNNER_HOST} at a runner; "
            "`--engine embedded` needs neither",
        )
    return _embedded(missing)


def _embedded(why: str) -> Choice:
    absent = [tool for tool in EMBEDDED_TOOLS if shutil.which(tool) is None]
    if absent:
        raise EngineUnavailable(
            f"no engine can run here: {why}; and the embedded engine needs {', '.join(absent)}",
            hint="`apt-get install buildah skopeo runc slirp4netns catatonit iproute2`, or start Docker "
            "and Dagger",
        )
    return Choice("embedded", why)


async def _session_answers(port: str) -> None:
    try:
        with anyio.fail_after(PROBE_TIMEOUT_S):
            stream = await anyio.connect_tcp("127.0.0.1", int(port))
            await stream.aclose()
    except (OSError, ValueError, TimeoutError) as err:
        raise EngineUnavailable(
            f"the Dagger session at 127.0.0.1:{port} (DAGGER_SESSION_PORT) does not answer",
            hint="it has ended: start again under `dagger run`, or unset DAGGER_SESSION_PORT",
        ) from err


async def _dagger(environ: Mapping[str, str]) -> tuple[str, str]:
    """The CLI, and what is missing to use it ("" when its runner answers)."""
    cli = environ.get(CLI_BIN) or shutil.which("dagger") or ""
    if not cli:
        return "", "no dagger CLI found"
    if not os.access(cli, os.X_OK):
        return cli, f"{cli} ({CLI_BIN}) can't be executed"
    host = environ.get(RUNNER_HOST, "")
    if not host:
        return cli, await _container_cli_missing("docker", "no runner: ")
    return cli, await _runner_missing(host)


async def _runner_missing(host: str) -> str:
    """Why the runner at ``host`` can't be used, or "". Schemes: tcp, unix, and those of a CLI."""
    url = urlsplit(host)
    try:
        with anyio.fail_after(PROBE_TIMEOUT_S):
            if url.scheme == "tcp" and url.hostname:
                await (await anyio.connect_tcp(url.hostname, url.port or 1234)).aclose()
            elif url.scheme == "unix":
                await (await anyio.connect_unix(url.path)).aclose()
            elif url.scheme == "kube-pod":
                return "" if shutil.which("kubectl") else f"{host} needs kubectl"
            else:
                tool = "podman" if "podman" in url.scheme else "docker"
                return await _container_cli_missing(tool, f"{host}: ")
    except TimeoutError:
        return f"the runner {host} ({RUNNER_HOST}) did not answer within {PROBE_TIMEOUT_S:.0f} s"
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) and err.strerror else err
        return f"the runner {host} ({RUNNER_HOST}) refuses: {reason}"
    return ""


async def _container_cli_missing(tool: str, prefix: str) -> str:
    if shutil.which(tool) is None:
        return f"{prefix}{tool} is not installed"
    try:
        with anyio.fail_after(PROBE_TIMEOUT_S):
            done = await anyio.run_process([tool, "version", "--format", "{{.Server.Version}}"], check=False)
    except TimeoutError:
        return f"{prefix}`{tool} version` did not answer within {PROBE_TIMEOUT_S:.0f} s"
    return "" if done.returncode == 0 else f"{prefix}{tool}'s daemon does not answer"
