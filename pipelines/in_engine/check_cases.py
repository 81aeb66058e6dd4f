"""The lines of golden and evaluation files as values; a line that is wrong is told with its number.

Read on both sides: by the pipeline before anything is built, and by the check's client in its container. So
the standard library only, and Python 3.8.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

_METHOD = re.compile(r"[A-Z]{1,16}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_BODIES = ("json", "text", "body_file")


class LineError(ValueError):
    """A line is not a case. ``line`` counts from 1; 0 is the file itself."""

    def __init__(self, line: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.hint = hint


@dataclass(frozen=True)
class Request:
    """What is sent. The body is ``body``, or the file ``body_file`` beside the JSONL file."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    body_file: str | None = None


@dataclass(frozen=True)
class Expected:
    """What must come back. ``json`` is compared as a subset where it has objects; see check_compare."""

    status: int = 200
    has_json: bool = False
    json: object = None
    text: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Case:
    """One golden case."""

    line: int
    name: str
    request: Request
    expected: Expected
    tolerance: dict[str, tuple[float, float]] = field(default_factory=dict)  # path -> absolute, relative
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of evaluation data: a request and the prediction that would be right."""

    line: int
    name: str
    request: Request
    expected: object


def golden_cases(text: str, path: str) -> list[Case]:
    """The cases of a golden file. ``path`` is the URL path of requests that name none. Raises LineError."""
    return [_case(line, value, path) for line, value in _lines(text)]


def quality_rows(text: str, path: str, *, numbers: bool) -> list[Row]:
    """The rows of an evaluation file; with ``numbers`` each expected value is one. Raises LineError."""
    return [_row(line, value, path, numbers) for line, value in _lines(text)]


def _lines(text: str) -> list[tuple[int, dict[str, object]]]:
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            found.append((number, _object(number, line)))
    if not found:
        raise LineError(0, "there is no case in it", "each line is one JSON object; see docs/check.md")
    return found


def _object(number: int, line: str) -> dict[str, object]:
    try:
        value = json.loads(line, parse_constant=_not_json, object_pairs_hook=_without_twins)
    except json.JSONDecodeError as err:
        raise LineError(
            number, f"not JSON: {err.msg} (column {err.colno})", "each line is one JSON object"
        ) from err
    except (ValueError, RecursionError) as err:
        raise LineError(number, f"not JSON: {err}", "each line is one JSON object") from err
    if not isinstance(value, dict):
        raise LineError(number, f"the line is {kind(value)}, not an object", "each line is one JSON object")
    return value


def _not_json(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twin = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f'"{twin}" stands there twice')
    return value


def _case(line: int, value: dict[str, object], path: str) -> Case:
    _known(line, value, ("name", "request", "expected", "tolerance", "ignore"), "a golden case")
    ignore = _typed(line, value, "ignore", list, [])
    if not all(isinstance(item, str) for item in ignore):
        raise LineError(line, '"ignore" is a list of paths, like ["took_ms"]')
    return Case(
        line,
        _typed(line, value, "name", str, ""),
        _request(line, value, path),
        _expected(line, value),
        {
            key: _tolerance(line, key, item)
            for key, item in _typed(line, value, "tolerance", dict, {}).items()
        },
        tuple(ignore),
    )


def _row(line: int, value: dict[str, object], path: str, numbers: bool) -> Row:
    _known(line, value, ("name", "request", "expected"), "a line of evaluation data")
    if "expected" not in value:
        raise LineError(line, '"expected" is missing: the prediction that would be right')
    expected = value["expected"]
    if numbers and not is_number(expected):
        raise LineError(line, f'"expected" is {kind(expected)}; the metric needs a number')
    if not numbers and not isinstance(expected, (str, int, bool)):
        raise LineError(
            line, f'"expected" is {kind(expected)}; a class is a text, a whole number or true/false'
        )
    return Row(line, _typed(line, value, "name", str, ""), _request(line, value, path), expected)


def _request(line: int, value: dict[str, object], path: str) -> Request:
    request = _typed(line, value, "request", dict)
    _known(line, request, ("method", "path", "headers", *_BODIES), '"request"')
    bodies = [key for key in _BODIES if key in request]
    if len(bodies) > 1:
        raise LineError(line, f'"request" has both "{bodies[0]}" and "{bodies[1]}"', "keep one of them")
    method = _typed(line, request, "method", str, "POST" if bodies else "GET")
    if not _METHOD.fullmatch(method):
        raise LineError(line, f'"{method}" is no HTTP method', "write it in capitals, like POST")
    target = _typed(line, request, "path", str, path)
    if not target.startswith("/") or not target.isascii() or any(c <= " " for c in target):
        raise LineError(
            line, f'"{target}" is not the path of a URL', 'it starts with "/"; encode what is not ASCII'
        )
    headers, (body, body_file, media_type) = _headers(line, request), _body(line, request)
    if media_type and not any(name.lower() == "content-type" for name, _ in headers):
        headers = (*headers, ("Content-Type", media_type))
    return Request(method, target, headers, body, body_file)


def _body(line: int, request: dict[str, object]) -> tuple[bytes | None, str | None, str]:
    if "json" in request:
        return (
            json.dumps(request["json"], ensure_ascii=False).encode("utf-8", "surrogatepass"),
            None,
            "application/json",
        )
    if "text" in request:
        return (
            _typed(line, request, "text", str).encode("utf-8", "surrogatepass"),
            None,
            "text/plain; charset=utf-8",
        )
    if "body_file" not in request:
        return None, None, ""
    name = _typed(line, request, "body_file", str)
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise LineError(line, f'"{name}" is not a path below this file\'s directory')
    return None, name, "application/octet-stream"


def _headers(line: int, value: dict[str, object]) -> tuple[tuple[str, str], ...]:
    headers = _typed(line, value, "headers", dict, {})
    for name, text in headers.items():
        if (
            not _HEADER.fullmatch(name)
            or not isinstance(text, str)
            or any(c < " " and c != "\t" for c in text)
        ):
            raise LineError(line, f'the header "{name}" is not one line of text')
    return tuple(headers.items())


def _expected(line: int, value: dict[str, object]) -> Expected:
    expected = _typed(line, value, "expected", dict)
    _known(line, expected, ("status", "json", "text", "headers"), '"expected"')
    status = _typed(line, expected, "status", int, 200)
    if not 100 <= status <= 599:
        raise LineError(line, f"{status} is no HTTP status")
    if "json" in expected and "text" in expected:
        raise LineError(line, '"expected" has both "json" and "text"', "keep one of them")
    text = _typed(line, expected, "text", str) if "text" in expected else None
    return Expected(status, "json" in expected, expected.get("json"), text, _headers(line, expected))


def _tolerance(line: int, key: str, value: object) -> tuple[float, float]:
    """``0.01`` is short for ``{"absolute": 0.01}``."""
    if is_number(value):
        value = {"absolute": value}
    if not isinstance(value, dict) or not value:
        raise LineError(
            line, f'the tolerance of "{key}" is {kind(value)}', '{"absolute": 0.01} or {"relative": 0.01}'
        )
    _known(line, value, ("absolute", "relative"), f'the tolerance of "{key}"')
    for number in value.values():
        if not is_number(number) or number < 0:
            raise LineError(line, f'the tolerance of "{key}" is not a number of 0 or more')
    return float(value.get("absolute", 0.0)), float(value.get("relative", 0.0))


def _known(line: int, value: dict[str, object], keys: tuple[str, ...], where: str) -> None:
    for key in value:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(keys)}"
            raise LineError(line, f'unknown key "{key}" in {where}', hint)


def _typed(line: int, value: dict[str, object], key: str, kind_: type[T], default: T | None = None) -> T:
    """``value[key]``, held to be a ``kind_``; the default where it is absent. Without one it is needed."""
    if key not in value:
        if default is None:
            raise LineError(line, f'"{key}" is missing')
        return default
    found = value[key]
    if not isinstance(found, kind_) or (kind_ is int and isinstance(found, bool)):
        wanted = {str: "a text", int: "a whole number", dict: "an object", list: "a list"}[kind_]
        raise LineError(line, f'"{key}" is {kind(found)}, not {wanted}')
    return found


def is_number(value: object) -> bool:
    """A finite JSON number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def kind(value: object) -> str:
    """What ``value`` is in JSON's words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "nothing JSON knows")
