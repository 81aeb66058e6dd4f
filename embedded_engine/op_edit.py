"""Changes to a container's file system that need no process in it: files copied, written, linked, removed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeAlias

from embedded_engine.evaluator import gathered
from embedded_engine.operations import Operation, Outcome, Work, digest_of
from embedded_engine.paths import inside
from embedded_engine.runtime.port import JSON, SCRATCH, Copy, Edit, Link, Remove, Write
from embedded_engine.values import Container, Directory, File, digest_or_none


@dataclass(frozen=True, slots=True)
class CopyOf:
    """A directory's content, or a file, put at ``target``."""

    source: Directory | File
    target: str
    owner: str = ""
    mode: int | None = None


Change: TypeAlias = CopyOf | Write | Link | Remove


@dataclass(frozen=True, slots=True)
class EditRootfs:
    """``changes`` in order, as one layer on ``parent``."""

    keep: ClassVar[bool] = True
    kind: ClassVar[str] = "copy"
    parent: Operation | None
    changes: tuple[Change, ...]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        recipes: JSON = [_recipe(change) for change in self.changes]
        object.__setattr__(self, "digest", digest_of("edit", digest_or_none(self.parent), recipes))

    @property
    def name(self) -> str:
        """Where the changes are."""
        return ", ".join(change.target for change in self.changes[:4]) + (
            " …" if len(self.changes) > 4 else ""
        )

    async def run(self, work: Work) -> Outcome:
        """Apply the changes. Raises RuntimeFailure or what a source's evaluation raises."""
        sources = [change.source.source for change in self.changes if isinstance(change, CopyOf)]
        needs = {one.digest: one for one in (self.parent, *sources) if one is not None}
        calls: list[Callable[[], Awaitable[Outcome]]] = [
            lambda one=one: work.result(one)  # type: ignore[misc]  # bound early
            for one in needs.values()
        ]
        await gathered(calls)
        parent = SCRATCH
        if self.parent is not None:
            parent = (await work.result(self.parent)).snapshot or SCRATCH
        async with contextlib.AsyncExitStack() as stack, work.slot():
            edits = [await _edit(work, stack, change) for change in self.changes]
            return Outcome(snapshot=await work.runtime.edit(parent, edits))


async def _edit(work: Work, stack: contextlib.AsyncExitStack, change: Change) -> Edit:
    if isinstance(change, Write):
        work.secrets.warn_of(change.data, f"the new file {change.target}")
    if not isinstance(change, CopyOf):
        return change
    root = await stack.enter_async_context(work.view(change.source.source))
    path = change.source.path
    return Copy(inside(root, path), change.target, change.owner, change.mode, path.rsplit("/", 1)[-1])


def _recipe(change: Change) -> JSON:
    match change:
        case CopyOf():
            kind = type(change.source).__name__
            return ["copy", kind, change.source.digest, change.target, change.owner, change.mode]
        case Write():
            content = hashlib.sha256(change.data).hexdigest()
            return ["write", content, change.target, change.owner, change.mode]
        case Link():
            return ["link", change.target, change.to]
        case Remove():
            return ["remove", change.target]


def edited(container: Container, *changes: Change) -> Container:
    """The container with ``changes`` made.

    Small changes right after one another share a layer; a copied directory or file begins its own, so that
    code never shares a layer with the weights before it.
    """
    last = container.rootfs
    if isinstance(last, EditRootfs) and not any(isinstance(change, CopyOf) for change in changes):
        return container.having(rootfs=replace(last, changes=(*last.changes, *changes)))
    return container.having(rootfs=EditRootfs(last, changes))
