"""What a secret looks like once a program has encoded it: the texts to hide for one value.

Hidden are the value, its trimmed form, each line of a value of several lines, and these percent-encoded or
escaped for JSON, HTML and a shell; the value also as base64 (RFC 4648 sections 4 and 5: both alphabets,
with and without padding, wrapped at 64 and 76 columns, inside a longer text at each of the three alignments)
and as hexadecimal digits. Not hidden: what was encrypted, compressed, reversed, cut up or encoded twice.
"""

from __future__ import annotations

import base64
import html
import json
import urllib.parse
from collections.abc import Iterator

SHORTEST = 4
"""A value of fewer bytes is not hidden at all: "a" would turn banana into b***n***n***."""
SHORTEST_LINE = 6
SHORTEST_CODE = 8  # an encoding shorter than this would be found where there is no secret
LONGEST_ENCODED = 64 * 1024
_WRAPS = (64, 76)  # openssl and PEM; MIME and coreutils


def disguises_of(value: bytes) -> frozenset[bytes]:
    """Every text that would tell ``value``; none for one that is too short to hide."""
    found: set[bytes] = set()
    trimmed = value.strip()
    if len(trimmed) < SHORTEST:
        return frozenset()
    for whole in {value, trimmed}:
        found.add(whole)
        if len(whole) <= LONGEST_ENCODED:
            found.update(_escaped(whole))
            found.update(code for code in _codes(whole) if len(code) >= SHORTEST_CODE)
    for line in _lines(trimmed):
        found.add(line)
        found.update(_escaped(line))
    return frozenset(found)


def _lines(value: bytes) -> Iterator[bytes]:
    """The lines of a value that has several, but for those that say nothing, such as a brace or a rule."""
    lines = value.splitlines()
    if len(lines) > 1:
        for line in lines:
            text = line.strip()
            if len(text) >= SHORTEST_LINE and len(set(text)) >= SHORTEST:
                yield text


def _escaped(value: bytes) -> Iterator[bytes]:
    """As it stands in a URL, in JSON, in HTML, in a shell's or Python's quotes."""
    for safe in ("", "/"):
        quoted = urllib.parse.quote(value, safe=safe)
        yield quoted.encode()
        yield _lower_percent(quoted).encode()
    plus = urllib.parse.quote_plus(value)
    yield plus.encode()
    yield _lower_percent(plus).encode()
    text = value.decode("utf-8", "surrogateescape")
    for ascii_only in (True, False):
        quoted = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield quoted.encode("utf-8", "surrogateescape")
        yield quoted.replace("/", "\\/").encode("utf-8", "surrogateescape")
        for character in "<>&":  # as Go's encoding/json and others write them
            quoted = quoted.replace(character, f"\\u{ord(character):04x}")
        yield quoted.encode("utf-8", "surrogateescape")
    yield html.escape(text).encode("utf-8", "surrogateescape")
    yield value.replace(b"'", b"'\\''")
    yield value.replace(b"'", b"'\"'\"'")  # shlex.quote
    yield repr(text)[1:-1].encode("utf-8", "surrogateescape")


def _lower_percent(quoted: str) -> str:
    first, *rest = quoted.split("%")
    return "%".join([first, *(part[:2].lower() + part[2:] for part in rest)])


def _codes(value: bytes) -> Iterator[bytes]:
    """Base64 and hexadecimal."""
    yield value.hex().encode()
    yield value.hex().upper().encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for whole in (value, value + b"\n"):  # as `echo` would hand it on
            text = encode(whole)
            yield text
            for width in _WRAPS:
                if len(text) > width:
                    yield from (text[start : start + width] for start in range(0, len(text), width))
        for before in range(3):
            yield _inner(encode(bytes(before) + value), before, len(value))


def _inner(text: bytes, before: int, size: int) -> bytes:
    """The characters of ``text`` that follow from the value alone, whatever stands around it.

    A character holds six bits: those that also hold bits of what is before or after are left out.
    """
    first = -(-before * 8 // 6)
    last = (before + size) * 8 // 6
    return text[first:last]
