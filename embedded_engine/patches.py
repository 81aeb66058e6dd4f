"""Patches as changes of a tree: by `git apply`, which refuses paths that lead out of the directory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from embedded_engine.entries import DirEntry, Entry, FileEntry, LinkEntry, TreeError
from embedded_engine.host_import import Origin
from embedded_engine.operations import Work
from embedded_engine.runtime.git import Git, GitFailed
from embedded_engine.runtime.port import JSON
from embedded_engine.tree_sources import entry_of, in_thread
from embedded_engine.values import File


@dataclass(frozen=True, slots=True)
class Patched:
    """The patch that a file holds."""

    source: File
    git: Git = field(repr=False, compare=False)

    def recipe(self) -> JSON:
        """The patch by its digest."""
        return ["patched", self.source.digest]

    async def apply(self, work: Work, tree: DirEntry) -> DirEntry:
        """Apply it. Raises TreeError with what git said."""
        entry = await entry_of(work, self.source)
        patch = await in_thread(lambda: work.trees.blobs.content(entry).read_bytes())
        async with work.scratch() as scratch:
            # a repository of our own beside it: one in the directory must not have its configuration read
            aside, target = scratch / "git", scratch / "tree"
            await in_thread(lambda: work.trees.copy_out(tree, target))
            await self.git.run("init", "--quiet", "--bare", str(aside))
            argv = [f"--git-dir={aside}", f"--work-tree={target}", "apply", "--allow-empty", "-"]
            try:
                await self.git.run(*argv, at=target, stdin=patch, what="git apply")
            except GitFailed as failure:
                raise TreeError(str(failure), detail=failure.detail) from failure
            origin = Origin("the patched directory", "container")
            after = await in_thread(lambda: work.trees.read_directory(target, origin))
        kept = _with_times(after, tree)
        return kept if isinstance(kept, DirEntry) else after


def _with_times(after: Entry, before: Entry | None) -> Entry:
    """``after`` with the times (which reading does not tell) of what the patch left alone."""
    if isinstance(after, DirEntry) and isinstance(before, DirEntry):
        children = {n: _with_times(child, before.children.get(n)) for n, child in after.children.items()}
        return replace(after, children=children, mtime=before.mtime)
    if isinstance(after, FileEntry | LinkEntry) and isinstance(before, FileEntry | LinkEntry):
        same = replace(after, mtime=before.mtime)
        return same if same == before else after
    return after
