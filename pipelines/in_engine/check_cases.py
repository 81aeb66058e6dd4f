"""The lines of golden and evaluation files as values; a line that is wrong is told with its number.

Read on both sides: by the pipeline before anything is built, and by the check's client in its container. So
the standard library only, and Python 3.8.
"""

from __future__ import annotations

import difflib
import json
import math
import mimetypes
import re
from dataclasses import dataclass, field
from typing import Iterable, TypeVar  # noqa: UP035  # Python 3.8 runs it

T = TypeVar("T")

_TYPES = mimetypes.MimeTypes(())  # not the machine's own table: both sides have to tell the same
_METHOD = re.compile(r"[A-Z]{1,16}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_BODIES = ("json", "text", "body_file", "multipart")
_ANSWERS = ("json", "text", "body_file")


class LineError(ValueError):
    """A line is not a case. ``line`` counts from 1; 0 is the file itself."""

    def __init__(self, line: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.hint = hint


@dataclass(frozen=True)
class Part:
    """A field of a form: its text, or the file ``file`` beside the golden file."""

    name: str
    text: str = ""
    file: str | None = None
    media_type: str = ""


@dataclass(frozen=True)
class Request:
    """What is sent. The body is ``body``, or the file ``body_file`` beside the golden file, or a form."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    body_file: str | None = None
    form: tuple[Part, ...] = ()

    def named_files(self) -> list[tuple[str, str]]:
        """The key and the path of each file that is sent."""
        named = [("body_file", self.body_file), *(("file", part.file) for part in self.form)]
        return [(key, name) for key, name in named if name is not None]


@dataclass(frozen=True)
class Expected:
    """What must come back. ``json`` is compared as a subset where it has objects; see check_compare."""

    status: int = 200
    has_json: bool = False
    json: object = None
    text: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body_file: str | None = None
    whole_class: bool = False
    """Any status of the hundred that ``status`` begins will do: ``"4xx"``."""

    def takes(self, status: int) -> bool:
        """Whether an answer may have ``status``."""
        return status // 100 == self.status // 100 if self.whole_class else status == self.status

    @property
    def shown_status(self) -> str:
        """As it is written: 200, or 4xx."""
        return f"{self.status // 100}xx" if self.whole_class else str(self.status)


@dataclass(frozen=True)
class Case:
    """One golden case."""

    line: int
    name: str
    request: Request
    expected: Expected
    tolerance: dict[str, tuple[float, float]] = field(default_factory=dict)  # path -> absolute, relative
    ignore: tuple[str, ...] = ()

    def named_files(self) -> list[tuple[str, str]]:
        """The key and the path of each file that is sent or expected."""
        expected = self.expected.body_file
        return self.request.named_files() + ([("body_file", expected)] if expected is not None else [])


def golden_cases(text: str, path: str) -> list[Case]:
    """The cases of a golden file. ``path`` is the URL path of requests that name none. Raises LineError."""
    return golden_cases_of(_lines(text), path)


def golden_cases_of(pairs: Iterable[tuple[int, object]], path: str) -> list[Case]:
    """The same of cases that were read elsewhere, each with its line. Raises LineError."""
    cases: list[Case] = []
    names: dict[str, int] = {}
    for line, value in pairs:
        if not isinstance(value, dict):
            raise LineError(line, f"the case is {kind(value)}, not an object")
        case = _case(line, value, path)
        if case.name and case.name in names:
            raise LineError(
                line, f'the name "{case.name}" is there twice; first in line {names[case.name]}', "change one"
            )
        names[case.name] = line
        cases.append(case)
    return cases


def row_objects(text: str) -> list[tuple[int, dict[str, object]]]:
    """The JSON object of each line that is not empty, with the line's number. Raises LineError."""
    return _lines(text)


def request_of(line: int, value: dict[str, object], path: str) -> Request:
    """What ``value``, the "request" of a line, asks for. Raises LineError."""
    return _request(line, {"request": value}, path)


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
    headers = _headers(line, request)
    if "multipart" in request:
        form = _form(line, _typed(line, request, "multipart", dict))
        return Request(method, target, headers, form=form)
    body, body_file, media_type = _body(line, request)
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
    name = _beside(line, _typed(line, request, "body_file", str))
    return None, name, "application/octet-stream"


def _beside(line: int, name: str) -> str:
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise LineError(line, f'"{name}" is not a path below this file\'s directory')
    return name


def _form(line: int, fields: dict[str, object]) -> tuple[Part, ...]:
    """The fields of a form: a text, or ``{"file": PATH, "type": MEDIA_TYPE}``."""
    if not fields:
        raise LineError(line, '"multipart" has no field', 'like {"image": {"file": "cat.png"}}')
    return tuple(_part(line, name, value) for name, value in fields.items())


def _part(line: int, name: str, value: object) -> Part:
    if not name or not name.isprintable() or '"' in name:
        raise LineError(line, f"{json.dumps(name)} is no name of a field")
    if isinstance(value, str):
        return Part(name, value)
    if not isinstance(value, dict):
        raise LineError(line, f'the field "{name}" is {kind(value)}', 'a text, or {"file": "cat.png"}')
    _known(line, value, ("file", "type"), f'the field "{name}"')
    file = _beside(line, _typed(line, value, "file", str))
    media_type = _typed(line, value, "type", str, _TYPES.guess_type(file)[0] or "application/octet-stream")
    if not media_type.isprintable():
        raise LineError(line, f'the type of the field "{name}" is not one line of text')
    return Part(name, file=file, media_type=media_type)


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
    _known(line, expected, ("status", "headers", *_ANSWERS), '"expected"')
    status, whole_class = _status(line, expected.get("status", 200))
    answers = [key for key in _ANSWERS if key in expected]
    if len(answers) > 1:
        raise LineError(line, f'"expected" has both "{answers[0]}" and "{answers[1]}"', "keep one of them")
    text = _typed(line, expected, "text", str) if "text" in expected else None
    file = _beside(line, _typed(line, expected, "body_file", str)) if "body_file" in expected else None
    headers = _headers(line, expected)
    return Expected(status, "json" in expected, expected.get("json"), text, headers, file, whole_class)


def _status(line: int, value: object) -> tuple[int, bool]:
    """A status, or a class of them like ``"4xx"``."""
    if isinstance(value, str) and re.fullmatch(r"[1-5]xx", value):
        return int(value[0]) * 100, True
    if not isinstance(value, int) or isinstance(value, bool):
        raise LineError(
            line, f'"status" is {json.dumps(value)}', 'a whole number like 422, or a class like "4xx"'
        )
    if not 100 <= value <= 599:
        raise LineError(line, f"{value} is no HTTP status")
    return value, False


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
