"""The session's HTTP face: POST /query on 127.0.0.1, the session token as basic auth user.

Answers are 200 with JSON even for operations that fail: an SDK retries a 5xx or a lost connection for 16 s.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from embedded_engine.events import parse_traceparent, span_id
from embedded_engine.introspection import IntrospectionCache
from embedded_engine.loading import LoadedApi, NotLoaded

if TYPE_CHECKING:
    from embedded_engine.api import Answer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_JSON = (b"content-type", b"application/json; charset=utf-8")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")


class BadRequest(Exception):
    """The body is not a GraphQL request; told with the status and code that Dagger's engine has for it."""

    def __init__(self, message: str, status: int = 400, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def answer(self) -> dict[str, Any]:
        """As GraphQL's errors (https://spec.graphql.org/October2021/#sec-Errors)."""
        extensions = {"extensions": {"code": self.code}} if self.code else {}
        return {"errors": [{"message": str(self), **extensions}], "data": None}


@dataclass(slots=True)
class Application:
    """The ASGI application of one session."""

    token: str = field(repr=False)
    loaded: LoadedApi
    introspection: IntrospectionCache
    requests: set[anyio.CancelScope] = field(default_factory=set)
    ended: bool = False

    def close(self) -> None:
        """The session ends: no request waits any longer, and who asks on an open connection is told so."""
        self.ended = True
        for scope in list(self.requests):
            scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        if not authorised(headers.get("authorization", ""), self.token):
            await _respond(send, 401, b"", (b"www-authenticate", b'Basic realm="Access to the session"'))
        elif scope["path"] != "/query":
            await _respond(send, 404, b"404 page not found\n", _TEXT)
        elif scope["method"] != "POST":
            await _respond(send, 405, b"use POST\n", _TEXT)
        else:
            span_id.set(parse_traceparent(headers.get("traceparent", "")))
            await self._query(receive, send)

    async def _query(self, receive: Receive, send: Send) -> None:
        try:
            request = parse_request(await _body(receive))
        except BadRequest as error:
            body = json.dumps(error.answer(), ensure_ascii=False).encode("utf-8", "replace")
            await _respond(send, error.status, body, _JSON)
            return
        cached = self.introspection.find(request.query)
        if cached is not None:
            await _respond(send, 200, cached, _JSON)
            return
        answer = await self._answered(request, receive)
        if answer is None:
            return
        body = json.dumps(answer.body, ensure_ascii=False).encode("utf-8", "replace")
        if answer.status == 200:
            self.introspection.offer(request.query, body)
        await _respond(send, answer.status, body, _JSON)

    async def _answered(self, request: Request, receive: Receive) -> Answer | Refusal | None:
        """The answer, or None if the client went away (its work is then cancelled) or the session ended."""
        if self.ended:
            return Refusal({"errors": [{"message": "the session has ended", "path": []}], "data": None})
        answer: Answer | Refusal | None = None
        async with anyio.create_task_group() as group:
            self.requests.add(group.cancel_scope)
            group.start_soon(_cancel_on_disconnect, receive, group.cancel_scope)
            try:
                answer = await self._safe_answer(request)
            finally:
                self.requests.discard(group.cancel_scope)
            group.cancel_scope.cancel()
        return answer

    async def _safe_answer(self, request: Request) -> Answer | Refusal:
        """The answer; a fault of ours is told like any error, since a 500 would only be asked again."""
        try:
            session, api = await self.loaded.get()
        except NotLoaded as error:
            return Refusal({"errors": [{"message": str(error), "path": []}], "data": None})
        try:
            return await api.answer(session, request.query, request.variables, request.operation)
        except Exception as error:
            return api.fault(session, error)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer of a session that could not begin."""

    body: Mapping[str, Any]
    status: int = 200


@dataclass(frozen=True, slots=True)
class Request:
    """The body of a GraphQL POST."""

    query: str = field(repr=False)
    variables: dict[str, Any] | None = field(default=None, repr=False)
    operation: str | None = None


def parse_request(body: bytes) -> Request:
    """Raises BadRequest with what is wrong."""
    try:
        document = json.loads(body)
    except ValueError as error:
        raise BadRequest(f"json request body could not be decoded: {error}") from error
    query = document.get("query") if isinstance(document, dict) else None
    variables = document.get("variables") if isinstance(document, dict) else None
    if isinstance(document, dict) and query is None:
        raise BadRequest("no operation provided", 422, "GRAPHQL_VALIDATION_FAILED")
    if not isinstance(query, str) or not (variables is None or isinstance(variables, dict)):
        raise BadRequest(
            'json request body could not be decoded: it must be {"query": "...", "variables": {...}}'
        )
    operation = document.get("operationName")
    return Request(query, variables, operation if isinstance(operation, str) and operation else None)


def authorised(header: str, token: str) -> bool:
    """Whether a basic auth header carries the token as its user; compared in constant time."""
    scheme, _, value = header.partition(" ")
    try:
        user = base64.b64decode(value, validate=True).partition(b":")[0]
    except (binascii.Error, ValueError):
        user = b""
    return secrets.compare_digest(_hashed(user), _hashed(token.encode())) and scheme.lower() == "basic"


def _hashed(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()  # equal lengths, whatever was sent


async def _body(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the client went away")
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _respond(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
