"""Copies of remote repositories in the state directory: bare, fetched by need, shared by sessions.

For each remote there are two: ``full`` has the whole history of what was fetched, ``shallow`` only single
commits (what a tree needs by default). Fetches hold a file lock; reading needs none, since objects are only
added. A lock file of git's own that is there while we hold ours was left by a killed fetch. A copy that git
can't read any more is thrown away and made anew.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from embedded_engine.file_locks import file_lock, try_lock
from embedded_engine.git_refs import Found, RefUnknown
from embedded_engine.runtime.git import UPLOAD_PACK, Access, Git, GitFailed
from embedded_engine.sizes import bytes_below

_KEPT = "refs/kept/"
LOCK = "lock"
"""In a remote's directory: held by who fetches; its time is that of the last use."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository to fetch from: git's own URL, how people know it, what it is reached with."""

    url: str
    shown: str
    access: Access
    local: bool = False  # a directory's repository: read as it is, not mirrored


@dataclass(frozen=True, slots=True)
class Mirrors:
    """All copies below ``root``."""

    root: Path
    git: Git

    async def having(self, remote: Remote, wanted: Found, *, whole: bool) -> Path:
        """The git directory that has the commit, with its history if ``whole``; fetched if it lacks.

        Raises GitFailed or RefUnknown.
        """
        home = self._home(remote)
        home.mkdir(parents=True, exist_ok=True)
        (home / LOCK).touch()  # when it was last used
        full, shallow = home / "full.git", home / "shallow.git"
        for place in (full,) if whole else (full, shallow):
            if await self.has(place, wanted.commit):
                return place
        place = full if whole else shallow
        async with file_lock(home / LOCK):
            if not await self.has(place, wanted.commit):
                await self._fetch(remote, wanted, place, shallow=not whole)
        return place

    async def with_tags(self, remote: Remote) -> Path:
        """The git directory that has all tags (and their history)."""
        home = self._home(remote)
        async with file_lock(home / LOCK):
            await self._opened(home / "full.git")
            await self._fetched(remote, home / "full.git", ["+refs/tags/*:refs/tags/*"])
        return home / "full.git"

    async def has(self, place: Path, commit: str) -> bool:
        """Whether a copy has the commit."""
        if not (place / "HEAD").is_file():
            return False
        return not (await self.git.attempt("cat-file", "-e", f"{commit}^{{commit}}", at=place)).exit_code

    async def discard(self, remote: Remote) -> None:
        """Throw away the copies of a remote: git could not read them."""
        home = self._home(remote)
        async with file_lock(home / LOCK):
            for place in (home / "full.git", home / "shallow.git"):
                if place.exists():
                    aside = place.with_name(f"{place.name}.{secrets.token_hex(4)}")
                    place.rename(aside)
                    await anyio.to_thread.run_sync(shutil.rmtree, aside, True)  # ignore_errors

    def _home(self, remote: Remote) -> Path:
        return self.root / hashlib.sha256(remote.url.encode()).hexdigest()[:32]

    async def _fetch(self, remote: Remote, wanted: Found, place: Path, *, shallow: bool) -> None:
        await self._opened(place)
        depth = ["--depth=1"] if shallow else []
        kept = f"{_KEPT}{wanted.commit}"
        try:
            await self._fetched(remote, place, [*depth, f"{wanted.commit}:{kept}"])
        except GitFailed as failure:
            if not failure.by_name_only:
                raise
            # an old server: by the name it was found under, else everything
            names = [f"+{wanted.name}:{kept}"] if wanted.name else ["+refs/*:refs/remotes/origin/*"]
            await self._fetched(remote, place, [*(depth if wanted.name else []), *names])
        if not await self.has(place, wanted.commit):
            raise RefUnknown(f"{remote.shown}: repository does not contain commit {wanted.commit}")

    async def _fetched(self, remote: Remote, place: Path, refs: list[str]) -> None:
        options = ["--quiet", "--force", "--no-tags", "--no-write-fetch-head", "--no-auto-gc"]
        options += [UPLOAD_PACK] if remote.url.startswith("file://") else []
        flags = [one for one in refs if one.startswith("--")]
        names = [one for one in refs if not one.startswith("--")]
        argv = ["fetch", *options, *flags, remote.url, *names]
        await self.git.run(*argv, access=remote.access, at=place, what=f"fetch of {remote.shown}")

    async def _opened(self, place: Path) -> None:
        """Make the copy if there is none; clear away what a killed fetch left. The lock is held."""
        for left in (*place.parent.glob("new-*"), *place.parent.glob("*.git.*")):
            shutil.rmtree(left, ignore_errors=True)
        if not (place / "HEAD").is_file():
            fresh = place.with_name(f"new-{secrets.token_hex(4)}")
            await self.git.run("init", "--quiet", "--bare", str(fresh))
            fresh.rename(place)
        for left in (*place.glob("*.lock"), *place.glob("refs/**/*.lock"), *place.glob("objects/pack/tmp_*")):
            left.unlink(missing_ok=True)
        for left in place.glob("objects/tmp_objdir-*"):
            shutil.rmtree(left, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class MirrorUse:
    """A remote's copies as they are on disk."""

    home: Path
    used: float
    size: int


def mirrors_in(root: Path) -> list[MirrorUse]:
    """The copies below ``root`` (``STATE/git``) that take up space."""
    found: list[MirrorUse] = []
    for home in sorted(root.iterdir()) if root.is_dir() else ():
        size = bytes_below(home)
        if size:
            lock = home / LOCK
            found.append(MirrorUse(home, (lock if lock.exists() else home).stat().st_mtime, size))
    return found


def drop_mirror(home: Path) -> bool:
    """Remove a remote's copies (a directory below ``STATE/git``) unless someone fetches into them now.

    A session that reads from them fetches again. For who clears the state by least-recent use.
    """
    with (home / LOCK).open("a") as lock:
        if not try_lock(lock):
            return False
        for place in home.iterdir():
            if place.name != LOCK:
                shutil.rmtree(place, ignore_errors=True)
    return True
