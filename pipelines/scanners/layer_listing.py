"""What is in one layer: listed once as a stream, verified, and kept as a small file.

The tar of a layer is that of the OCI image specification v1.1 ("Image Layer Filesystem Changeset"), packed
with gzip or not at all. No content of a file is kept.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import secrets
import tarfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from pipelines.scanners.layer_stream import LayerTooBigError, UnknownPackingError, opened

VERSION: Final = 1
MOST_IN_LAYER: Final = 500_000
WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"
KINDS: Final = {
    "f": "file",
    "d": "directory",
    "l": "link",
    "h": "hard link",
    "c": "character device",
    "b": "block device",
    "p": "fifo",
}
_DAMAGED: Final = (tarfile.TarError, EOFError, zlib.error, OSError, UnicodeError, OverflowError)


class DamagedLayer(Exception):
    """The layer can't be read to its end; the text says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of the tar."""

    kind: str
    """A key of ``KINDS``, or w (a whiteout of the path) or o (the path is opaque)."""
    path: str
    mode: int
    uid: int
    gid: int
    size: int
    target: str
    capabilities: bool

    @property
    def is_whiteout(self) -> bool:
        """Does it only say that something of a lower layer is gone?"""
        return self.kind in "wo"


def listing(path: Path, size: int, diff_id: str, kept: Path) -> list[str]:
    """Every entry as a line, for ``ended``; out of ``kept`` where the layer was listed before.

    Raises:
        DamagedLayer: it is not what ``diff_id`` says, or can't be read, or has too many entries.
    """
    file = kept / "layers" / f"{diff_id.removeprefix('sha256:')}.v{VERSION}.gz"
    try:
        return _recalled(file, diff_id)
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError):
        lines = _listed(path, size, diff_id)  # not listed yet, or what was kept is damaged
    _remember(file, diff_id, lines)
    return lines


def ended(lines: list[str]) -> Iterator[tuple[Row, bool]]:
    """Each entry, and whether it is what is at its path in the end: a tar may have a path twice."""
    last: dict[int, int] = {}
    again: set[int] = set()
    for number, line in enumerate(lines):
        kind, path = json.loads(line)[:2]
        key = hash((kind in "wo", path))
        if key in last:
            again.add(last[key])
        last[key] = number
    del last
    for number, line in enumerate(lines):
        yield Row(*json.loads(line)), number not in again


def read_files(path: Path, size: int, numbers: Collection[int]) -> Iterator[tuple[int, IO[bytes]]]:
    """The regular files with these numbers in the tar, and their content. Raises DamagedLayer."""
    last = max(numbers, default=-1)
    try:
        with opened(path, size) as stream, _archive(stream) as archive:
            for number, member in zip(range(last + 1), _members(archive), strict=False):
                if number in numbers and member.isreg() and (content := archive.extractfile(member)):
                    yield number, content
    except (UnknownPackingError, LayerTooBigError) as err:
        raise DamagedLayer(str(err)) from err
    except _DAMAGED as err:
        raise DamagedLayer(f"it can't be read: {err}") from err


def _listed(path: Path, size: int, diff_id: str) -> list[str]:
    lines: list[str] = []
    try:
        with opened(path, size) as stream:
            with _archive(stream) as archive:
                for member in _members(archive):
                    lines.append(json.dumps(_row(member), separators=(",", ":")))
                    if len(lines) > MOST_IN_LAYER:
                        raise DamagedLayer(f"it has more than {MOST_IN_LAYER} entries")
            found = stream.digest()
    except (UnknownPackingError, LayerTooBigError) as err:
        raise DamagedLayer(str(err)) from err
    except _DAMAGED as err:
        raise DamagedLayer(f"it can't be read: {err}") from err
    if found != diff_id:
        raise DamagedLayer("its content is not what the image's configuration says: it is damaged")
    return lines


def _archive(stream: object) -> tarfile.TarFile:
    # It goes forward only: nothing here asks tarfile for an earlier member.
    return tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:", errors="surrogateescape")


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while member := archive.next():
        # The list would grow with the layer. (typeshed leaves it out.)
        archive.members = []  # type: ignore[attr-defined]
        yield member


def _row(member: tarfile.TarInfo) -> list[Any]:  # Any: what JSON holds
    path = _clean(member.name)
    above, _, name = path.rpartition("/")
    kind, target = _kind(member), member.linkname
    if name == OPAQUE:
        kind, path = "o", above or "/"
    elif name.startswith(WHITEOUT):
        kind, path = "w", f"{above}/{name.removeprefix(WHITEOUT)}"
    elif kind in "cb":
        target = f"{member.devmajor}:{member.devminor}"
    size = member.size if member.isreg() else 0
    capabilities = "SCHILY.xattr.security.capability" in member.pax_headers
    return [kind, path, member.mode & 0o7777, member.uid, member.gid, size, target, capabilities]


def _kind(member: tarfile.TarInfo) -> str:
    kinds = {
        tarfile.DIRTYPE: "d",
        tarfile.SYMTYPE: "l",
        tarfile.LNKTYPE: "h",
        tarfile.CHRTYPE: "c",
        tarfile.BLKTYPE: "b",
        tarfile.FIFOTYPE: "p",
    }
    return kinds.get(member.type, "f")


def _clean(name: str) -> str:
    """The path from the image's root; ``..`` does not lead out of it."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _recalled(file: Path, diff_id: str) -> list[str]:
    with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
        head = json.loads(next(lines))
        if head["layer"] != diff_id or head["version"] != VERSION:
            raise ValueError("of another layer")
        rows = [line.rstrip("\n") for line in lines]
    if len(rows) != head["entries"] or _digest(rows) != head["sha256"]:
        raise ValueError("damaged")
    return rows


def _digest(rows: list[str]) -> str:
    """The SHA-256 of the rows as one text; row by row, for there may be half a million of them."""
    digest = hashlib.sha256()
    for number, row in enumerate(rows):
        digest.update(f"\n{row}".encode() if number else row.encode())
    return digest.hexdigest()


def _remember(file: Path, diff_id: str, rows: list[str]) -> None:
    """A full disk only costs time later."""
    head = {"layer": diff_id, "version": VERSION, "entries": len(rows), "sha256": _digest(rows)}
    temporary = file.with_suffix(f".{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(temporary, "wt", encoding="utf-8", compresslevel=1, newline="\n") as out:
            out.write(f"{json.dumps(head)}\n")
            out.writelines(f"{row}\n" for row in rows)
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
