"""A commit's files as an operation: stored by repository and commit."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import ClassVar

from embedded_engine.git_sources import GitSources, Wanted
from embedded_engine.git_values import GitRef
from embedded_engine.host_import import Origin
from embedded_engine.operations import Outcome, Work, digest_of
from embedded_engine.runtime.port import JSON
from embedded_engine.tree_sources import in_thread


@dataclass(frozen=True, slots=True)
class GitTree:
    """The tree of ``ref``. Who may read the repository is no part of its identity: what is in it is."""

    keep: ClassVar[bool] = True
    kind: ClassVar[str] = "git"
    ref: GitRef
    wanted: Wanted
    sources: GitSources = field(repr=False, compare=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        repository, wanted = self.ref.repository, self.wanted
        place = repository.directory.digest if repository.directory else repository.url
        kept: list[JSON] = [self.ref.name, wanted.depth, wanted.tags] if wanted.git_directory else []
        object.__setattr__(self, "digest", digest_of("git-tree", place, self.ref.commit, *kept))

    @property
    def name(self) -> str:
        """Repository and commit."""
        return f"{self.ref.repository.shown} {self.ref.commit[:12]}"

    async def run(self, work: Work) -> Outcome:
        """Fetch what lacks and check it out. Raises GitFailed or RefUnknown."""
        async with work.scratch() as scratch:
            target = scratch / "tree"
            await self.sources.checkout(work, self.ref, target, self.wanted)
            if not self.wanted.git_directory:
                await in_thread(lambda: shutil.rmtree(target / ".git"))
            origin = Origin(self.ref.repository.shown)
            async with work.slot():
                entry = await in_thread(lambda: work.trees.read_directory(target, origin))
        return Outcome(tree=work.trees.put(entry))
