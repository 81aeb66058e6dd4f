"""JSON over HTTP with the standard library only: bounded bodies, JSON errors, a quick end on SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_BODY = 4 << 20


class BadRequest(Exception):
    """What the caller did wrong; ``str()`` is the answer's "error"."""

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Request:
    """A request's body with its media type."""

    body: bytes
    content_type: str = "application/json"

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; BadRequest if it is something else."""
        try:
            value = json.loads(self.body, parse_constant=_no_constant)
            if b"\\u" in self.body:
                json.dumps(value, ensure_ascii=False).encode()  # half a character can only be escaped
        except (ValueError, RecursionError) as err:
            raise BadRequest(f"the body is not JSON: {err}") from err
        if not isinstance(value, dict):
            raise BadRequest("the body has to be a JSON object")
        return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def encode(value: Mapping[str, Any]) -> bytes:
    """``value`` as one line of JSON; NaN and infinity, which JSON has not, are a ValueError."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"


Route = Callable[[Request], Mapping[str, Any]]


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD /healthz, and POST for each route of the server."""

    protocol_version = "HTTP/1.1"
    server_version = "model"
    sys_version = ""
    timeout = 30  # seconds a connection may be silent
    server: ModelServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/healthz":
            self.answer(HTTPStatus.OK, {"status": "ok"})
        elif path in self.server.routes:
            self.answer(HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"{path} takes POST"}, {"Allow": "POST"})
        else:
            self.answer(HTTPStatus.NOT_FOUND, {"error": f"there is no {path}"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        try:
            body = self.body()
            route = self.server.routes.get(path)
            if route is None:
                raise BadRequest(f"nothing takes POST at {path}", HTTPStatus.NOT_FOUND)
            data = encode(route(Request(body, self.headers.get_content_type())))
        except BadRequest as err:
            self.answer(err.status, {"error": str(err)})
        except Exception:
            traceback.print_exc()
            self.answer(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "the model failed; its log tells why"})
        else:
            self.send(HTTPStatus.OK, data)

    def body(self) -> bytes:
        """The whole body. A refused one is left unread, so the connection ends with the answer."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self.close_connection = True
            raise BadRequest("Content-Length is needed", HTTPStatus.LENGTH_REQUIRED)
        if len(length) > 18 or int(length) > MAX_BODY:
            self.close_connection = True
            raise BadRequest(f"at most {MAX_BODY} bytes are taken", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            raise BadRequest("the body ended early")
        return body

    def answer(self, status: int, value: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """Send ``value`` as JSON."""
        self.send(status, encode(value), headers)

    def send(self, status: int, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send ``data``, which is JSON; to HEAD only its headers."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses (unknown methods, broken request lines) is told in JSON too."""
        self.close_connection = True
        self.answer(code, {"error": message or HTTPStatus(code).phrase})

    def log_message(self, format: str, *args: object) -> None:
        if getattr(self, "path", "") != "/healthz":
            super().log_message(format, *args)


class ModelServer(ThreadingHTTPServer):
    """A server of ``routes``; each request has its own thread."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], routes: Mapping[str, Route]) -> None:
        self.routes = dict(routes)
        super().__init__(address, Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no error of ours."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def serve(routes: Mapping[str, Route]) -> None:
    """Serve on $PORT (8080) until SIGTERM or Ctrl-C."""
    server = ModelServer(("", int(os.environ.get("PORT", "8080"))), routes)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"serving {', '.join(routes)} on port {server.server_port}", file=sys.stderr, flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
