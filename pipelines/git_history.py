"""What a local clone knows of a commit that an image claims to be of. Its answers are facts, not errors."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final, Protocol

import anyio

from pipelines.source import browser_address
from pipelines.versions import version_of_tag

_TIMEOUT_S: Final = 60
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that is in the clone."""

    subject: str
    author: str
    committed_at: datetime
    branches: tuple[str, ...]
    tags: tuple[str, ...]
    """Of the whole clone: those that contain it."""


class History(Protocol):
    """What tells the order of commits. None: it can't be told from here."""

    async def is_ancestor(self, older: str, newer: str) -> bool | None:
        """Whether ``newer`` holds the commit ``older`` (a commit holds itself)."""
        ...

    async def distance(self, older: str, newer: str) -> int | None:
        """How many commits ``newer`` has that ``older`` has not."""
        ...


@dataclass(frozen=True, slots=True)
class GitHistory:
    """A clone. ``directory`` may be anywhere inside; where it is no clone, ``exists`` says so."""

    directory: Path
    environ: Mapping[str, str]

    async def exists(self) -> bool:
        """Whether there is a repository, and git to read it."""
        return bool(await self._ask("rev-parse", "--git-dir"))

    async def is_shallow(self) -> bool:
        """Whether older commits may be missing."""
        return (await self._ask("rev-parse", "--is-shallow-repository")).strip() == "true"

    async def is_ancestor(self, older: str, newer: str) -> bool | None:
        """See ``History``. None where the clone lacks one of them, or the history between them (shallow)."""
        if not _COMMIT.fullmatch(older) or not _COMMIT.fullmatch(newer):
            return None
        done = await self._run("merge-base", "--is-ancestor", older, newer)
        if done is None or done.returncode not in (0, 1):
            return None
        if done.returncode == 0:
            return True
        return None if await self.is_shallow() else False

    async def distance(self, older: str, newer: str) -> int | None:
        """See ``History``."""
        if not _COMMIT.fullmatch(older) or not _COMMIT.fullmatch(newer):
            return None
        told = (await self._ask("rev-list", "--count", f"{older}..{newer}")).strip()
        return int(told) if told else None

    async def remotes(self) -> tuple[str, ...]:
        """The addresses of all remotes as people open them, without credentials."""
        told = await self._ask("config", "--null", "--get-regexp", r"^remote\..*\.url$")
        addresses = (entry.partition("\n")[2] for entry in told.split("\0"))
        return tuple(sorted({found for address in addresses if (found := browser_address(address))}))

    async def commit(self, revision: str) -> Commit | None:
        """The commit with the full id ``revision``; None where the clone lacks it (or it is no commit id)."""
        if not _COMMIT.fullmatch(revision):
            return None
        told = await self._ask(
            "show", "--no-patch", "--no-show-signature", "--format=%H%n%s%n%an%n%ct", revision
        )
        lines = told.splitlines()
        if len(lines) != 4 or lines[0] != revision:
            return None
        branches = await self._ask(
            "for-each-ref",
            f"--contains={revision}",
            "--format=%(refname:short)",
            "refs/heads",
            "refs/remotes",
        )
        tags = await self._ask(
            "for-each-ref", f"--contains={revision}", "--format=%(refname:strip=2)", "refs/tags"
        )
        when = datetime.fromtimestamp(int(lines[3]), UTC)
        return Commit(lines[1], lines[2], when, tuple(branches.split()), tuple(tags.split()))

    async def commit_of_version(self, model_name: str, version: str) -> tuple[str, str] | None:
        """The tag that gives ``version`` to the model, and the commit it points to; None without one."""
        told = await self._ask(
            "for-each-ref", "--format=%(refname:strip=2) %(objectname) %(*objectname)", "refs/tags"
        )
        for line in told.splitlines():
            tag, commit, *peeled = line.split()
            found = version_of_tag(model_name, tag)
            if found and found.text == version:
                return tag, peeled[0] if peeled else commit
        return None

    async def _ask(self, *arguments: str) -> str:
        """What git prints; nothing where it has no answer."""
        done = await self._run(*arguments)
        return done.stdout.decode("utf-8", "replace") if done and done.returncode == 0 else ""

    async def _run(self, *arguments: str) -> CompletedProcess[bytes] | None:
        """What git did; None where there is no git, or it did not end in time."""
        kept = {name: value for name, value in self.environ.items() if not name.startswith("GIT_")}
        environ = {
            "PATH": os.defpath,
            **kept,
            "LC_ALL": "C",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
        }
        command = ["git", "-C", str(self.directory), "-c", "core.fsmonitor=false", *arguments]
        try:
            with anyio.fail_after(_TIMEOUT_S):
                return await anyio.run_process(command, env=environ, check=False)
        except (FileNotFoundError, TimeoutError):
            return None
