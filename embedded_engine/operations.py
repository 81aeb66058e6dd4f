"""What an operation is: something with a digest over its inputs, run at most once, its outcome stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NewType, Protocol, TypeVar

from embedded_engine.runtime.port import JSON, Runtime, Snapshot

if TYPE_CHECKING:
    from embedded_engine.secrets import Secrets
    from embedded_engine.services import Services
    from embedded_engine.trees import Trees
    from embedded_engine.volumes import Volumes

T = TypeVar("T")
TreeId = NewType("TreeId", str)
"""The content digest (64 hex) of a directory tree in the engine's tree store."""


def digest_of(kind: str, *parts: JSON) -> str:
    """The digest of an operation or value: sha256 over its kind and inputs. Never pass a secret's value."""
    text = json.dumps([kind, *parts], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation left behind: a file system (snapshot or tree), a config, outputs (masked)."""

    snapshot: Snapshot | None = None
    tree: TreeId | None = None
    config: Mapping[str, JSON] | None = None
    exit_code: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    combined: bytes = b""
    mounts: tuple[tuple[str, TreeId], ...] = ()  # writable mounts as the exec left them
    data: JSON = None  # anything else (small)


class Operation(Protocol):
    """One node of the graph. Implementations are frozen dataclasses that compute ``digest`` once, when made.

    ``keep`` False: the outcome is plain from the inputs (a tree that is there already): not stored, no event.
    """

    keep: ClassVar[bool]

    @property
    def digest(self) -> str:
        """64 hex digits over the inputs: parents' digests, arguments, contents; no secret value, no time."""
        ...

    @property
    def kind(self) -> str:
        """exec, from, copy, docker-build, import, directory, ..."""
        ...

    @property
    def name(self) -> str:
        """For people, one line, without secrets: "pip install numpy"."""
        ...

    async def run(self, work: Work) -> Outcome:
        """Do it. What is raised is what every waiter gets, and nothing is stored."""
        ...


class Work(Protocol):
    """What a running operation may use. Ask for parents *before* taking a slot, or the engine can lock up."""

    runtime: Runtime
    trees: Trees
    secrets: Secrets
    services: Services
    volumes: Volumes

    async def result(self, operation: Operation) -> Outcome:
        """The outcome of another operation: from the store, from who runs it now, or by running it."""
        ...

    async def recovering(self, call: Callable[[], Awaitable[T]]) -> T:
        """What ``call`` gives; content of a stored outcome that turns out lost is made again for it."""
        ...

    def working(self) -> None:
        """What the operation stands on is there: from now on the time is its own. A slot says so, too."""
        ...

    def slot(self) -> AbstractAsyncContextManager[None]:
        """One of as many places as there are cores, held while real work is done."""
        ...

    def watch(self) -> Callable[[int, bytes], None] | None:
        """Who is told (1 or 2 for the stream, masked bytes) what the operation's command says."""
        ...

    def view(self, source: Operation | None) -> AbstractAsyncContextManager[Path]:
        """A read-only host path of the root of what ``source`` gives (None: an empty directory)."""
        ...

    def scratch(self) -> AbstractAsyncContextManager[Path]:
        """A private temporary directory under the engine's state, removed afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class TreeLeaf:
    """A tree that is in the store already."""

    keep: ClassVar[bool] = False
    tree: TreeId
    digest: str = field(init=False)
    kind: ClassVar[str] = "tree"
    name: ClassVar[str] = "tree"

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of("tree", self.tree))

    async def run(self, work: Work) -> Outcome:
        """The tree itself."""
        return Outcome(tree=self.tree)
