"""The request of a row out of a template: "{column}" in its texts stands for the row's value.

A text that is one placeholder alone takes the value with its type; ``{age:number}`` and ``{tags:json}`` read
a text as such, for CSV has nothing else. ``{{`` and ``}}`` are braces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final
from urllib.parse import quote

_PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{([^{}:]+)(?::(number|json|text))?\}")


class TemplateError(ValueError):
    """A template does not fit a row; ``hint`` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def filled(template: Mapping[str, object], row: Mapping[str, object]) -> dict[str, object]:
    """The ``request`` of ``row``. Raises TemplateError."""
    made = {key: _filled(value, row) for key, value in template.items() if key != "path"}
    if isinstance(path := template.get("path"), str):
        made["path"] = _text(path, row, lambda value: quote(value, safe=""))
    return made


def _filled(value: object, row: Mapping[str, object]) -> object:
    if isinstance(value, str):
        alone = _PLACEHOLDER.fullmatch(value)
        return _value(alone, row) if alone and alone[1] else _text(value, row)
    if isinstance(value, Mapping):
        return {key: _filled(item, row) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, row) for item in value]
    return value


def _text(template: str, row: Mapping[str, object], encode: object = None) -> str:
    def put(found: re.Match[str]) -> str:
        if not found[1]:
            return found[0][0]
        value = _value(found, row)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return encode(text) if callable(encode) else text

    return _PLACEHOLDER.sub(put, template)


def _value(found: re.Match[str], row: Mapping[str, object]) -> object:
    value, kind = column(found[1], row), found[2]
    if kind == "text":
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if kind is None or not isinstance(value, str):
        return value
    try:
        read = json.loads(value)
    except ValueError:
        read = None if kind == "json" else _number(value)
        if read is None:
            raise TemplateError(f'the column "{found[1]}" has {value[:60]!r}, which is no {kind}') from None
    if kind == "number" and (isinstance(read, bool) or not isinstance(read, int | float)):
        raise TemplateError(f'the column "{found[1]}" has {value[:60]!r}, which is no number')
    return read


def _number(text: str) -> float | None:
    """A number that JSON would write otherwise, like "+1" or ".5"."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number == number and abs(number) != float("inf") else None  # noqa: PLR0124  NaN


def column(name: str, row: Mapping[str, object]) -> object:
    """The row's value. Raises TemplateError, with the columns that there are."""
    if name in row:
        return row[name]
    near = get_close_matches(name, row, n=1)
    known = ", ".join(list(row)[:12])
    raise TemplateError(
        f'there is no column "{name}"', f'did you mean "{near[0]}"?' if near else f"there are {known}"
    )
