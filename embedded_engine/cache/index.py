"""What a cache that travels says: rows by operation, and of which blobs their snapshots and trees are made.

One OCI image manifest (https://github.com/opencontainers/image-spec/blob/main/manifest.md): its annotation
says which engine and platform it is for, its first layer is the rows (gzip of JSON), all others are the blobs
that the rows need. So any registry stores it, keeps its blobs alive, and ``skopeo copy`` moves it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from embedded_engine import __version__
from embedded_engine.operations import Outcome, TreeId
from embedded_engine.runtime import oci
from embedded_engine.runtime.port import JSON, RuntimeFailure, Snapshot
from embedded_engine.runtime.single_id import is_single
from embedded_engine.session import machine_platform
from embedded_engine.store import StoredRow

FORMAT = 1
SCOPE_NOTE = "dev.embedded-engine.cache.scope"
ROWS = "application/vnd.embedded-engine.cache.rows.v1+gzip"
CONFIG = "application/vnd.embedded-engine.cache.config.v1+json"
PACK = "application/vnd.embedded-engine.cache.tree.v1.tar+gzip"
CONTENT = "application/vnd.embedded-engine.cache.file.v1+gzip"
_FRESHER_S = 3600
"""Times of use that differ by less are not worth a new index."""


class CacheFault(RuntimeFailure):
    """A cache can't be read or written, or what it holds is not what it says."""


class CacheDamaged(CacheFault):
    """What a cache holds is not what its digests say, or can't be read as what it should be."""


@dataclass(frozen=True, slots=True)
class Blob:
    """One blob by digest ("sha256:..."); ``diff_id`` is the digest of what is compressed in it."""

    digest: str
    size: int
    media_type: str
    diff_id: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotParts:
    """What a snapshot can be made from: its layers, base first."""

    platform: Mapping[str, str]
    layers: tuple[Blob, ...]

    @property
    def identity(self) -> Snapshot:
        """The id the snapshot has wherever it is made from these parts."""
        config = oci.bare_config(self.platform, [layer.diff_id for layer in self.layers])
        return Snapshot(oci.digest_of(config).removeprefix("sha256:"))

    def document(self) -> JSON:
        """As JSON."""
        return {"platform": dict(self.platform), "layers": [_blob_document(one) for one in self.layers]}

    @classmethod
    def parse(cls, document: JSON) -> SnapshotParts:
        """From JSON. Raises CacheFault."""
        with _told():
            found = cast(dict[str, Any], document)  # checked by use: whatever is wrong is a CacheFault
            layers = tuple(_parsed_blob(one) for one in found["layers"])
            return cls({str(name): str(value) for name, value in found["platform"].items()}, layers)


@dataclass(frozen=True, slots=True)
class TreeParts:
    """What a tree can be made from: a pack of its directories and small files, and its big files by
    content."""

    pack: Blob
    files: Mapping[str, Blob] = field(default_factory=dict)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """All of them."""
        return (self.pack, *self.files.values())

    def document(self) -> JSON:
        """As JSON."""
        files: dict[str, JSON] = {name: _blob_document(blob) for name, blob in self.files.items()}
        return {"pack": _blob_document(self.pack), "files": files}

    @classmethod
    def parse(cls, document: JSON) -> TreeParts:
        """From JSON. Raises CacheFault."""
        with _told():
            found = cast(dict[str, Any], document)  # as above
            files = {str(name): _parsed_blob(blob) for name, blob in found["files"].items()}
            return cls(_parsed_blob(found["pack"]), files)


@dataclass(slots=True)
class Index:
    """Rows by digest, and the parts of the snapshots and trees they name."""

    rows: dict[str, StoredRow] = field(default_factory=dict)
    snapshots: dict[str, SnapshotParts] = field(default_factory=dict)
    trees: dict[str, TreeParts] = field(default_factory=dict)

    def blobs(self) -> dict[str, Blob]:
        """Every blob that is needed, by digest."""
        found = [layer for parts in self.snapshots.values() for layer in parts.layers]
        found += [blob for parts in self.trees.values() for blob in parts.blobs]
        return {blob.digest: blob for blob in found}

    def add(self, other: Index) -> bool:
        """Take over the rows of ``other`` that are not here; whether that changed anything worth writing.

        A row that is here stands: another outcome of the same operation is as good.
        """
        changed = False
        for digest, row in other.rows.items():
            own = self.rows.get(digest)
            if own is None:
                if other._whole(row):
                    self._take(row, other)
                    changed = True
            elif row.used > own.used + _FRESHER_S:
                self.rows[digest] = replace(own, used=row.used)
                changed = True
        return changed

    def _whole(self, row: StoredRow) -> bool:
        snapshot = row.outcome.snapshot
        return (not snapshot or snapshot in self.snapshots) and all(tree in self.trees for tree in row.trees)

    def _take(self, row: StoredRow, other: Index) -> None:
        self.rows[row.digest] = row
        if row.outcome.snapshot:
            self.snapshots.setdefault(row.outcome.snapshot, other.snapshots[row.outcome.snapshot])
        for tree in row.trees:
            self.trees.setdefault(tree, other.trees[tree])

    def only(self, digests: Iterable[str]) -> Index:
        """Some of the rows and what they need."""
        smaller = Index()
        for digest in digests:
            smaller._take(self.rows[digest], self)
        return smaller


def scope() -> str:
    """Which engines and machines may use each other's rows.

    Images made in a namespace with one id have lost their owners, which nobody else may believe.
    """
    owners = "-single-id" if is_single() else ""
    return f"{FORMAT}-{__version__}-{machine_platform().replace('/', '-')}{owners}"


def manifest_of(index: Index) -> tuple[bytes, dict[str, bytes]]:
    """The manifest for ``index``, and the blobs it brings itself, by digest."""
    rows = gzip.compress(_encoded(_index_document(index)), 6, mtime=0)
    config = b"{}"
    own = {_digest(rows): rows, _digest(config): config}
    layers = [
        {"mediaType": ROWS, "digest": _digest(rows), "size": len(rows)},
        *(
            {"mediaType": one.media_type, "digest": one.digest, "size": one.size}
            for _, one in sorted(index.blobs().items())
        ),
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "config": {"mediaType": CONFIG, "digest": _digest(config), "size": len(config)},
        "layers": layers,
        "annotations": {SCOPE_NOTE: scope()},
    }
    return oci.encoded(manifest), own


def rows_blob(manifest: bytes, shown: str) -> Blob:
    """Where a manifest's rows are. Raises CacheFault if they are not for this engine."""
    with _told(shown):
        document = json.loads(manifest)
        found = (document.get("annotations") or {}).get(SCOPE_NOTE)
        if found is None:
            raise CacheFault(f"{shown} is no cache of the embedded engine")
        if found != scope():
            raise CacheFault(
                f"{shown} is a cache of another engine or platform ({found}; this one is {scope()})"
            )
        layer = document["layers"][0]
        return Blob(str(layer["digest"]), int(layer["size"]), str(layer["mediaType"]))


def parse_rows(data: bytes, shown: str) -> Index:
    """The rows of a cache. Raises CacheFault."""
    with _told(shown):
        document = json.loads(gzip.decompress(data))
        index = Index(
            snapshots={one: SnapshotParts.parse(parts) for one, parts in document["snapshots"].items()},
            trees={one: TreeParts.parse(parts) for one, parts in document["trees"].items()},
        )
        for identity, parts in index.snapshots.items():
            if parts.identity != identity:
                raise CacheDamaged(f"{shown}: the layers of {identity[:12]} are not those it names")
        for row in (_parsed_row(one) for one in document["rows"]):
            needed = ({row.outcome.snapshot} if row.outcome.snapshot else set()) - index.snapshots.keys()
            if needed or set(row.trees) - index.trees.keys():
                raise CacheDamaged(f"{shown}: a row names what is not in the cache")
            index.rows[row.digest] = row
        return index


def _index_document(index: Index) -> JSON:
    rows: list[JSON] = [_row_document(row) for _, row in sorted(index.rows.items())]
    snapshots: dict[str, JSON] = {one: index.snapshots[one].document() for one in sorted(index.snapshots)}
    trees: dict[str, JSON] = {one: index.trees[one].document() for one in sorted(index.trees)}
    return {"rows": rows, "snapshots": snapshots, "trees": trees}


def _row_document(row: StoredRow) -> JSON:
    outcome = row.outcome
    outputs: list[JSON] = [
        base64.b64encode(data).decode() for data in (outcome.stdout, outcome.stderr, outcome.combined)
    ]
    mounts: list[JSON] = [list(pair) for pair in outcome.mounts]
    return {
        "digest": row.digest,
        "kind": row.kind,
        "name": row.name,
        "snapshot": outcome.snapshot,
        "tree": outcome.tree,
        "config": None if outcome.config is None else dict(outcome.config),
        "exit_code": outcome.exit_code,
        "outputs": outputs,
        "mounts": mounts,
        "data": outcome.data,
        "times": [row.seconds, row.made, row.used],
    }


def _parsed_row(found: dict[str, Any]) -> StoredRow:  # JSON from outside; what is wrong is told by the caller
    stdout, stderr, combined = (base64.b64decode(data) for data in found["outputs"])
    seconds, made, used = (float(number) for number in found["times"])
    outcome = Outcome(
        snapshot=None if found["snapshot"] is None else Snapshot(str(found["snapshot"])),
        tree=None if found["tree"] is None else TreeId(str(found["tree"])),
        config=found["config"],
        exit_code=int(found["exit_code"]),
        stdout=stdout,
        stderr=stderr,
        combined=combined,
        mounts=tuple((str(target), TreeId(str(tree))) for target, tree in found["mounts"]),
        data=found["data"],
    )
    return StoredRow(
        str(found["digest"]), str(found["kind"]), str(found["name"]), outcome, seconds, made, used
    )


def _blob_document(blob: Blob) -> JSON:
    return [blob.digest, blob.size, blob.media_type, blob.diff_id]


def _parsed_blob(found: list[Any]) -> Blob:  # JSON from outside, as above
    digest, size, media_type, diff_id = found
    if not is_digest(str(digest)):
        raise CacheDamaged("a blob's digest is not one")  # it becomes a file name
    return Blob(str(digest), int(size), str(media_type), str(diff_id))


def is_digest(text: str) -> bool:
    """Whether this is "sha256:" and 64 hex digits."""
    algorithm, _, value = text.partition(":")
    return algorithm == "sha256" and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _encoded(document: JSON) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class _told:  # noqa: N801 - reads as a word at its use
    """Turns whatever is wrong with a document into a CacheFault."""

    def __init__(self, shown: str = "the cache") -> None:
        self._shown = shown

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(
            error,
            (KeyError, IndexError, TypeError, ValueError, AttributeError, OSError, EOFError, zlib.error),
        ):
            raise CacheDamaged(f"{self._shown}: what it holds can't be read ({error})") from error
