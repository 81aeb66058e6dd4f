"""Trees as blobs and back: one pack (a tar of directories and small files) and one blob for each big file.

Every directory and file in them is checked against the digest it is stored under before it is believed.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from embedded_engine.blobs import CHUNK
from embedded_engine.cache.index import CONTENT, PACK, Blob, CacheDamaged, TreeParts
from embedded_engine.entries import DirEntry, FileEntry
from embedded_engine.operations import TreeId
from embedded_engine.runtime.gzips import compress
from embedded_engine.trees import Trees

BIG = 1 << 20
_DIRECTORIES, _FILES = "directories/", "files/"


def packed(trees: Trees, tree: TreeId, blobs: Path, known: Callable[[str], Blob | None]) -> TreeParts:
    """Write the blobs that ``tree`` is made of into the blob directory ``blobs``; ``known`` big files are not
    written again. Raises TreeError or OSError."""
    directories: dict[str, bytes] = {}
    files: dict[str, FileEntry] = {}
    _collect(trees.get(tree), directories, files)
    big = {name: entry for name, entry in files.items() if entry.size >= BIG}
    made: dict[str, Blob] = {}
    for name, entry in sorted(big.items()):
        found = known(name)
        if found is None:
            with trees.blobs.content(entry).open("rb") as stream:
                found = _written(_pieces(stream), blobs, CONTENT)
        made[name] = found
    small = [entry for name, entry in sorted(files.items()) if name not in big]
    with tempfile.TemporaryFile(dir=blobs.parent) as plain:
        _write_tar(plain, directories, small, trees)
        plain.seek(0)
        return TreeParts(_written(_pieces(plain), blobs, PACK), made)


def unpack_file(trees: Trees, file: Path, sha256: str) -> None:
    """Take in a big file. Raises CacheDamaged if its content is not what its name says."""
    with _told(), tempfile.TemporaryFile(dir=file.parent) as plain, gzip.open(file) as stream:
        digest = hashlib.sha256()
        while piece := stream.read(CHUNK):
            digest.update(piece)
            plain.write(piece)
        if digest.hexdigest() != sha256:
            raise CacheDamaged("a file in the cache is not what its digest says")
        plain.flush()
        plain.seek(0)
        trees.blobs.add_stream(plain.fileno())


def unpack(trees: Trees, file: Path) -> None:
    """Take in a pack's directories and small files. Raises CacheDamaged."""
    bodies: dict[str, bytes] = {}
    with _told(), tarfile.open(file, "r:gz") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is None or member.size > 64 * BIG:
                raise CacheDamaged("a pack in the cache holds what it should not")
            data = stream.read()
            kind, _, name = member.name.partition("/")
            if hashlib.sha256(data).hexdigest() != name:
                raise CacheDamaged("a file in the cache is not what its digest says")
            if f"{kind}/" == _DIRECTORIES:
                bodies[name] = data
            else:
                trees.blobs.add_bytes(data)
        trees.index.add_directories(bodies)


def _collect(tree: DirEntry, directories: dict[str, bytes], files: dict[str, FileEntry]) -> None:
    if tree.digest in directories:
        return
    directories[tree.digest] = tree.body
    for child in tree.children.values():
        if isinstance(child, DirEntry):
            _collect(child, directories, files)
        elif isinstance(child, FileEntry):
            files[child.sha256] = child


def _write_tar(out: IO[bytes], directories: dict[str, bytes], small: list[FileEntry], trees: Trees) -> None:
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, body in sorted(directories.items()):
            _add(archive, _DIRECTORIES + name, body)
        for entry in small:
            _add(archive, _FILES + entry.sha256, trees.blobs.content(entry).read_bytes())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _written(pieces: Iterator[bytes], blobs: Path, media_type: str) -> Blob:
    with tempfile.NamedTemporaryFile(dir=blobs / "sha256", prefix=".new-", delete=False) as out:
        fresh = Path(out.name)
        with contextlib.ExitStack() as undo:
            undo.callback(fresh.unlink, missing_ok=True)
            made = compress(pieces, out)  # type: ignore[arg-type]  # a binary file
            out.flush()
            fresh.chmod(0o644)
            fresh.replace(blobs / "sha256" / made.digest.removeprefix("sha256:"))
            undo.pop_all()
    return Blob(made.digest, made.size, media_type, made.diff_id)


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    while piece := stream.read(CHUNK):
        yield piece


class _told:  # noqa: N801 - reads as a word at its use
    """Turns a pack that can't be read into a CacheDamaged."""

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile)):
            raise CacheDamaged(f"a blob of the cache can't be read: {error}") from error
