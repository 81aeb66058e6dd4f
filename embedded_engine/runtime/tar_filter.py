"""Dropping from a layer's tar stream what `buildah bud` leaves of its mounts; everything else passes byte for
byte.

https://www.gnu.org/software/tar/manual/html_node/Standard.html: 512-byte blocks, a header before each entry,
`x` and `L`/`K` entries that belong to the one after them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from embedded_engine.runtime.host_settings import TARGET
from embedded_engine.runtime.port import RuntimeFailure

_BLOCK = 512
_CHUNK = 1 << 20
_EXTENSIONS = b"xLK"
_OVERLAY = (b"SCHILY.xattr.user.overlay.", b"SCHILY.xattr.trusted.overlay.")
_PLACEHOLDERS = ("etc/hosts", "etc/resolv.conf", "etc/hostname", "run/.containerenv")
_OURS = TARGET.strip("/")


@dataclass(frozen=True, slots=True)
class Entry:
    """The header of one tar entry, as far as a filter looks at it."""

    name: str  # without leading and trailing slashes
    size: int
    kind: bytes
    mode: int


def is_residue(entry: Entry) -> bool:
    """Whether an entry is an empty mount point that Buildah or this engine made (1.28 makes files 0755,
    empty)."""
    if entry.name == _OURS or entry.name.startswith((_OURS + "/", _OURS + "-")):
        return True
    if entry.name == "run/secrets":
        return entry.kind == b"5"
    if entry.name in _PLACEHOLDERS:
        return entry.size == 0 and entry.kind in b"0\0" and entry.mode & 0o777 == 0o755
    return False


def filtered(stream: BinaryIO, drop: Callable[[Entry], bool] = is_residue) -> Iterator[bytes]:
    """The tar ``stream`` without the entries ``drop`` names. Raises RuntimeFailure if it is no tar stream."""
    held = b""  # extension headers, until it is known whether their entry stays
    name: str | None = None
    while header := stream.read(_BLOCK):
        if len(header) < _BLOCK:
            raise RuntimeFailure("a layer's tar stream is cut off")
        if not header.strip(b"\0"):
            yield header
            yield from iter(lambda: stream.read(_CHUNK), b"")
            return
        entry = _entry(header, name)
        padded = -(-entry.size // _BLOCK) * _BLOCK
        if entry.kind in _EXTENSIONS:
            body = stream.read(padded)
            name = _long_name(entry, body) or name
            held += without_overlay(header, body, entry.size) if entry.kind == b"x" else header + body
            continue
        dropped = drop(entry)
        if not dropped:
            yield held + header
        held, name = b"", None
        for piece in _body(stream, padded):
            if not dropped:
                yield piece


def without_overlay(header: bytes, body: bytes, size: int) -> bytes:
    """A pax header without the overlay file system's own attributes, which rootless storage lets out.

    With them a layer made rootless would differ from the same one made by root.
    """
    records = list(_records(body[:size]))
    kept = [record for record in records if not _pair(record)[0].startswith(_OVERLAY)]
    if len(kept) == len(records):
        return header + body
    if not kept:
        return b""
    data = b"".join(kept)
    fresh = header[:124] + b"%011o\0" % len(data) + header[136:148] + b" " * 8 + header[156:]
    fresh = fresh[:148] + b"%06o\0 " % sum(fresh) + fresh[156:]
    return fresh + data + b"\0" * (-len(data) % _BLOCK)


def _records(data: bytes) -> Iterator[bytes]:
    """The "LENGTH KEY=VALUE\\n" records of a pax header."""
    while data:
        length = int(data.partition(b" ")[0])
        yield data[:length]
        data = data[length:]


def _pair(record: bytes) -> tuple[bytes, bytes]:
    key, _, value = record.partition(b" ")[2].removesuffix(b"\n").partition(b"=")
    return key, value


def _body(stream: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        piece = stream.read(min(size, _CHUNK))
        if not piece:
            raise RuntimeFailure("a layer's tar stream is cut off")
        size -= len(piece)
        yield piece


def _entry(header: bytes, name: str | None) -> Entry:
    if name is None:
        name = _text(header[:100])
        prefix = _text(header[345:500]) if header[257:262] == b"ustar" and header[263:265] == b"00" else ""
        name = f"{prefix}/{name}" if prefix else name
    return Entry(
        name.removeprefix("./").strip("/"),
        _number(header[124:136]),
        header[156:157],
        _number(header[100:108]),
    )


def _long_name(entry: Entry, body: bytes) -> str | None:
    if entry.kind == b"L":
        return _text(body)
    if entry.kind == b"x":
        for key, value in map(_pair, _records(body[: entry.size])):
            if key == b"path":
                return value.decode("utf-8", "surrogateescape")
    return None


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # base 256, for sizes past 8 GiB
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    return int(field.strip(b"\0 ") or b"0", 8)
