"""What an error may repeat of a request: nothing that ``setSecret`` was given, or was to be given.

A parser or a coercion quotes what it can't take (GraphQL, October 2021, 7.1.2 leaves the wording open), and
the value of a secret is not known as one before the request was understood. So in errors of a document that
has ``setSecret`` every literal and every variable's value is hidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from embedded_engine.masking import Hidden, mask_text

_FIELD = re.compile(r"\bsetSecret\b|\bplaintext\b", re.IGNORECASE)
_LITERAL = re.compile(
    r'"""(?P<block>(?:\\"""|.)*?)(?:"""|\Z)'
    r'|"(?P<text>(?:\\.|[^"\\\n])*)(?:"|$)'
    r"|(?P<bare>-?\d[\w.+-]*)"
    r"|(?<=:)\s*(?P<name>[A-Za-z_]\w*)",
    re.DOTALL | re.MULTILINE,
)
_ESCAPE = re.compile(r'\\(u[0-9A-Fa-f]{4}|u\{[0-9A-Fa-f]+\}|["\\/bfnrt])')
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_VARIABLE = re.compile(r"\A(Variable '\$\w+'(?: at '[^']*')? has invalid value)\b.*", re.DOTALL)


def told(message: str, query: str, variables: Mapping[str, Any] | None = None) -> str:
    """``message`` about ``query`` without what it may quote of a secret."""
    if not _FIELD.search(query):
        return message
    cut = _VARIABLE.sub(r"\1 (values are not repeated in a request with secrets)", message)
    return mask_text(cut, Hidden.of([*_literals(query), *_leaves(variables or {})]))


def _literals(query: str) -> Iterator[str]:
    for match in _LITERAL.finditer(query):
        text = match[match.lastgroup or 0] or ""
        yield text
        if "\\" in text:
            yield _ESCAPE.sub(_unescaped, text)
            yield text.replace('\\"""', '"""')


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code.strip("u{}"), 16)) if code[0] == "u" else _ESCAPED.get(code, code)


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield str(name)
            yield from _leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one)
    elif value is not None:
        yield str(value)
