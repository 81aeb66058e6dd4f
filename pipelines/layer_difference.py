"""Which files differ between two layers: read as streams, compared by what the tar holds of each file.

Layers are those of the OCI image specification v1.1 ("Image Layer Filesystem Changeset"): tar or gzip.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from pipelines.trace_hops import printable

MOST_FILES: Final = 100_000
"""In one layer; more are not compared, so that memory stays small."""
MOST_BYTES: Final = 4 << 30
"""Of one unpacked layer."""
SHOWN: Final = 3
_PIECE: Final = 1 << 20
_TOLD: Final = {
    "kind": "is of another kind",
    "content": "has other content",
    "target": "links to something else",
    "mode": "has another mode",
    "owner": "has another owner",
    "attributes": "has other extended attributes",
    "time": "has another time",
}
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


class CannotCompareError(Exception):
    """The layers can't be compared file by file; the text says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file, directory or link in a layer."""

    kind: str
    content: bytes
    mode: int
    owner: tuple[int, int]
    target: str
    attributes: bytes
    time: int

    def differences(self, other: Member) -> tuple[str, ...]:
        """What differs, the weightiest first."""
        return tuple(part for part in _TOLD if getattr(self, part) != getattr(other, part))


def differing_files(theirs: Path, ours: Path) -> str:
    """``app/server.py has other content, app/new.py is only in this build``; "" where no file differs.

    Raises:
        CannotCompareError: the packing is not known, a layer is damaged, or it holds too much.
    """
    known: dict[str, Member] = {}
    for name, member in members(theirs):
        if len(known) == MOST_FILES:
            raise CannotCompareError(f"more than {MOST_FILES} files")
        known[name] = member
    found: list[tuple[int, str]] = []
    for name, member in members(ours):
        before = known.pop(name, None)
        if before is None:
            found.append((_weight(member, "content"), f"{printable(name)} is only in this build"))
        elif parts := member.differences(before):
            found.append((_weight(member, parts[0]), f"{printable(name)} {_TOLD[parts[0]]}"))
    found += [
        (_weight(member, "content"), f"{printable(name)} is not in this build")
        for name, member in known.items()
    ]
    found.sort(key=lambda one: one[0])  # stable: otherwise in the layer's order
    more = len(found) - SHOWN
    return ", ".join([text for _, text in found[:SHOWN]] + ([f"and {more} more"] if more > 0 else []))


def _weight(member: Member, part: str) -> int:
    """A changed file is told before a mode, and that before the times of directories, which follow it."""
    if member.kind == "directory":
        return 3 if part == "time" else 1
    return {"time": 2}.get(part, 0 if part in ("kind", "content", "target") else 1)


def members(path: Path) -> Iterator[tuple[str, Member]]:
    """What a layer holds, in its order. Raises CannotCompareError."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=_unpacked(file), mode="r|") as archive:
            while entry := archive.next():
                # A stream never goes back, and the list would grow with the layer. (typeshed leaves it out.)
                archive.members = []  # type: ignore[attr-defined]
                yield entry.name.removeprefix("./").rstrip("/"), _member(archive, entry)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as err:
        raise CannotCompareError(f"a layer can't be read: {err}") from err


def _member(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> Member:
    digest = hashlib.blake2b(digest_size=16)
    if entry.isreg() and (file := archive.extractfile(entry)):
        while piece := file.read(_PIECE):
            digest.update(piece)
    elif entry.isdev():
        digest.update(f"{entry.devmajor}:{entry.devminor}".encode())
    own = sorted((key, text) for key, text in entry.pax_headers.items() if key.startswith("SCHILY.xattr."))
    attributes = hashlib.blake2b(repr(own).encode(), digest_size=8).digest() if own else b""
    return Member(
        kind=_kind(entry),
        content=digest.digest(),
        mode=entry.mode,
        owner=(entry.uid, entry.gid),
        target=entry.linkname,
        attributes=attributes,
        time=int(entry.mtime),
    )


def _kind(entry: tarfile.TarInfo) -> str:
    kinds = {tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "hard link"}
    return kinds.get(entry.type, "file" if entry.isreg() else "device")


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    magic = file.read(4)
    file.seek(0)
    if magic == _ZSTD:
        raise CannotCompareError("layers packed with zstd are not unpacked here")
    source = gzip.GzipFile(fileobj=file) if magic.startswith(_GZIP) else file
    return cast("IO[bytes]", _Bounded(cast("IO[bytes]", source)))  # tarfile only calls read


class _Bounded:
    """A stream that ends with an error where it becomes too long: a small file may unpack to anything."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._left = MOST_BYTES

    def read(self, size: int) -> bytes:
        """As of a file."""
        piece = self._source.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise CannotCompareError(f"a layer of more than {MOST_BYTES >> 30} GiB")
        return piece
