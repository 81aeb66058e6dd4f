"""A step as lines to paste into a shell, told with --debug: the same Buildah command, without the engine.

The temporary files that the command names are gone when it has ended, so the lines make them again. Secrets
are not in them: each is a variable that whoever pastes the lines sets first. The namespaces that the engine
puts around Buildah are left out, so the command has the host's network.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedded_engine.runtime.port import BuildStep, ExecStep, Snapshot
from embedded_engine.runtime.process import Runner, with_options

_SETTINGS = ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF")
Volume = tuple[Path, str, bool]
_PLACE = Path("/tmp")  # noqa: S108  # the lines make a directory of their own in it, 0700


@dataclass(frozen=True, slots=True)
class ByHand:
    """Lines for one step. ``name`` is that of its directory and container."""

    runner: Runner
    name: str

    @property
    def place(self) -> Path:
        """Where the lines put their files."""
        return _PLACE / self.name

    def tell(self, title: str, lines: Iterable[str]) -> None:
        """Show the lines under a title."""
        head = [f"# {title}:"]
        if os.environ.get("_CONTAINERS_USERNS_CONFIGURED"):
            head.append("# (in a shell that `buildah unshare` opens)")
        self.runner.tell("\n".join([*head, self._exports(), *lines]))

    def command(self, *argv: str) -> str:
        """A tool's command line with the options that lead it to the engine's storage."""
        return shlex.join(with_options(argv, self.runner.options()))

    def directory(self, files: Mapping[str, str]) -> list[str]:
        """Lines that make the directory and these files."""
        lines = [f"mkdir -m 700 {shlex.quote(str(self.place))}"]
        lines += [
            f"printf %s {shlex.quote(text)} > {shlex.quote(str(self.place / file))}"
            for file, text in files.items()
        ]
        return lines

    def secret(self, number: int, what: str) -> str:
        """The line that puts a secret into its file."""
        target = shlex.quote(str(self.place / f"secret-{number}"))
        return f'printf %s "$SECRET_{number}" > {target}  # set SECRET_{number} first: {what}'

    def clean(self, *, container: bool) -> list[str]:
        """Lines that clear it all away."""
        gone = [self.command("buildah", "rm", self.name)] if container else []
        return [*gone, f"rm -r {shlex.quote(str(self.place))}"]

    def _exports(self) -> str:
        environ = self.runner.environ
        return "export " + " ".join(
            f"{name}={shlex.quote(environ[name])}" for name in _SETTINGS if name in environ
        )


def moved(
    step: ExecStep, volumes: Sequence[Volume], private: Path, place: Path
) -> tuple[list[Volume], list[str]]:
    """The bind mounts of ``step`` with what will be gone elsewhere, and the lines that copy mounts there."""
    copies: dict[Path, Path] = {}
    lines: list[str] = []
    for number, mount in enumerate(step.mounts):
        if mount.origin is not None and mount.source is not None:
            copies[mount.source] = place / f"mount-{number}"
            lines.append(shlex.join(["cp", "-a", str(mount.origin), str(copies[mount.source])]))
    found = []
    for source, target, read_only in volumes:
        path = place / source.relative_to(private) if source.is_relative_to(private) else source
        found.append((copies.get(source, path), target, read_only))
    return found, lines


def secret_lines(hand: ByHand, step: ExecStep) -> list[str]:
    """Lines for an exec's secrets: its files, then its variables as one shell text."""
    lines = [hand.secret(number, f"mounted at {one.target}") for number, one in enumerate(step.secret_files)]
    for number, (name, _) in enumerate(step.secret_env, start=len(step.secret_files)):
        target = shlex.quote(str(hand.place / "variables"))
        lines.append(
            f'printf "export %s=\'%s\'\\n" {name} "$SECRET_{number}" >> {target}'
            f"  # set SECRET_{number} first: the variable {name}"
        )
    return lines


def build_lines(hand: ByHand, step: BuildStep, argv: Sequence[str], dockerfile: str) -> list[str]:
    """Lines for a Dockerfile build."""
    secrets = [hand.secret(number, f"id={name}") for number, (name, _) in enumerate(step.secrets)]
    return [
        *hand.directory({"Dockerfile": dockerfile, "ignore": ""}),
        *secrets,
        hand.command(*argv),
        *hand.clean(container=False),
    ]


def enter_lines(hand: ByHand, step: ExecStep, kept: Snapshot, options: Sequence[str]) -> list[str]:
    """Lines that open a shell in what a failed command left."""
    user = [f"--user={step.user}"] if step.user else []
    inside = [
        *options,
        *user,
        f"--workingdir={step.workdir or '/'}",
        *(f"--env={n}={v}" for n, v in step.env),
    ]
    return [
        hand.command("buildah", "from", "--pull-never", "--name", hand.name, kept),
        hand.command("buildah", "run", "--terminal", *inside, hand.name, "--", "sh"),
        hand.command("buildah", "rm", hand.name),
    ]
