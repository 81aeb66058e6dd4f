"""One command in a container: `buildah run` between `from` and `commit`, with nothing of ours left in the
layer."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anyio.to_thread

from embedded_engine.paths import inside
from embedded_engine.runtime.by_hand import ByHand, enter_lines, moved, secret_lines
from embedded_engine.runtime.edits import apply_edits, owner_ids
from embedded_engine.runtime.enclosure import Enclosures
from embedded_engine.runtime.host_settings import TARGET, HostSettings
from embedded_engine.runtime.links import LOOPBACK
from embedded_engine.runtime.logins import private_directory
from embedded_engine.runtime.networks import SLIRP, dns_args, run_networked
from embedded_engine.runtime.outcome import ending
from embedded_engine.runtime.port import (
    Edit,
    ExecResult,
    ExecStep,
    Mount,
    RuntimeFailure,
    SetupFailure,
    Snapshot,
)
from embedded_engine.runtime.process import Hooks, Runner
from embedded_engine.runtime.programs import settled
from embedded_engine.runtime.redirects import located, read_redirect, write_redirects
from embedded_engine.runtime.residue import Residue
from embedded_engine.runtime.said import Said
from embedded_engine.runtime.working import Working

HOSTNAME = (
    "dagger"  # as in Dagger's engine; a name of its own for each container would end up in what it makes
)


@dataclass(frozen=True, slots=True)
class Isolation:
    """How commands are isolated, as probed."""

    kind: str = "oci"  # or chroot
    network: str = SLIRP  # or private (Buildah's bridge), or host
    runtime: str = "runc"
    init: str = ""  # the machine's program that is the first process of containers (init.py)

    def args(self) -> list[str]:
        """Buildah's options for it. In a namespace made around Buildah, that network is the host's to it."""
        if self.kind == "chroot":
            return ["--isolation=chroot"]
        network = "private" if self.network == "private" else "host"
        return ["--isolation=oci", f"--runtime={self.runtime}", f"--network={network}"]


@dataclass(slots=True)
class Executor:
    """Runs steps and edits."""

    runner: Runner
    working: Working
    enclosures: Enclosures
    temp: Path

    async def edit(self, parent: Snapshot, edits: Sequence[Edit]) -> Snapshot:
        """Apply ``edits`` as one layer. Raises RuntimeFailure."""
        async with self.working.container(parent) as (name, root):
            await anyio.to_thread.run_sync(apply_edits, root, edits)
            return await self.working.commit(name)

    async def execute(
        self, step: ExecStep, keep: Callable[[int], bool], isolation: Isolation, settings: HostSettings
    ) -> ExecResult:
        """Run ``step``; commit if ``keep`` says so. Raises SetupFailure or RuntimeFailure."""
        said = Said(step.hidden, (step.watch,) if step.watch else ())
        async with self.working.container(step.parent, dns_args(isolation.network)) as (name, root):
            with private_directory(self.temp) as private:
                step = await anyio.to_thread.run_sync(settled, step, root, settings.init)
                volumes = await anyio.to_thread.run_sync(prepare, step, root, private, settings)
                residue = Residue.before(root, mount_points(step, volumes), step.workdir)
                stdin = read_redirect(step, root) if step.redirect_stdin else step.stdin
                if self.runner.log is not None:
                    self._by_hand(step, isolation, settings, private, volumes)
                if any(service.address == LOOPBACK for service in step.services):
                    isolation = replace(isolation, network="host")
                async with self.enclosures.one(isolation.runtime) as enclosure:
                    options = [*isolation.args(), *enclosure.runtime_args(isolation.kind)]
                    argv = enclosure.argv(run_argv(step, name, options, settings, volumes))
                    finished = await run_networked(
                        self.runner, isolation.network, argv, stdin=stdin, hooks=Hooks(said.take)
                    )
            said.finish()
            ended = ending(finished, step.args[0] if step.init else None)
            stdout, stderr, combined = await anyio.to_thread.run_sync(said.outputs, finished, ended)
            await anyio.to_thread.run_sync(write_redirects, step, root, stdout, stderr)
            snapshot = None
            if keep(ended.exit_code):
                await anyio.to_thread.run_sync(residue.clear)
                snapshot = await self.working.commit(name)
            elif self.runner.log is not None:
                hand = ByHand(self.runner, f"failed-{step.name or name}")
                lines = enter_lines(hand, step, await self.working.commit(name), isolation.args())
                hand.tell(
                    f"exec {shlex.join(step.args)} failed; its file system is kept. To look into it", lines
                )
        return ExecResult(ended.exit_code, stdout, stderr, combined, snapshot)

    def _by_hand(
        self,
        step: ExecStep,
        isolation: Isolation,
        settings: HostSettings,
        private: Path,
        volumes: Sequence[tuple[Path, str, bool]],
    ) -> None:
        """Tell how to repeat the step."""
        hand = ByHand(self.runner, f"by-hand-{step.name}")
        volumes, copies = moved(step, volumes, private, hand.place)
        run = run_argv(step, hand.name, isolation.args(), settings, volumes)
        lines = [
            *hand.directory({"hosts": hosts_text(step.hosts)}),
            *copies,
            *secret_lines(hand, step),
            hand.command("buildah", "from", "--pull-never", "--name", hand.name, step.parent or "scratch"),
            hand.command(*run) + (" < /dev/null" if not step.stdin else ""),
            *hand.clean(container=True),
        ]
        hand.tell(f"exec {shlex.join(step.args)}, to repeat by hand", lines)


def run_argv(
    step: ExecStep,
    container: str,
    isolation: Sequence[str],
    settings: HostSettings,
    volumes: Iterable[tuple[Path, str, bool]],
) -> list[str]:
    """The ``buildah run`` command line for ``step``. Secrets' values are not in it."""
    own = {name for name, _ in step.env} | {name for name, _ in step.secret_env}
    env = [*((name, value) for name, value in settings.env if name not in own), *step.env]
    options = [f"--env={name}={value}" for name, value in env]
    options += [volume_arg(*volume) for volume in volumes]
    options += [tmpfs_arg(mount) for mount in step.mounts if mount.kind == "tmpfs"]
    if step.user:
        options.append(f"--user={step.user}")
    args = step.args if not step.secret_env else ("/bin/sh", "-c", _WITH_SECRETS, step.args[0], *step.args)
    fixed = ["--no-hosts", f"--hostname={HOSTNAME}", f"--workingdir={step.workdir or '/'}"]
    init = settings.init if step.init else ()
    return ["buildah", "run", *isolation, *fixed, *options, container, "--", *init, *args]


_SECRETS_TARGET = "/run/.engine-secrets"
# a program that is not there is told as without secrets, and with the same exit code
_WITH_SECRETS = f". {_SECRETS_TARGET}; " + (
    'case "$1" in */*) ;; *) command -v -- "$1" >/dev/null || { '
    'printf \'exec: "%s": executable file not found in $PATH\\n\' "$1" >&2; exit 1; } ;; esac; exec "$@"'
)


def volume_arg(source: Path, target: str, read_only: bool) -> str:  # one of a triple
    """The option that binds a host path."""
    mode = "ro" if read_only else "rw"
    if ":" in f"{source}{target}":  # --volume splits at colons, --mount at commas
        return f"--mount=type=bind,source={source},target={target},{mode}"
    return f"--volume={source}:{target}:{mode}"


def tmpfs_arg(mount: Mount) -> str:
    """The option for an empty directory in memory."""
    size = f",tmpfs-size={mount.size}" if mount.size else ""
    return f"--mount=type=tmpfs,destination={mount.target}{size},tmpfs-mode=1777"


def prepare(
    step: ExecStep, root: Path, private: Path, settings: HostSettings
) -> list[tuple[Path, str, bool]]:
    """Write what is mounted for this run only, check what must be there; the bind mounts as (host, target,
    read-only)."""
    for redirect in (step.redirect_stdout, step.redirect_stderr):
        if redirect and not located(step, root, redirect).parent.is_dir():
            raise SetupFailure(f"redirect to {redirect}: its directory does not exist")
    hosts = private / "hosts"
    hosts.write_text(hosts_text(step.hosts))
    hosts.chmod(0o644)
    volumes = [(hosts, "/etc/hosts", True), *((source, target, True) for source, target in settings.mounts())]
    for mount in step.mounts:
        if mount.kind == "bind" and mount.source is not None:
            if mount.owner:
                give(mount.source, *_owner(root, mount.owner), inner=mount.origin is not None)
            volumes.append((mount.source, mount.target, mount.read_only))
    for number, secret in enumerate(step.secret_files):
        file = _private_file(private / f"secret-{number}", secret.value, secret.mode)
        os.chown(file, *_owner(root, secret.owner))
        volumes.append((file, secret.target, True))
    if step.secret_env:
        if not inside(root, "/bin/sh").exists():
            raise SetupFailure(
                "secret variables need /bin/sh in the image; mount the secret as a file instead"
            )
        file = _private_file(private / "variables", secret_variables(step.secret_env), 0o444)
        volumes.append((file, _SECRETS_TARGET, True))
    return volumes


def give(path: Path, uid: int, gid: int, *, inner: bool) -> None:
    """Another owner for ``path``, and with ``inner`` for all that is in it."""
    os.chown(path, uid, gid)
    if inner and path.is_dir():
        for where, directories, files in os.walk(path):
            for name in (*directories, *files):
                os.chown(Path(where) / name, uid, gid, follow_symlinks=False)


def secret_variables(variables: Iterable[tuple[str, str]]) -> bytes:
    """A shell text that sets the variables. An argument would show in the process list, and Buildah 1.28
    hands no variable of its own on; this file is in memory and its mount is gone when the command is."""
    quoted = (f"export {name}='" + value.replace("'", "'\\''") + "'\n" for name, value in variables)
    return "".join(quoted).encode("utf-8", "surrogateescape")


def _private_file(file: Path, data: bytes, mode: int) -> Path:
    file.touch(mode=0o600)
    file.write_bytes(data)
    file.chmod(mode)
    return file


def _owner(root: Path, owner: str) -> tuple[int, int]:
    try:
        return owner_ids(root, owner)
    except SetupFailure:
        raise
    except RuntimeFailure as failure:
        raise SetupFailure(str(failure)) from failure


def hosts_text(hosts: Iterable[tuple[str, Iterable[str]]]) -> str:
    """/etc/hosts of an exec."""
    lines = [f"127.0.0.1\tlocalhost {HOSTNAME}", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{address}\t{' '.join(names)}" for address, names in hosts]
    return "".join(f"{line}\n" for line in lines)


def mount_points(step: ExecStep, volumes: Iterable[tuple[Path, str, bool]]) -> list[str]:
    """Every path something is mounted at."""
    return [TARGET, *(target for _, target, _ in volumes), *(mount.target for mount in step.mounts)]
