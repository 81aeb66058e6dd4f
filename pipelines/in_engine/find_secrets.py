"""Passwords, tokens and private keys in the image's files. One line of JSON on standard output.

Usage: python3 -m pipelines.in_engine.find_secrets ROOT

A value is only told masked. A rule is looked for where its marker is, which is found much faster. A file that
a Debian package brought, and that nobody changed, is public and passed over.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from pipelines.in_engine.rootfs import File, Problems, debian_digests, files, tell
from pipelines.in_engine.secret_formats import MORE_RULES
from pipelines.in_engine.secret_rules import CONTENT_RULES, FILE_RULES, Hit, Rule, masked

CHUNK = 8 << 20
OVERLAP = 16 << 10
"""A secret that lies across two chunks is within their overlap: no rule matches more than this."""
LARGEST = 2 << 30
NUMBERS_ONLY = (".safetensors", ".gguf")
"""Formats with a header and numbers: of what is larger, the beginning is searched."""
BEGINNING = 128 << 20
SMALL = 4 << 20
TEXT = 8 << 10
"""Larger files with a NUL in their first bytes are binary, and ``secret_formats`` is not for them."""
LARGEST_NAMED = 1 << 20
MOST_HITS = 20
"""Findings told per file; the rest is counted."""


def main(arguments: list[str]) -> int:
    """Look through every file; the exit code is 1 when one was not read: no engine keeps the answer then."""
    root, problems = Path(arguments[0]), Problems()
    digests = debian_digests(root)
    found: list[dict[str, object]] = []
    looked_at = read = 0
    for file in files(root, problems):
        if not file.size:
            continue
        looked_at += 1
        try:
            hits = [] if _is_public(file, digests) else list(_hits(file, problems))
        except OSError as err:
            problems.add(file.path, err.strerror or err)
            continue
        read += file.size
        found.extend(told(file.path, hits))
    tell({"found": found, "looked_at": looked_at, "bytes": read, "problems": problems.told()})
    return 1 if problems.count else 0


def _hits(file: File, problems: Problems) -> Iterator[Hit]:
    if file.size > LARGEST and not file.path.endswith(NUMBERS_ONLY):
        problems.add(file.path, f"it is larger than {LARGEST >> 30} GiB")
        return
    with file.open() as stream:
        yield from hits_in(file.path, stream, file.size)


def hits_in(path: str, stream: "IO[bytes]", size: int) -> Iterator[Hit]:
    """The secrets in one file, read piece by piece. Of a huge one that holds numbers only, the beginning."""
    rules = [rule for rule in FILE_RULES if any(fnmatchcase(path, glob) for glob in rule.paths)]
    before, line, tail = 0, 1, b""
    content: Sequence[Rule] = CONTENT_RULES
    while chunk := stream.read(CHUNK):
        data = tail + chunk
        last = len(chunk) < CHUNK
        if not before and (size <= SMALL or b"\0" not in data[:TEXT]):
            content = (*CONTENT_RULES, *MORE_RULES)
        yield from _in_chunk(content, data, line, last=last)
        if rules and before == 0:
            yield from _by_name(rules, data[:LARGEST_NAMED])
        before += len(chunk)
        if last or (before >= BEGINNING and size > LARGEST):
            return
        tail = data[-OVERLAP:]
        line += data.count(b"\n", 0, len(data) - len(tail))


def _in_chunk(rules: "Sequence[Rule]", data: bytes, first_line: int, *, last: bool) -> Iterator[Hit]:
    """Hits that begin before the overlap; those within it come again with the next chunk."""
    end = len(data) if last else len(data) - OVERLAP
    for rule in rules:
        if rule.may_be_in(data):
            yield from (
                Hit(rule.id, rule.title, severity, first_line + data.count(b"\n", 0, at), value)
                for at, value, severity in rule.find(data)
                if at < end
            )


def _by_name(rules: list[Rule], data: bytes) -> Iterator[Hit]:
    for rule in rules:
        yield from (
            Hit(rule.id, rule.title, severity, 1 + data.count(b"\n", 0, at), value)
            for at, value, severity in rule.find(data)
        )


def told(path: str, hits: "list[Hit]") -> "Iterator[dict[str, object]]":
    """The hits in one file as they leave this program: masked."""
    for hit in hits[:MOST_HITS]:
        yield {
            "rule": hit.rule,
            "title": hit.title,
            "severity": hit.severity,
            "path": path,
            "line": hit.line,
            "masked": masked(hit.value),
            "more": max(0, len(hits) - MOST_HITS),
        }


def _is_public(file: File, digests: dict[str, str]) -> bool:
    """Is it, byte for byte, what a Debian package installed? Comparing is much faster than searching."""
    known = digests.get(file.path)
    if known is None:
        return False
    # dpkg's; Python 3.8 can't be told that it keeps no secret.
    digest = hashlib.md5(usedforsecurity=False) if sys.version_info >= (3, 9) else hashlib.md5()
    with file.open() as stream:
        for piece in iter(lambda: stream.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest() == known


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
