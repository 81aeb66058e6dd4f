"""Secrets in files that a later layer deletes or replaces: whoever pulls the image still gets them.

What is visible in the final file system is searched in the engine; here are only the entries that are not,
read as streams on our side (docs/adr/0011). A layer is read again only when other entries of it are hidden,
or the rules changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import IO, Any, Final

from pipelines.in_engine import find_secrets, secret_formats, secret_rules
from pipelines.in_engine.rootfs import Problems, merged_usr
from pipelines.scanners.layers import ImageLayers, LayerEntry
from pipelines.scanners.port import CouldNotLookError

_DPKG: Final = "/var/lib/dpkg/info/"
_LONGEST_LIST: Final = 16 << 20
_PIECE: Final = 1 << 20


def secrets_of_deleted(layers: ImageLayers) -> dict[str, Any]:
    """What ``find_secrets`` tells of files, for those hidden; each with its layer and its fate. Blocks.

    Any: JSON, as it is kept. No value is in it but masked.

    Raises:
        CouldNotLookError: a layer can't be read to its end.
    """
    name = f"deleted-secrets-{_key(_rules(), *(layer.diff_id for layer in layers.layers))}"
    if (known := layers.recall(name)) is not None:
        return known
    hidden: dict[int, list[LayerEntry]] = {}
    for entry in layers.entries():
        if entry.deleted_by is not None and entry.kind == "file" and entry.size:
            hidden.setdefault(entry.index, []).append(entry)
    answers = [_of_layer(layers, index, entries) for index, entries in sorted(hidden.items())]
    answer: dict[str, Any] = {
        "found": [one for part in answers for one in part["found"]],
        "looked_at": sum(part["looked_at"] for part in answers),
        "bytes": sum(part["bytes"] for part in answers),
        "problems": [text for part in answers for text in part["problems"]],
    }
    if not answer["problems"]:
        layers.remember(name, answer)
    return answer


def _of_layer(layers: ImageLayers, index: int, entries: list[LayerEntry]) -> dict[str, Any]:
    """The answer for one layer's hidden entries, from an earlier look if there was one."""
    layer = layers.layers[index - 1]
    by_number = {entry.number: entry for entry in entries}
    known = json.dumps([[entry.number, entry.fate] for entry in entries])
    name = f"deleted-in-{_key(_rules(), layer.diff_id, str(index), known)}"
    if (kept := layers.recall(name)) is not None:
        return kept
    problems = Problems()
    found: list[dict[str, Any]] = []
    for number, content in layers.read(index, by_number):
        found.extend(_in_entry(by_number[number], content, problems))
    public = _public(layers, index, {one["number"] for one in found}) if found else frozenset()
    answer: dict[str, Any] = {
        "found": [one for one in found if one["number"] not in public],
        "looked_at": len(entries),
        "bytes": sum(entry.size for entry in entries),
        "problems": problems.told(),
    }
    if not problems.count:
        layers.remember(name, answer)
    return answer


def _in_entry(entry: LayerEntry, content: IO[bytes], problems: Problems) -> Iterable[dict[str, Any]]:
    if entry.size > find_secrets.LARGEST and not entry.path.endswith(find_secrets.NUMBERS_ONLY):
        problems.add(entry.path, f"it is larger than {find_secrets.LARGEST >> 30} GiB")
        return
    hits = list(find_secrets.hits_in(entry.path, content, entry.size))
    for one in find_secrets.told(entry.path, hits):
        yield {**one, "number": entry.number, "layer": entry.layer, "index": entry.index, "fate": entry.fate}


def _public(layers: ImageLayers, index: int, numbers: set[int]) -> frozenset[int]:
    """Which of the files are what a Debian package installed, by the lists of any layer up to theirs."""
    contents: dict[int, str] = {}
    for number, content in layers.read(index, numbers):
        digest = hashlib.md5(usedforsecurity=False)  # dpkg keeps no better ones
        while piece := content.read(_PIECE):
            digest.update(piece)
        contents[number] = digest.hexdigest()
    listed: set[tuple[str, str]] = set()
    paths: dict[int, str] = {}
    lists: dict[int, set[int]] = {}
    for entry in layers.entries():
        if entry.index == index and entry.number in numbers:
            paths[entry.number] = entry.path
        if entry.index <= index and entry.path.startswith(_DPKG) and entry.path.endswith(".md5sums"):
            lists.setdefault(entry.index, set()).add(entry.number)
    wanted = {*paths.values()}
    for below, those in lists.items():
        for _, content in layers.read(below, those):
            listed |= _sums(content.read(_LONGEST_LIST), wanted)
    return frozenset(number for number, path in paths.items() if (path, contents.get(number, "")) in listed)


def _sums(text: bytes, wanted: set[str]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for line in text.decode("utf-8", "replace").splitlines():
        digest, _, path = line.partition("  ")
        found |= {(one, digest) for one in (f"/{path}", merged_usr(f"/{path}")) if one in wanted}
    return found


def _rules() -> str:
    """What the search is made of: another program is another answer."""
    digest = hashlib.sha256()
    for module in (find_secrets, secret_formats, secret_rules):
        try:
            with open(str(module.__file__), "rb") as source:  # noqa: PTH123  three small files
                digest.update(source.read())
        except OSError as err:
            raise CouldNotLookError(f"the scanner's own program can't be read: {err}") from err
    return digest.hexdigest()


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
