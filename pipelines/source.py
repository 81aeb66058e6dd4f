"""The commit that a build is of, as Git and the CI system tell it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio

from pipelines.ci_systems import CiSystem, detect
from pipelines.errors import SourceError
from pipelines.versions import highest, version_of_tag

if TYPE_CHECKING:
    from pipelines.config import Model

_GIT_TIMEOUT_S: Final = 120

_NOT_INHERITED: Final = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
    }
)
"""Set by Git for its hooks: they would make another repository of the directory that we are asked about."""


@dataclass(frozen=True, slots=True)
class SourceRevision:
    """What is built: the commit, where it comes from, and whether the files are those of the commit."""

    commit: str
    """The commit that the files are of. For a pull request this may be a merge made by the CI system."""
    head_commit: str
    """The author's own commit: a pull request's head; otherwise the same as ``commit``."""
    committed_at: datetime
    branch: str | None
    version: str | None
    """From the highest version tag on the commit, without the "v"."""
    remote: str | None
    """The repository's address for a browser; credentials are never in it."""
    dirty: tuple[str, ...]
    """Changed or untracked files, relative to ``root``; empty: the files are those of the commit."""
    shallow: bool
    root: Path
    tags: tuple[str, ...] = ()
    """Every tag on the commit."""
    pull_request: str | None = None
    """Its number, when the run is for one."""
    run: str | None = None
    """The number of the CI run."""
    on_remote: bool | None = None
    """Whether a branch of a remote has the commit; None: there is none, or a CI system checked it out."""

    @property
    def short(self) -> str:
        """The commit's first twelve digits."""
        return self.commit[:12]

    def version_of(self, model_name: str) -> str | None:
        """The version that this commit is of one model: its own tags (``name-v1.2.0``) first."""
        return highest(model_name, self.tags)

    def summary(self) -> str:
        """``main, clean``: what follows the commit in the first line of a run."""
        where = f"pull request {self.pull_request}" if self.pull_request else self.branch or "no branch"
        state = f"{len(self.dirty)} uncommitted" if self.dirty else "clean"
        return f"{where}, {state}{', shallow' if self.shallow else ''}"


async def read_source(
    directory: Path, environ: Mapping[str, str], *, model_name: str | None = None
) -> SourceRevision:
    """The commit that ``directory`` is checked out at. Tags of ``model_name`` count (the directory's name).

    Raises:
        SourceError: no Git, not a repository, no commit yet, or Git refuses to look.
    """
    git = _Git(directory, environ)
    root, shallow = await _repository(git)
    commit, parents, committed_at = await _head(git)
    found: dict[str, str] = {}

    async def ask(name: str, *arguments: str) -> None:
        found[name] = await git.answer(*arguments)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "branch", "symbolic-ref", "--quiet", "--short", "HEAD")
        tasks.start_soon(
            ask, "tags", "for-each-ref", "--points-at=HEAD", "--format=%(refname:strip=2)", "refs/tags"
        )
        tasks.start_soon(ask, "remotes", "config", "--null", "--get-regexp", r"^remote\..*\.url$")
        tasks.start_soon(ask, "status", "-C", str(root), *_STATUS)
        tasks.start_soon(ask, "known", "for-each-ref", "--count=1", "refs/remotes")
        tasks.start_soon(ask, "holding", "for-each-ref", "--count=1", "--contains=HEAD", "refs/remotes")
    ci = detect(environ)
    tags = _tags(found["tags"].split(), ci, commit)
    return SourceRevision(
        commit=commit,
        head_commit=_head_commit(ci, commit, parents),
        committed_at=committed_at,
        branch=_branch(ci, commit, found["branch"].strip()),
        version=highest(model_name or _name_of(directory), tags),
        remote=browser_address(_origin(found["remotes"])) or browser_address(ci.repository_url),
        dirty=_changed(found["status"]),
        shallow=shallow,
        root=root,
        tags=tags,
        pull_request=ci.pull_request,
        run=ci.run_number,
        on_remote=bool(found["holding"]) if found["known"] and not _in_ci(ci, environ) else None,
    )


def _in_ci(ci: CiSystem, environ: Mapping[str, str]) -> bool:
    """Whether the checkout is a CI system's: of what a remote has, and often without its branches."""
    return bool(ci.name or environ.get("CI"))


def _name_of(directory: Path) -> str:
    return directory.resolve().name


_STATUS: Final = (
    "status",
    "--porcelain=v2",
    "-z",
    "--untracked-files=normal",
    "--ignore-submodules=none",
    "--",
    ".",
    ":(exclude,glob)**/.modelport/**",  # our own records: a run must not make the next one dirty
    ":(exclude,glob)gha-creds-*.json",  # google-github-actions/auth writes its login into the checkout
)


class _Git:
    """Runs Git on one directory."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self.directory = directory
        kept = {name: value for name, value in environ.items() if name not in _NOT_INHERITED}
        # C: the messages are read below. No locks: a second run may be at work in the same tree.
        self.environ = {
            "PATH": os.defpath,
            **kept,
            "LC_ALL": "C",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
        }

    async def run(self, *arguments: str, stdin: bytes = b"") -> CompletedProcess[bytes]:
        # fsmonitor would start a program that the repository's own configuration names
        command = ["git", "-C", str(self.directory), "-c", "core.fsmonitor=false", *arguments]
        try:
            with anyio.fail_after(_GIT_TIMEOUT_S):
                return await anyio.run_process(command, input=stdin, env=self.environ, check=False)
        except FileNotFoundError as err:
            raise SourceError(
                "git is not installed, so the source can't be told",
                hint="install git (apt-get install git) before the checkout step, for that uses it too",
            ) from err
        except TimeoutError as err:
            raise SourceError(
                f"git {arguments[0]} did not end within {_GIT_TIMEOUT_S} s",
                hint="try it by hand in the checkout",
            ) from err

    async def answer(self, *arguments: str) -> str:
        """What Git prints; nothing where it has no answer (exit code 1).

        Raises:
            SourceError: any other failure.
        """
        done = await self.run(*arguments)
        if done.returncode not in (0, 1):
            raise _explained(done, self.directory)
        return done.stdout.decode("utf-8", "surrogateescape")


async def _repository(git: _Git) -> tuple[Path, bool]:
    if not git.directory.is_dir():
        raise SourceError(f"{git.directory} is not a directory", hint="name a model's directory")
    done = await git.run("rev-parse", "--show-toplevel", "--is-shallow-repository")
    if done.returncode != 0:
        raise _explained(done, git.directory)
    root, _, shallow = done.stdout.decode("utf-8", "surrogateescape").rstrip("\n").rpartition("\n")
    return Path(root), shallow == "true"


def _explained(done: CompletedProcess[bytes], directory: Path) -> SourceError:
    """Git's refusal in our words, with the way out."""
    said = done.stderr.decode("utf-8", "replace").strip()
    first = said.splitlines()[0].removeprefix("fatal: ") if said else f"exit code {done.returncode}"
    if "dubious ownership" in said:
        found = re.search(r"repository at '([^']+)'", said)
        path = found[1] if found else directory
        return SourceError(
            "git refuses to read a checkout that another user owns",
            hint=f"if you trust it: git config --global --add safe.directory {path}",
            detail=said,
        )
    if "must be run in a work tree" in said:
        return SourceError(f"{directory} is a bare repository", hint="clone it and run in the clone")
    if "not a git repository" in said:
        return SourceError(
            f"{directory} is not in a git repository, so an image could not be traced to its source",
            hint="`git init` and commit, or check out with git: a downloaded archive has no history",
        )
    return SourceError(f"git: {first}", hint="try `git status` in the checkout", detail=said)


async def _head(git: _Git) -> tuple[str, tuple[str, ...], datetime]:
    """Commit, parents and time, from the commit object: a shallow clone hides the parents elsewhere."""
    done = await git.run("cat-file", "--batch", stdin=b"HEAD\n")
    if done.returncode != 0:
        raise _explained(done, git.directory)
    first, _, body = done.stdout.partition(b"\n")
    words = first.decode("ascii", "replace").split()
    if len(words) != 3 or words[1] != "commit":
        raise SourceError("the repository has no commit yet", hint="`git add` and `git commit` first")
    headers = body.partition(b"\n\n")[0].decode("utf-8", "replace").splitlines()
    parents = tuple(line.split()[1] for line in headers if line.startswith("parent "))
    seconds = next(int(line.split()[-2]) for line in headers if line.startswith("committer "))
    return words[0], parents, datetime.fromtimestamp(seconds, UTC)


def _head_commit(ci: CiSystem, commit: str, parents: tuple[str, ...]) -> str:
    """Whose work it is. Providers merge a pull request *into* its target: the head is the second parent."""
    if not ci.is_pull_request:
        return commit
    if ci.head_commit:
        return ci.head_commit
    return parents[1] if len(parents) == 2 else commit


def _branch(ci: CiSystem, commit: str, attached: str) -> str | None:
    """The branch. The CI system is believed when it speaks of the commit that is checked out, else Git is.

    So a job that checks out something else (a pull request's code in a run for main) is not taken for main.
    """
    if ci.is_pull_request:
        return ci.branch
    if ci.name and ci.commit in (None, commit) and (ci.branch or ci.tag):
        return ci.branch
    return attached or None


def _tags(tags: Iterable[str], ci: CiSystem, commit: str) -> tuple[str, ...]:
    told = {ci.tag} if ci.tag and ci.commit in (None, commit) and not ci.is_pull_request else set()
    return tuple(sorted({*tags, *told}))


def _origin(remotes: str) -> str | None:
    """The address of ``origin``, else of the first remote, as configured (``insteadOf`` may add secrets)."""
    addresses = dict(entry.split("\n", 1) for entry in remotes.split("\0") if "\n" in entry)
    return addresses.get("remote.origin.url") or next(iter(addresses.values()), None)


_SCP_FORM = re.compile(r"(?:[^@/]+@)?(\[[0-9a-fA-F:]+\]|[^:/\\]{2,}):(?!//)(.+)")


def browser_address(remote: str | None) -> str | None:
    """A remote as people open it: ``https://host/path``, without credentials; None for a local path."""
    if not remote:
        return None
    if "://" in remote:
        scheme, host, path = _url_parts(remote)
    elif match := _SCP_FORM.fullmatch(remote):
        scheme, host, path = "https", match[1], match[2]
    else:
        return None
    if not host or scheme not in ("http", "https"):
        return None
    path = path.strip("/").removesuffix(".git").rstrip("/")
    if host == "ssh.dev.azure.com" and path.startswith("v3/") and path.count("/") == 3:
        _, organisation, project, repository = path.split("/")
        return f"https://dev.azure.com/{organisation}/{project}/_git/{repository}"
    return f"{scheme}://{host}/{path}"


def _url_parts(remote: str) -> tuple[str, str, str]:
    """Scheme, host (with the port, where it is one for browsers) and path of a remote that is an URL."""
    try:
        parts = urlsplit(remote)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "", "", ""
    if ":" in host:
        host = f"[{host}]"
    scheme = "https" if parts.scheme in ("ssh", "git", "git+ssh", "ssh+git") else parts.scheme
    if port and parts.scheme in ("http", "https"):
        host = f"{host}:{port}"
    return scheme, host, parts.path


def _changed(status: str) -> tuple[str, ...]:
    """Paths of ``git status --porcelain=v2 -z``; a submodule says so."""
    paths = []
    entries = iter(status.split("\0"))
    for entry in entries:
        kind = entry[:1]
        if kind == "?":
            paths.append(entry[2:])
        elif kind in ("1", "2", "u"):
            fields = entry.split(" ", {"1": 8, "2": 9, "u": 10}[kind])
            paths.append(fields[-1] + (" (submodule)" if fields[2].startswith("S") else ""))
            if kind == "2":
                next(entries, None)  # the name before the renaming
    return tuple(sorted(paths))


def releasable(model: Model, source: SourceRevision) -> str | None:
    """Why this commit may not be pushed to the registries, or None when it may.

    Only a clean commit, on a branch of ``release.branches`` or with a version tag of ``release.tags``, and
    never a pull request's, whatever its branch is called.
    """
    if source.dirty:
        shown = ", ".join(source.dirty[:3]) + (", …" if len(source.dirty) > 3 else "")
        return f"uncommitted changes: {shown}"
    if source.pull_request:
        return f"pull request {source.pull_request}: released after the merge"
    if source.branch and any(fnmatchcase(source.branch, glob) for glob in model.release.branches):
        return None
    tags = source.tags or ((source.version,) if source.version else ())
    versions = [tag for tag in tags if version_of_tag(model.name, tag)]
    if any(fnmatchcase(tag, glob) for tag in versions for glob in model.release.tags):
        return None
    if source.branch is None:
        return "no branch is checked out, and no version tag of release.tags is on the commit"
    branches = ", ".join(model.release.branches) or "none"
    return f"branch {source.branch} is not in release.branches ({branches})"


def unpublished(source: SourceRevision) -> str | None:
    """Why nobody else could follow an image to this commit, or None when they can."""
    return "no branch of the remote has this commit yet (git push)" if source.on_remote is False else None
