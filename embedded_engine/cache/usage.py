"""What the state directory holds and how much it is, read from indexes: no tree of files is walked."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from embedded_engine.cache.selection import Item
from embedded_engine.entries import DirEntry, FileEntry, TreeError
from embedded_engine.git_mirrors import MirrorUse, mirrors_in
from embedded_engine.operations import TreeId
from embedded_engine.runtime.images import LAYER_FACT
from embedded_engine.runtime.state import State
from embedded_engine.store import Store
from embedded_engine.trees import Trees
from embedded_engine.volumes import VolumeUse, volumes_in

GIT = "git"
ROW, IMAGE, VOLUME, MIRROR = "row:", "image:", "volume:", "git:"


@dataclass(slots=True)
class Usage:
    """Items, what they need, and how big that is."""

    items: list[Item] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    snapshots: dict[str, str] = field(default_factory=dict)  # by row's digest
    trees: dict[str, tuple[TreeId, ...]] = field(default_factory=dict)  # by row's digest
    missing: set[str] = field(default_factory=set)  # rows whose content is neither here nor promised
    blob_of: dict[str, str] = field(default_factory=dict)  # raw layer digest -> compressed blob's digest
    layer_digest: dict[str, str] = field(default_factory=dict)  # storage's layer id -> raw digest
    images: dict[str, tuple[str, ...]] = field(default_factory=dict)  # image id -> its layers
    made_at: dict[str, float] = field(default_factory=dict)  # by layer
    volumes: list[VolumeUse] = field(default_factory=list)
    mirrors: list[MirrorUse] = field(default_factory=list)

    @classmethod
    def of(cls, store: Store, state: State, trees: Trees, *, volumes: bool = False) -> Usage:
        """Everything that is stored."""
        usage = cls()
        usage._storage(store, state)
        usage._rows(store, trees)
        usage.mirrors = mirrors_in(state.root / GIT)
        for mirror in usage.mirrors:
            usage._alone(MIRROR + mirror.home.name, mirror.used, mirror.size)
        if volumes:
            usage.volumes = volumes_in(state.root / "volumes")
            for one in usage.volumes:
                usage._alone(VOLUME + one.digest, one.used, one.size)
        return usage

    def _alone(self, name: str, used: float, size: int) -> None:
        """Something that shares nothing with anything else."""
        self.sizes[name] = size
        self.items.append(Item(name, used, contents=frozenset({name})))

    def beyond(self, keep: set[str]) -> int:
        """The bytes that no item of ``keep`` needs."""
        parts: set[str] = set()
        for item in self.items:
            if item.name in keep:
                parts |= {*item.chain, *item.contents}
        return sum(size for part, size in self.sizes.items() if part not in parts)

    def _storage(self, store: Store, state: State) -> None:
        for key, value in store.facts(LAYER_FACT).items():
            if isinstance(value, dict):
                self.blob_of[key] = str(value["digest"])
        parents: dict[str, str] = {}
        made: dict[str, float] = {}
        for layer in state.index("layers"):
            identity = str(layer["id"])
            parents[identity] = str(layer.get("parent") or "")
            self.layer_digest[identity] = str(layer.get("diff-digest") or "")
            blob = self.blob_of.get(self.layer_digest[identity], "")
            packed = state.blob(blob) if blob else None
            self.sizes[identity] = int(layer.get("diff-size") or 0) + (_size(packed) if packed else 0)
            made[identity] = _time(str(layer.get("created") or ""))
        for image in state.index("images"):
            chain: list[str] = []
            layer_id = str(image.get("layer") or "")
            while layer_id:
                chain.append(layer_id)
                layer_id = parents.get(layer_id, "")
            self.images[str(image["id"])] = tuple(reversed(chain))
        self.made_at = made

    def _rows(self, store: Store, trees: Trees) -> None:
        named: set[str] = set()
        for row in store.rows():
            snapshot = row.outcome.snapshot or ""
            contents: set[str] = set()
            for tree in row.trees:
                if trees.complete(tree):
                    contents |= self._contents(trees, tree)
                elif store.promise("tree", tree) is None:
                    self.missing.add(row.digest)
            if snapshot and snapshot not in self.images and store.promise("snapshot", snapshot) is None:
                self.missing.add(row.digest)
            self.snapshots[row.digest], self.trees[row.digest] = snapshot, row.trees
            named.add(snapshot)
            chain = self.images.get(snapshot, ())
            self.items.append(Item(ROW + row.digest, row.used, chain, frozenset(contents)))
        for image, chain in self.images.items():
            if image not in named:  # a Dockerfile's step, or what a session that died left
                used = max((self.made_at.get(layer, 0.0) for layer in chain[-1:]), default=0.0)
                self.items.append(Item(IMAGE + image, used, chain))

    def _contents(self, trees: Trees, tree: TreeId) -> set[str]:
        found: set[str] = set()
        with contextlib.suppress(TreeError):
            todo = [trees.get(tree)]
            while todo:
                for child in todo.pop().children.values():
                    if isinstance(child, DirEntry):
                        todo.append(child)
                    elif isinstance(child, FileEntry):
                        found.add(child.sha256)
                        self.sizes[child.sha256] = child.size
        return found


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes by kind."""

    snapshots: int
    layers: int
    trees: int
    git: int

    @property
    def total(self) -> int:
        """Without cache volumes, which are only removed when that is asked for."""
        return self.snapshots + self.layers + self.trees + self.git

    @classmethod
    def of(cls, state: State) -> Sizes:
        """What is there now: one index file, two kinds of flat directories, and repositories, which have few
        files."""
        snapshots = sum(int(layer.get("diff-size") or 0) for layer in state.index("layers"))
        files = state.root / "trees" / "files"
        buckets = [files / name for name in (os.listdir(files) if files.is_dir() else ())]  # noqa: PTH208
        mirrors = sum(one.size for one in mirrors_in(state.root / GIT))
        return cls(snapshots, flat_size(state.blobs / "sha256"), sum(map(flat_size, buckets)), mirrors)


def flat_size(directory: Path) -> int:
    """The bytes of the files right in a directory."""
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as found:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in found if entry.is_file())
    return 0


def live_sessions(state: Path, own: str = "") -> list[float]:
    """When the sessions that are at work now began."""
    return list(_live(state / "trees" / "tmp", own))


def _live(temp: Path, own: str) -> Iterator[float]:
    for directory in temp.iterdir() if temp.is_dir() else ():
        if directory.name == own:
            continue
        try:
            with (directory / "alive").open("r+") as stream:
                began = os.fstat(stream.fileno()).st_mtime
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield began
        except OSError:
            continue


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _time(text: str) -> float:
    try:
        return datetime.fromisoformat(text[:19] + "+00:00").timestamp()
    except ValueError:
        return 0.0
