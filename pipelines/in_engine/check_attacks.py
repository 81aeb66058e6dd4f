"""The hostile requests of the rung "abuse", made out of one that the model answers. Python 3.8's own library.

An attack is a list of shots, the same ones each time: whole requests, or bytes for a connection.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Callable, Dict, List, Tuple  # noqa: UP035  # Python 3.8 runs it

from pipelines.in_engine.check_cases import Request

JSON_TYPE = "application/json"
MOST_KEYS = 8
DEEP = 100_000
OTHER_TYPES: tuple[object, ...] = (None, True, 0, -1.5, "", "text", [], [[1]], {}, {"a": 1})
WHOLE_BODIES: tuple[object, ...] = (None, 1, "x", [], [{}])


@dataclass(frozen=True)
class Shot:
    """One hostile request. ``may_close``: ending the connection without an answer is an answer."""

    name: str
    request: Request
    may_close: bool = False


@dataclass(frozen=True)
class RawShot:
    """Bytes on a connection of their own; then the sending side is closed."""

    name: str
    data: bytes


Shots = List[Shot]  # noqa: UP006
RawShots = List[RawShot]  # noqa: UP006


def json_object(request: Request) -> dict[str, object]:
    """The body of ``request`` as a JSON object; an empty one where it is something else."""
    try:
        value: object = json.loads(request.body or b"")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def with_body(request: Request, body: bytes, media_type: str = "") -> Request:
    """``request`` as a POST of ``body``."""
    others = tuple(pair for pair in request.headers if not (media_type and pair[0].lower() == "content-type"))
    method = request.method if request.method in ("POST", "PUT", "PATCH") else "POST"
    return Request(
        method, request.path, (*others, ("Content-Type", media_type)) if media_type else others, body
    )


def _json_shot(request: Request, name: str, value: object) -> Shot:
    return Shot(name, with_body(request, json.dumps(value).encode(), JSON_TYPE))


def _text_shot(request: Request, name: str, text: str) -> Shot:
    return Shot(name, with_body(request, text.encode("utf-8", "surrogatepass"), JSON_TYPE))


def _changed(request: Request, key: str, text: str) -> str:
    """The body of ``request`` with the JSON ``text``, valid or not, as the value of ``key``."""
    pairs = {name: json.dumps(value) for name, value in json_object(request).items()}
    pairs[key] = text
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in pairs.items()) + "}"


def _keys(request: Request) -> list[str]:
    return list(json_object(request))[:MOST_KEYS] or ["data"]


def empty(request: Request, plan: dict[str, int]) -> Shots:
    """No body at all, and one of no bytes, under several media types."""
    shots = [
        Shot(f"an empty body, {kind}", with_body(request, b"", kind)) for kind in (JSON_TYPE, "text/plain")
    ]
    return [*shots, Shot("white space", with_body(request, b" \r\n\t ", JSON_TYPE))]


def huge(request: Request, plan: dict[str, int]) -> Shots:
    """A body that is far too large: as one long text where the model takes JSON, and as mere bytes."""
    size = plan["huge_mb"] << 20
    long = _changed(request, _keys(request)[0], '"' + "a" * size + '"').encode()
    return [
        Shot(f"{plan['huge_mb']} MB of JSON", with_body(request, long, JSON_TYPE), may_close=True),
        Shot(f"{plan['huge_mb']} MB of zeros", with_body(request, bytes(size)), may_close=True),
    ]


def malformed(request: Request, plan: dict[str, int]) -> Shots:
    """What is no JSON, nearly JSON, or cut off; and the right body under a wrong media type."""
    whole = request.body or b'{"data": 1}'
    texts = {
        "a brace": b"{",
        "plain text": b"this is not JSON",
        "a trailing comma": b'{"a": 1,}',
        "half of a good body": whole[: len(whole) // 2],
        "two documents": whole + whole,
        "bytes that are no UTF-8": b'{"data": "\xff\xfe\x80"}',
        "a null byte": b"\x00",
        "binary": bytes(range(256)) * 16,
    }
    shots = [Shot(name, with_body(request, body, JSON_TYPE)) for name, body in texts.items()]
    return [*shots, Shot("a good body as XML", with_body(request, whole, "text/xml; charset=nonsense"))]


def wrong_types(request: Request, plan: dict[str, int]) -> Shots:
    """Every value replaced by one of another type; and no object at all."""
    found = [_json_shot(request, f"the body is {json.dumps(value)}", value) for value in WHOLE_BODIES]
    value = json_object(request)
    for key in _keys(request):
        for other in OTHER_TYPES:
            if key not in value or type(other) is not type(value[key]):
                name = f'"{key}" is {json.dumps(other)}'
                found.append(_json_shot(request, name, {**value, key: other}))
    return found


def missing_fields(request: Request, plan: dict[str, int]) -> Shots:
    """Every field left out, one by one and all; and one that nobody knows."""
    value = json_object(request)
    found = [_json_shot(request, "an empty object", {}), _json_shot(request, "an unknown field", {"x": 1})]
    if len(value) > 1:
        for key in _keys(request):
            rest: dict[str, object] = {name: item for name, item in value.items() if name != key}
            found.append(_json_shot(request, f'without "{key}"', rest))
    return found


def deep(request: Request, plan: dict[str, int]) -> Shots:
    """Nesting that exhausts the stack of a reader that recurses."""
    lists, objects = "[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP
    return [
        _text_shot(request, f"{DEEP} lists", lists),
        _text_shot(request, f"{DEEP} lists that do not end", "[" * DEEP),
        _text_shot(request, f"{DEEP} objects", objects),
        _text_shot(
            request,
            f'"{_keys(request)[0]}" is 900 lists',
            _changed(request, _keys(request)[0], "[" * 900 + "]" * 900),
        ),
    ]


def numbers(request: Request, plan: dict[str, int]) -> Shots:
    """Numbers that are none, or larger than any that a machine has."""
    texts = {
        "NaN": "NaN",
        "Infinity": "-Infinity",
        "1e999": "1e999",
        "5000 digits": "9" * 5000,
        "a list of 1e999": "[1e999, NaN]",
        "2**64": str(2**64),
    }
    return [
        _text_shot(request, f'"{key}" is {name}', _changed(request, key, text))
        for key in _keys(request)
        for name, text in texts.items()
    ]


def text(request: Request, plan: dict[str, int]) -> Shots:
    """Texts that are hard to encode, split or print."""
    texts = {
        "a lone surrogate": '"\\ud800"',
        "null characters": '"a\\u0000b\\u0000"',
        "100 000 combining marks": '"a' + "\\u0301" * 100_000 + '"',
        "a text of line breaks": '"' + "\\r\\n" * 1000 + '"',
        "white space": '" \\t\\u00a0\\u2028 "',
        "a path": '"../../../../etc/passwd"',
        "braces and percents": '"%s%n{0.__class__}${jndi:x}\'; --"',
    }
    return [
        _text_shot(request, f'"{key}" is {name}', _changed(request, key, value))
        for key in _keys(request)
        for name, value in texts.items()
    ]


def unknown_path(request: Request, plan: dict[str, int]) -> Shots:
    """Paths that are not there, and ones that lead out."""
    body = request.body or b"{}"
    paths = (
        "/no-such-path-x7",
        "/../../etc/passwd",
        "/%00",
        "/%ff%fe",
        "/" + "a" * 8000,
        "//",
        "/?" + "a=1&" * 500,
    )
    return [
        Shot(
            f"{method} {path[:40]}",
            Request(method, path, request.headers, body if method == "POST" else None),
        )
        for path in paths
        for method in ("GET", "POST")
    ]


def unknown_method(request: Request, plan: dict[str, int]) -> Shots:
    """Methods that the path does not take, or nobody."""
    methods = ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FROBNICATE")
    return [
        Shot(
            f"{method} {request.path}",
            Request(method, request.path, (), None),
            may_close=method == "FROBNICATE",
        )
        for method in methods
        if method != request.method
    ]


def garbage(request: Request, plan: dict[str, int]) -> RawShots:
    """Bytes that are no HTTP."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200))
    return [
        RawShot("a TLS greeting", hello),
        RawShot("all bytes", bytes(range(256)) * 64),
        RawShot("a line without end", b"A" * 200_000),
        RawShot("an unknown version", b"GET / HTTP/9.9\r\nHost: model\r\n\r\n"),
        RawShot("a broken header", b"GET / HTTP/1.1\r\n: :\r\n\x00\xff\r\n\r\n"),
        RawShot("10 000 headers", b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10_000 + b"\r\n"),
    ]


def lengths(request: Request, plan: dict[str, int]) -> RawShots:
    """Lengths that are a lie."""
    head = f"POST {request.path} HTTP/1.1\r\nHost: model\r\nContent-Type: {JSON_TYPE}\r\n".encode()
    fields = {
        "a negative length": b"Content-Length: -1",
        "a length that is no number": b"Content-Length: many",
        "a length of 10**18": b"Content-Length: 1000000000000000000",
        "a length of 5000 digits": b"Content-Length: " + b"9" * 5000,
        "two lengths": b"Content-Length: 2\r\nContent-Length: 3",
        "a length that is too large": b"Content-Length: 1000",
        "chunks that are none": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0",
        "a chunk without end": b"Transfer-Encoding: chunked\r\n\r\nffffff\r\n{}",
    }
    return [RawShot(name, head + line + b"\r\nConnection: close\r\n\r\n{}") for name, line in fields.items()]


def half_open(request: Request) -> tuple[bytes, bytes]:
    """What is sent on connections that then stay silent: half a head, and a head with half a body."""
    line = f"POST {request.path} HTTP/1.1\r\nHost: model\r\n".encode()
    return line[: len(line) // 2], line + b"Content-Length: 1000\r\n\r\n{"


ATTACKS: Dict[str, Callable[[Request, Dict[str, int]], Shots]] = {  # noqa: UP006
    "empty": empty,
    "huge": huge,
    "malformed": malformed,
    "wrong_types": wrong_types,
    "missing_fields": missing_fields,
    "deep": deep,
    "numbers": numbers,
    "text": text,
    "unknown_path": unknown_path,
    "unknown_method": unknown_method,
}
RAW_ATTACKS: Dict[str, Callable[[Request, Dict[str, int]], RawShots]] = {  # noqa: UP006
    "garbage": garbage,
    "lengths": lengths,
}
NAMES: Tuple[str, ...] = (*ATTACKS, *RAW_ATTACKS, "slow", "concurrent")  # noqa: UP006
