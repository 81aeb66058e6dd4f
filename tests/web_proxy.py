"""A small web proxy on loopback, as a company has one: CONNECT, forwarding, logins, and what passed through.

Names that exist nowhere else lead to loopback ports, so that a test can have a registry whose host is not
this machine.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_LIMIT_S = 30


@dataclass
class WebProxy:
    """A running proxy. ``places``: host:port -> a loopback port; all else is refused with 502."""

    places: Mapping[str, int]
    login: str = ""  # user:password
    seen: list[str] = field(default_factory=list)  # "METHOD host:port", in their order
    sent: int = 0  # bytes that clients sent on
    port: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """For HTTP_PROXY and HTTPS_PROXY."""
        return f"http://{self.login}{'@' if self.login else ''}127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[WebProxy]:
        """Listen until the block ends."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
            accepting = threading.Thread(target=self._accept, args=(server,), daemon=True)
            accepting.start()
            yield self
            server.shutdown(socket.SHUT_RDWR)
            accepting.join(_LIMIT_S)

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(_LIMIT_S)
            head, rest = _head(client)
            lines = head.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ")
            tunnel = method == "CONNECT"
            place = target if tunnel else urlsplit(target).netloc
            place = place if ":" in place else f"{place}:80"
            self.seen.append(f"{method} {place}")
            expected = "Basic " + base64.b64encode(self.login.encode()).decode()
            if (
                self.login
                and f"proxy-authorization: {expected}".lower() not in head.decode("latin-1").lower()
            ):
                client.sendall(_answer("407 Proxy Authentication Required"))
            elif place not in self.places:
                client.sendall(_answer("502 Bad Gateway"))
            else:
                self._forward(client, self.places[place], b"" if tunnel else _direct(lines) + rest)

    def _count(self, size: int) -> None:
        with self._lock:
            self.sent += size

    def _forward(self, client: socket.socket, port: int, first: bytes) -> None:
        with socket.create_connection(("127.0.0.1", port), _LIMIT_S) as upstream:
            if first:
                upstream.sendall(first)
            else:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(upstream, client, lambda _: None), daemon=True)
            back.start()
            _pump(client, upstream, self._count)
            back.join(_LIMIT_S)


def _direct(lines: list[str]) -> bytes:
    """A forwarded request as the server itself wants it; one a connection, so that each one is seen."""
    method, target, version = lines[0].split(" ")
    parts = urlsplit(target)
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    kept = [line for line in lines[1:] if line and not line.lower().startswith(("proxy-", "connection:"))]
    return "\r\n".join([f"{method} {path} {version}", *kept, "Connection: close", "", ""]).encode("latin-1")


def _answer(status: str) -> bytes:
    challenge = 'Proxy-Authenticate: Basic realm="test"\r\n' if status.startswith("407") else ""
    return f"HTTP/1.1 {status}\r\n{challenge}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    read = b""
    while b"\r\n\r\n" not in read:
        piece = client.recv(65536)
        if not piece:
            raise OSError("cut")
        read += piece
    head, _, rest = read.partition(b"\r\n\r\n")
    return head, rest


def _pump(source: socket.socket, target: socket.socket, count: Callable[[int], None]) -> None:
    """Pass bytes on until the source ends."""
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)
            count(len(piece))
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
