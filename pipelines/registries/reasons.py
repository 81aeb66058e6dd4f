"""Why a registry did not do what was asked, in plain words."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator

import httpx

from pipelines.registries.auth import login_hint
from pipelines.registries.errors import (
    AccessRefused,
    Busy,
    NotFound,
    RegistryError,
    RepositoryMissing,
    ServerFault,
    TagRefused,
    Unreachable,
)
from pipelines.registries.quirks import Quirks
from pipelines.registries.reference import Repository

_TRUST_HINT = (
    "give your own authority's certificate as ca_file: with this registry in modelport.yaml, or set "
    "SSL_CERT_FILE to a bundle that holds it"
)

_NO_PROJECT = re.compile(r"\bproject \S+ not found")
"""How Harbor says that there is no such project."""
_LOCKED = "REGISTRY_DISALLOWED_OPERATION"
"""How Azure Container Registry answers, with 405, where a tag or a repository is locked."""


def connection_error(host: str, err: httpx.HTTPError) -> Unreachable:  # noqa: PLR0911  a table
    """What a failed connection means for the user."""
    for cause in _causes(err):
        match cause:
            case ssl.SSLCertVerificationError():
                return Unreachable(
                    f"{host}: its certificate is not trusted: {cause.verify_message}", hint=_TRUST_HINT
                )
            case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "HTTP_REQUEST"):
                return Unreachable(
                    f"{host} does not speak TLS", hint="if that is meant, set plain_http: true for it"
                )
            case ssl.SSLError(reason=str()):
                return Unreachable(f"{host}: TLS failed: {cause.reason}", hint=_TRUST_HINT)
            case socket.gaierror():
                return Unreachable(
                    f"{host}: no such host is known here", hint="check the address, DNS and the proxy"
                )
            case ConnectionRefusedError():
                return Unreachable(
                    f"{host}: connection refused, nothing listens there",
                    hint="is the registry up, and the port right?",
                )
    if isinstance(err, httpx.ConnectTimeout):
        return Unreachable(f"{host} does not answer", hint="check the address, the firewall and the proxy")
    if isinstance(err, httpx.TimeoutException):
        return Unreachable(f"{host} stopped answering", hint="run again; only what is missing is sent")
    if isinstance(err, httpx.ConnectError):
        return Unreachable(f"{host} can't be reached", hint="check the address, the network and the proxy")
    return Unreachable(f"{host}: the connection was cut", hint="run again; only what is missing is sent")


def is_worth_retrying(err: httpx.HTTPError) -> bool:
    """A broken connection may heal by itself; a certificate or a malformed address does not."""
    if not isinstance(err, httpx.TransportError) or isinstance(err, httpx.UnsupportedProtocol):
        return False
    return not any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(err))


def refusal(  # noqa: PLR0911
    repository: Repository, quirks: Quirks, method: str, status: int, body: bytes
) -> RegistryError:
    """What an answer that is not a success means for the user (distribution specification, "Error Codes")."""
    code, said = _told(body)
    host, why = repository.host, f" ({status}{' ' + code if code else ''}{': ' + said if said else ''})"
    reading = method in ("GET", "HEAD")
    denied = _about(repository, quirks.refused_hint)
    missing = _about(repository, quirks.missing_hint)
    match status:
        case 401:
            return AccessRefused(f"{host} refuses this login{why}", hint=_or(login_hint(repository), denied))
        case 403:
            doing = "read" if reading else "write"
            return AccessRefused(
                f"{host}: this login may not {doing} {repository.path}{why}",
                hint=_or(f"give it the right to {doing} there, or use another one", denied),
            )
        case 404 if code == "NAME_UNKNOWN" or not reading or _NO_PROJECT.search(said):
            return RepositoryMissing(
                f"{host} has no repository {repository.path}{why}",
                hint=missing,
            )
        case 404:
            return NotFound(f"{repository} does not have it{why}")
        case 429:
            return Busy(f"{host} asks to slow down, for longer than is waited{why}", hint="run again later")
        case 405 if code == _LOCKED and method == "PUT":
            return TagRefused(f"{host} holds this tag fast{why}", hint="release under another tag")
        case 405 if code == _LOCKED:
            return AccessRefused(
                f"{host} has locked {repository.path} against this{why}",
                hint="`az acr repository update --write-enabled true` unlocks it, if that is meant",
            )
        case _ if method == "PUT" and ("immutab" in said.lower() or code == "TAG_INVALID"):
            return TagRefused(f"{host} does not move this tag{why}", hint="release under another tag")
    hint = "run again later; only what is missing is sent" if status >= 500 else "its log may tell more"
    if "HTTP request to an HTTPS server" in said:
        hint = "it speaks TLS: remove plain_http"
    return ServerFault(
        f"{host} answered {method} with {status}{why.removeprefix(f' ({status}').removesuffix(')')}",
        hint=hint,
    )


def _about(repository: Repository, hint: str) -> str:
    """A hint of the table of quirks, for this repository."""
    return hint.replace("{path}", repository.path).replace("{project}", repository.path.partition("/")[0])


def _or(hint: str, other: str) -> str:
    return f"{hint}; {other}" if other else hint


def _told(body: bytes) -> tuple[str, str]:
    """The error code and message of an answer, safe for a terminal and short; empty where there is none."""
    try:
        first = json.loads(body)["errors"][0]
        code, message = str(first.get("code", "")), str(first.get("message", ""))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        code, message = "", body[:200].decode("utf-8", "replace")
        if "<" in message:  # a proxy's web page
            message = ""
    return _plain(code, 60), _plain(message, 200)


def _plain(text: str, limit: int) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:limit]).strip()


def _causes(err: BaseException) -> Iterator[BaseException]:
    """``err`` and all that led to it; groups of connection attempts included."""
    todo: list[BaseException] = [err]
    seen: set[int] = set()
    while todo:
        current = todo.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        todo += [cause for cause in (current.__cause__, current.__context__) if cause is not None]
        if isinstance(current, BaseExceptionGroup):
            todo += current.exceptions
