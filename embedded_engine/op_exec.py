"""The exec: one command on a container's file system, with what it may see and how it may end."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from embedded_engine.evaluator import gathered
from embedded_engine.failures import CommandFailure
from embedded_engine.masking import mask_text
from embedded_engine.operations import Operation, Outcome, TreeId, Work, digest_of
from embedded_engine.resolvers.registry import ApiError
from embedded_engine.runtime.port import JSON, ExecResult, ExecStep, RuntimeFailure, SetupFailure
from embedded_engine.services import settled
from embedded_engine.steps import Prepared, environment, prepared, with_services
from embedded_engine.values import Container, Directory, DirectoryMount, File, digest_or_none

Expect = Literal["SUCCESS", "FAILURE", "ANY"]
TAIL_BYTES = 100 * 1024
MESSAGE_LINES = 12


class ExecFailed(CommandFailure):
    """A command ended in a way its ``expect`` does not allow. All texts are masked."""


@dataclass(frozen=True, slots=True)
class Exec:
    """``args`` run in ``container``: file system, config, mounts, secrets, services as they were before."""

    keep: ClassVar[bool] = True
    kind: ClassVar[str] = "exec"
    container: Container
    args: tuple[str, ...]
    stdin: str = field(default="", repr=False)
    redirect_stdin: str = ""
    redirect_stdout: str = ""
    redirect_stderr: str = ""
    expect: Expect = "SUCCESS"
    init: bool = True
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", self._digest())

    def _digest(self) -> str:
        """What the command can see; labels and the like are not in it, nor any secret or volatile value."""
        one = self.container
        env: JSON = [list(pair) for pair in environment(replace(one, volatile=()))]
        return digest_of(
            "exec",
            one.platform,
            digest_or_none(one.rootfs),
            list(self.args),
            [self.stdin, self.redirect_stdin, self.redirect_stdout, self.redirect_stderr, self.expect],
            env,
            [name for name, _ in one.volatile],
            [one.config.workdir, one.config.user],
            [mount.recipe() for mount in (*one.mounts, *one.sockets)],
            [[name, secret.digest] for name, secret in one.secret_env],
            [[alias, service.digest] for alias, service in one.services],
            *([] if self.init else ["no init"]),
        )

    @property
    def name(self) -> str:
        """The command line."""
        return shlex.join(self.args)

    def allowed(self, exit_code: int) -> bool:
        """Whether ``expect`` tolerates this exit code; death by a signal never is."""
        if self.expect == "SUCCESS":
            return exit_code == 0
        by_signal = 128 <= exit_code <= 191
        return not by_signal and exit_code >= 0 and (self.expect == "ANY" or exit_code != 0)

    async def run(self, work: Work) -> Outcome:
        """Run it; its file system is kept only if the exit code is allowed. Raises ApiError, ExecFailed."""
        if not self.args:
            raise ApiError("no command has been set")
        await gathered(self._needs(work))
        async with prepared(work, self.container, self.args) as ready:
            step = replace(
                await with_services(work, self.container, ready.step),
                stdin=self.stdin.encode(),
                redirect_stdin=self.redirect_stdin,
                redirect_stdout=self.redirect_stdout,
                redirect_stderr=self.redirect_stderr,
                init=self.init,
                name=self.digest[:12],
                watch=work.watch(),
            )
            async with work.slot():
                result = await self._executed(work, step, ready)
            if not self.allowed(result.exit_code):
                await settled(step.services)
            self._check_services(step, result)
            if not self.allowed(result.exit_code):
                raise self._failed(result)
            return await _outcome(work, result, ready.writable)

    def _needs(self, work: Work) -> list[Callable[[], Awaitable[Outcome]]]:
        sources = [
            mount.source.source for mount in self.container.mounts if isinstance(mount, DirectoryMount)
        ]
        needs = {one.digest: one for one in (self.container.rootfs, *sources) if one is not None}
        return [lambda one=one: work.result(one) for one in needs.values()]  # type: ignore[misc]  # bound early

    async def _executed(self, work: Work, step: ExecStep, ready: Prepared) -> ExecResult:
        try:
            return await work.runtime.execute(step, self.allowed)
        except SetupFailure as failure:
            text = mask_text(str(failure), ready.masks)
            raise ExecFailed(text, args=self.args, exit_code=-1, stdout="", stderr="") from failure
        except RuntimeFailure as failure:
            raise RuntimeFailure(
                mask_text(str(failure), ready.masks), detail=mask_text(failure.detail, ready.masks)
            ) from None

    def _check_services(self, step: ExecStep, result: ExecResult) -> None:
        """Raises ExecFailed for a service that has ended; what a command that failed by it said is kept."""
        for service in step.services:
            code = service.exit_code()
            if code is not None:
                stdout, stderr = service.logs()
                if not self.allowed(result.exit_code) and result.stdout:
                    stdout, stderr = readable_tail(result.stdout), stdout + stderr
                message = f"bound service {service.hostname} exited: exit code: {code}"
                raise ExecFailed(message, args=self.args, exit_code=code, stdout=stdout, stderr=stderr)

    def _failed(self, result: ExecResult) -> ExecFailed:
        stdout, stderr = readable_tail(result.stdout), readable_tail(result.stderr)
        code = result.exit_code
        message = failure_message(f"exit code: {code}", self.name, stderr or stdout)
        return ExecFailed(message, args=self.args, exit_code=code, stdout=stdout, stderr=stderr)


async def _outcome(work: Work, result: ExecResult, writable: tuple[tuple[str, Path], ...]) -> Outcome:
    mounts: list[tuple[str, TreeId]] = []
    for target, path in writable:
        mounts.append((target, await _taken_in(work, path)))
    return Outcome(
        snapshot=result.snapshot,
        exit_code=result.exit_code,
        stdout=result.stdout,
        stderr=result.stderr,
        combined=result.combined,
        mounts=tuple(mounts),
    )


async def _taken_in(work: Work, path: Path) -> TreeId:
    directory = path if path.is_dir() else path.parent  # a mounted file's copy is alone in its directory
    return await work.trees.ingest(directory)


def readable_tail(output: bytes) -> str:
    """The last 100 kB as text, trimmed of outer white space, saying what was left out (within the 100 kB, and
    without counting itself: as Dagger's engine does)."""
    omitted = len(output) - TAIL_BYTES
    if omitted > 0:
        said = b"[omitting %d bytes]..." % omitted
        output = said + output[omitted + len(said) :]
    return output.decode("utf-8", "replace").strip()


def failure_message(headline: str, command: str, output: str) -> str:
    """The headline, the command and the last lines of what it said."""
    lines = [f"{headline}: {command}" if len(command) <= 300 else f"{headline}: {command[:299]}…"]
    return "\n".join(lines + [line[:500] for line in output.splitlines()[-MESSAGE_LINES:]])


@dataclass(frozen=True, slots=True)
class MountAfter:
    """A writable mount as an exec left it."""

    keep: ClassVar[bool] = False
    kind: ClassVar[str] = "mount"
    exec: Operation
    target: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of("mount-after", self.exec.digest, self.target))

    @property
    def name(self) -> str:
        """The mount point."""
        return self.target

    async def run(self, work: Work) -> Outcome:
        """The tree the exec's outcome names."""
        return Outcome(tree=dict((await work.result(self.exec)).mounts)[self.target])


def after_exec(container: Container, operation: Exec) -> Container:
    """The container once ``operation`` has run: its file system, outputs and writable mounts."""
    mounts = tuple(
        replace(mount, source=_left(mount.source, MountAfter(operation, mount.target)))
        if isinstance(mount, DirectoryMount) and not mount.read_only
        else mount
        for mount in container.mounts
    )
    return container.having(rootfs=operation, last_exec=operation, mounts=mounts)


def _left(source: Directory | File, after: MountAfter) -> Directory | File:
    # a mounted file is a tree of one entry, named like the mounted file's copy
    return (
        Directory(after)
        if isinstance(source, Directory)
        else File(after, "/" + source.path.rsplit("/", 1)[-1])
    )
