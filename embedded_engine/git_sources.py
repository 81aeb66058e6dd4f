"""Repositories as a session sees them: what their refs are (asked once), their commits as directories."""

from __future__ import annotations

import base64
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import anyio

from embedded_engine.entries import TreeError
from embedded_engine.git_mirrors import Mirrors, Remote
from embedded_engine.git_refs import Found, Refs, RefUnknown, parse_refs
from embedded_engine.git_urls import RemoteUrl, candidates
from embedded_engine.git_values import GitRef, GitRepository
from embedded_engine.operations import Work
from embedded_engine.paths import inside
from embedded_engine.runtime.git import (
    UPLOAD_PACK,
    Access,
    Git,
    GitFailed,
    http_access,
    resolved_at,
    ssh_access,
)
from embedded_engine.runtime.logins import private_directory

_USERS = {"bitbucket.org": "x-token-auth"}


@dataclass(slots=True)
class GitSources:
    """The repositories of one session."""

    root: Path
    git: Git
    mirrors: Mirrors = field(init=False)
    _refs: dict[str, Refs] = field(default_factory=dict)
    _locks: dict[str, anyio.Lock] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mirrors = Mirrors(self.root, self.git)

    async def refs(self, work: Work, repository: GitRepository) -> Refs:
        """All refs, as they were when first asked for in this session. Raises GitFailed or TreeError."""
        async with self._locks.setdefault(repository.digest, anyio.Lock()):
            known = self._refs.get(repository.digest)
            if known is None:
                async with self.remote(work, repository) as remote:
                    options = [UPLOAD_PACK] if remote.url.startswith("file://") else []
                    what = f"git repository {remote.shown}"
                    argv = ["ls-remote", "--symref", *options, remote.url]
                    text = await self.git.run(*argv, access=remote.access, what=what)
                known = self._refs[repository.digest] = parse_refs(text)
            return known

    @contextlib.asynccontextmanager
    async def remote(self, work: Work, repository: GitRepository) -> AsyncIterator[Remote]:
        """Where git finds the repository, and what with, while the body runs."""
        if repository.directory is not None:
            directory = repository.directory
            async with work.view(directory.source) as root:
                place = _own_repository(inside(root, directory.path))
                yield Remote(f"file://{place}", repository.shown, Access(), local=True)
            return
        url = candidates(repository.url)[0]
        fallback = self.root.parent / "tools"
        fallback.mkdir(parents=True, exist_ok=True)
        with private_directory(fallback) as private:
            yield Remote(url.text, url.text, await _access(work, repository, url, private))

    async def checkout(self, work: Work, ref: GitRef, target: Path, wanted: Wanted) -> None:
        """The commit's files in the new directory ``target``. Raises GitFailed or RefUnknown."""
        async with self.remote(work, ref.repository) as remote:
            work.working()
            try:
                await self._checkout(remote, ref, target, wanted)
            except GitFailed as failure:
                if remote.local or not damaged(failure):
                    raise
                await self.mirrors.discard(remote)
                shutil.rmtree(target, ignore_errors=True)
                await self._checkout(remote, ref, target, wanted)

    async def _checkout(self, remote: Remote, ref: GitRef, target: Path, wanted: Wanted) -> None:
        source = await self._source(remote, ref, whole=wanted.depth != 1)
        await self.git.run("init", "--quiet", str(target))
        depth = [f"--depth={wanted.depth}"] if wanted.depth > 0 else []
        await self._copy(target, source, f"{ref.commit}:refs/engine/wanted", *depth)
        if wanted.tags:
            tags = source if remote.local else await self.mirrors.with_tags(remote)
            await self._copy(target, tags, "+refs/tags/*:refs/tags/*")
        await self._put_head(target, ref)
        if not remote.local:
            await self.git.run("remote", "add", "origin", remote.url, at=target)
        if (target / ".gitmodules").is_file():
            argv = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"]
            await self.git.run(*argv, access=remote.access, at=target, what=f"submodules of {remote.shown}")
        await self._tidied(target)

    async def _source(self, remote: Remote, ref: GitRef, *, whole: bool) -> Path:
        if remote.local:
            return Path(remote.url.removeprefix("file://"))
        return await self.mirrors.having(remote, Found(ref.name, ref.commit), whole=whole)

    async def _copy(self, target: Path, source: Path, spec: str, *options: str) -> None:
        """Fetch from a repository on this machine into ``target``."""
        quiet = ["--quiet", "--no-tags", "--no-write-fetch-head", "--update-head-ok", UPLOAD_PACK]
        await self.git.run("fetch", *quiet, *options, f"file://{source}", spec, at=target)

    async def _put_head(self, target: Path, ref: GitRef) -> None:
        """A branch is checked out as itself, anything else as a detached commit."""
        if ref.name:
            await self.git.run("update-ref", ref.name, ref.commit, at=target)
        if ref.name.startswith("refs/heads/"):
            await self.git.run("symbolic-ref", "HEAD", ref.name, at=target)
        else:
            await self.git.run("update-ref", "--no-deref", "HEAD", ref.commit, at=target)
        await self.git.run(
            "reset", "--quiet", "--hard", ref.commit, at=target, what=f"checkout of {ref.commit}"
        )

    async def _tidied(self, target: Path) -> None:
        """Nothing that tells the time or place of this checkout: the same commit is the same directory."""
        await self.git.run("update-ref", "-d", "refs/engine/wanted", at=target)
        for left in ("FETCH_HEAD", "ORIG_HEAD", "COMMIT_EDITMSG"):
            (target / ".git" / left).unlink(missing_ok=True)
        shutil.rmtree(target / ".git" / "logs", ignore_errors=True)
        await self.git.run("read-tree", "HEAD", at=target)  # an index without the files' times

    async def common_ancestor(self, work: Work, one: GitRef, other: GitRef) -> GitRef:
        """The best common ancestor of two commits, as a ref of the first one's repository.

        Raises RefUnknown if there is none.
        """
        async with work.scratch() as scratch:
            await self.git.run("init", "--quiet", "--bare", str(scratch))
            for ref in (one, other):
                async with self.remote(work, ref.repository) as remote:
                    source = await self._source(remote, ref, whole=True)
                    await self._copy(scratch, source, f"{ref.commit}:refs/engine/{ref.commit}")
            finished = await self.git.attempt("merge-base", one.commit, other.commit, at=scratch)
        commit = finished.text
        if finished.exit_code or not commit:
            raise RefUnknown(f"{one.commit[:12]} and {other.commit[:12]} have no common ancestor")
        return GitRef(one.repository, "", commit)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How much of a repository a tree has. ``depth`` 0 or less: all history."""

    git_directory: bool = True
    depth: int = 1
    tags: bool = False


def damaged(failure: GitFailed) -> bool:
    """Whether git could not read its own copy."""
    words = ("corrupt", "bad object", "unable to read", "missing blob", "missing tree", "inflate", "packfile")
    return any(word in failure.said for word in (*words, "not a git repository", "bad pack", "invalid index"))


async def _access(work: Work, repository: GitRepository, url: RemoteUrl, private: Path) -> Access:
    if url.scheme == "ssh":
        hosts = private / "known_hosts"
        hosts.write_text(repository.known_hosts)
        return ssh_access(hosts, repository.socket.path if repository.socket else "")
    if url.scheme not in ("http", "https"):
        return Access()
    header = await _header(work, repository, url)
    access = http_access(url.origin, header) if header else Access()
    if repository.service is None:
        return access
    running = await work.services.running(work, repository.service)
    parts = urlsplit(url.origin)
    port = parts.port or (443 if url.scheme == "https" else 80)
    address, reached = running.reach(port)
    if reached != port:
        raise TreeError(f"{url.text}: the service's port {port} can't be reached as such")
    found = (resolved_at(parts.hostname or "", port, address), ("http.proxy", ""))
    return Access((*access.config, *found), access.environ, access.masks)


async def _header(work: Work, repository: GitRepository, url: RemoteUrl) -> str:
    """The Authorization header; Basic (RFC 7617) for a token, by default with the user that forges take."""
    if repository.token is not None:
        value = (await work.secrets.value(repository.token)).strip()
        host = urlsplit(url.origin).hostname or ""
        user = repository.username or url.username or _USERS.get(host, "x-access-token")
        return "Basic " + base64.b64encode(f"{user}:{value}".encode()).decode()
    if repository.header is not None:
        return (await work.secrets.value(repository.header)).strip()
    return ""


def _own_repository(directory: Path) -> Path:
    """The git directory in ``directory``, if it is all there: one that leads elsewhere on this machine
    would let a directory's author read what is there. Raises TreeError."""
    inner = directory / ".git"
    place = inner if inner.is_dir() or inner.is_symlink() or inner.is_file() else directory
    if not (place / "HEAD").is_file():
        raise TreeError("not a git repository: the directory has no .git")
    parts = [place, *(place / name for name in ("objects", "refs", "HEAD"))]
    foreign = [place / "commondir", place / "objects/info/alternates", place / "objects/info/http-alternates"]
    if any(part.is_symlink() for part in parts) or any(part.exists() for part in foreign):
        raise TreeError("the directory's .git leads to another repository; only a whole one can be read")
    return place
