"""The host's git as a tool: its environment, what it may ask for, its failures in the user's words.

Credentials reach it through the environment of that one process (``GIT_CONFIG_COUNT``), so they are in no
argument list, no file and no repository's configuration. It never asks a person. Transfers honour the user's
own configuration (proxies, ``insteadOf``, credential helpers); checkouts don't, so that the same commit gives
the same files everywhere.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedded_engine.masking import mask_text
from embedded_engine.runtime.port import RuntimeFailure
from embedded_engine.runtime.process import Finished, Runner, tail

_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_ALL_OF_IT = ("unshare", "--pid", "--fork", "--kill-child")  # git's helpers too: they wait for the network
_UMASK = ("sh", "-c", 'umask 022; exec "$@"', "sh")
_DROPPED = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_PREFIX"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CEILING_DIRECTORIES", "GIT_TEMPLATE_DIR"),
    *("GIT_TRACE", "GIT_TRACE_CURL", "GIT_CURL_VERBOSE", "GIT_TRACE_PACKET"),
)
_ALWAYS = {
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.logAllRefUpdates": "false",
    "gc.auto": "0",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
    "init.defaultBranch": "main",
    "init.templateDir": "",
    "maintenance.auto": "false",
    "protocol.ext.allow": "never",
    "protocol.file.allow": "user",  # no submodule may name a repository of this machine
    "safe.directory": "*",
}
_HERMETIC = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}
UPLOAD_PACK = "--upload-pack=git -c safe.directory=* upload-pack"
"""For a repository in a directory: who owns it there says nothing, and `git upload-pack` is made for
repositories one doesn't trust (git-upload-pack(1), SECURITY)."""


class GitFailed(RuntimeFailure):
    """git ended with an error; ``said`` is all it said, in lower case."""

    def __init__(self, message: str, *, said: str = "", detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.said = said.lower()

    @property
    def unauthorised(self) -> bool:
        """Whether the remote wanted (other) credentials."""
        return any(words in self.said for words in _AUTH)

    @property
    def by_name_only(self) -> bool:
        """Whether the remote does not give a commit by its id alone."""
        return any(words in self.said for words in ("unadvertised object", "not our ref", "remote ref"))


_AUTH = (
    *(
        "authentication failed",
        "authentication required",
        "could not read username",
        "could not read password",
    ),
    *("permission denied (", "host key verification failed", "returned error: 401", "returned error: 403"),
)


@dataclass(frozen=True, slots=True)
class Access:
    """What one remote is reached with."""

    config: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    environ: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    masks: tuple[str, ...] = field(default=(), repr=False)


LOCAL = Access()


@dataclass(frozen=True, slots=True)
class Git:
    """Runs git."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    secrets: Callable[[], Iterable[str]] = tuple
    log: Callable[[str], None] | None = None

    async def run(
        self,
        *args: str,
        access: Access | None = None,
        at: Path | None = None,
        what: str = "",
        stdin: bytes = b"",
    ) -> str:
        """git's stdout. Without ``access`` the user's configuration is not read. Raises GitFailed.

        ``at``: the directory it works in. ``what``: for the error, instead of the bare command.
        """
        finished = await self.attempt(*args, access=access, at=at, stdin=stdin)
        if finished.exit_code:
            masks = (*self.secrets(), *(access.masks if access else ()))
            raise _failure(args, finished, what, masks)
        return finished.stdout.decode("utf-8", "replace")

    async def attempt(
        self, *args: str, access: Access | None = None, at: Path | None = None, stdin: bytes = b""
    ) -> Finished:
        """How git ended, whatever its exit code. Raises ToolMissing."""
        _find_git(self.environ)
        reached = access or LOCAL
        masks = (*self.secrets(), *reached.masks)
        environ = git_environ(self.environ, reached, hermetic=access is None)
        place = ("-C", str(at)) if at is not None else ()
        runner = Runner(environ, lambda: masks, self.log)
        enclosed = [*_DIES_WITH_US, *(_ALL_OF_IT if os.geteuid() == 0 else ()), *_UMASK]
        return await runner.run([*enclosed, "git", *place, *args], stdin=stdin, check=False)


def git_environ(environ: Mapping[str, str], access: Access, *, hermetic: bool) -> dict[str, str]:
    """The environment git runs with. What a CI system set in ``GIT_CONFIG_*`` stays, unless hermetic."""
    ours = {name: value for name, value in environ.items() if name not in _DROPPED}
    if hermetic:
        ours = {name: value for name, value in ours.items() if not name.startswith("GIT_CONFIG")} | _HERMETIC
    ours |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "SSH_ASKPASS_REQUIRE": "never"}
    ours |= {"GIT_LFS_SKIP_SMUDGE": "1", **dict(access.environ)}
    count = int(ours.get("GIT_CONFIG_COUNT", "0") or 0)
    for number, (key, value) in enumerate((*_ALWAYS.items(), *access.config), start=count):
        ours |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    ours["GIT_CONFIG_COUNT"] = str(count + len(_ALWAYS) + len(access.config))
    return ours


def ssh_access(known_hosts: Path, agent: str = "") -> Access:
    """For ssh. ``known_hosts`` is a private file: what is new is noted there, not in the user's own.

    Hosts are checked against that file and the user's; one that neither knows
    is taken, as in Dagger's engine.
    """
    files = f"{known_hosts} {Path.home() / '.ssh/known_hosts'} /etc/ssh/ssh_known_hosts"
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "30",
        "ServerAliveInterval": "15",
        "StrictHostKeyChecking": "yes" if known_hosts.stat().st_size else "accept-new",
        "UserKnownHostsFile": str(known_hosts) if known_hosts.stat().st_size else files,
    }
    command = ["ssh", *(f"-o{name}={value}" for name, value in options.items())]
    return Access(
        environ=(("GIT_SSH_COMMAND", shlex.join(command)), *((("SSH_AUTH_SOCK", agent),) if agent else ()))
    )


def http_access(origin: str, header: str) -> Access:
    """For http with an Authorization header, for ``origin`` only; nothing else is asked for credentials."""
    config = ((f"http.{origin}/.extraheader", f"Authorization: {header}"), ("credential.helper", ""))
    return Access(config, (("GIT_ASKPASS", ""),), (header,))


def resolved_at(host: str, port: int, address: str) -> tuple[str, str]:
    """The setting that makes git's http find ``host`` at ``address``."""
    return "http.curloptResolve", f"{host}:{port}:{address}"


def _find_git(environ: Mapping[str, str]) -> None:
    if shutil.which("git", path=environ.get("PATH")) is None:
        raise RuntimeFailure(
            "git is missing on this machine, which reads repositories with it: apt-get install git"
        )


def _failure(args: tuple[str, ...], finished: Finished, what: str, masks: Iterable[str]) -> GitFailed:
    """The line that says why as the message, the others as the detail."""
    said = mask_text(tail(finished.stderr), masks)
    lines = said.splitlines() or [f"exit code {finished.exit_code}"]
    first = next((line for line in lines if line.startswith(("fatal: ", "error: "))), lines[0])
    detail = "\n".join(line for line in lines if line != first)
    message = f"{what or f'git {args[0]}'}: {first.removeprefix('fatal: ').removeprefix('error: ')}"
    failure = GitFailed(message, said=said, detail=detail)
    if failure.unauthorised:
        hint = "give httpAuthToken or httpAuthHeader (http), sshAuthSocket or an agent in SSH_AUTH_SOCK (ssh)"
        return GitFailed(f"{message}; it wants other credentials: {hint}", said=said, detail=detail)
    return failure
