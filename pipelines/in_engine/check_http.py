"""One HTTP request with the bounds that a check needs: a deadline for the whole answer, a limit of its size.

The standard library only, Python 3.8.
"""

from __future__ import annotations

import errno
import http.client
import json
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass

LARGEST_ANSWER = 16 << 20
ENDED = "the model ended: its port does not open any more"
GONE = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH)
"""What a connection to a service that ended is told; a busy one lets it wait."""


class NoAnswerError(Exception):
    """There was no whole answer. ``reached``: a connection was made."""

    def __init__(self, message: str, *, reached: bool) -> None:
        super().__init__(message)
        self.reached = reached


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    def header(self, name: str) -> str | None:
        """The value of the header ``name``, whatever its case; None if there is none."""
        return next((text for key, text in self.headers if key.lower() == name.lower()), None)

    def json(self) -> object:
        """The body as JSON. Raises ValueError with a text for the user."""
        try:
            return json.loads(self.body.decode("utf-8"), parse_constant=_not_json)
        except RecursionError:
            raise ValueError("the answer is not JSON: it is nested too deeply") from None
        except ValueError as err:
            start = self.body[:60].decode("utf-8", "replace")
            raise ValueError(f"the answer is not JSON ({err}): it starts with {json.dumps(start)}") from err


def _not_json(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


class Target:
    """The model's address."""

    def __init__(self, host: str, port: int, timeout_s: float, largest: int = LARGEST_ANSWER) -> None:
        self.host, self.port, self.timeout_s, self.largest = host, port, timeout_s, largest
        self.opened = False

    def connects(self) -> bool:
        """Whether the port accepts now."""
        try:
            socket.create_connection((self.host, self.port), timeout=min(self.timeout_s, 5)).close()
        except OSError:
            return False
        return True

    def ended(self) -> bool:
        """Whether the port, which was open, is closed now. One that only lets wait is none."""
        try:
            socket.create_connection((self.host, self.port), timeout=min(self.timeout_s, 5)).close()
        except OSError as err:
            return self.opened and (err.errno in GONE or isinstance(err, socket.gaierror))
        return False

    def ask(
        self, method: str, path: str, headers: tuple[tuple[str, str], ...] = (), body: bytes | None = None
    ) -> Answer:
        """Send one request on a connection of its own.

        Raises:
            NoAnswerError: also where something else answers with 500 or more in place of a model that ended.
        """
        try:
            answer = self._ask(method, path, headers, body)
        except NoAnswerError as err:
            if self.opened and self.ended():
                raise NoAnswerError(ENDED, reached=err.reached) from err
            raise
        if answer.status >= 500 and self.ended():
            raise NoAnswerError(ENDED, reached=False)
        return answer

    def _ask(
        self, method: str, path: str, headers: tuple[tuple[str, str], ...], body: bytes | None
    ) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout_s)
        try:
            connection.connect()
        except OSError as err:
            connection.close()
            raise NoAnswerError(f"no connection: {err.strerror or err}", reached=False) from err
        self.opened = True
        watch = _Watch(connection.sock, self.timeout_s)
        try:
            answer = self._exchange(connection, method, path, dict(headers), body)
            if watch.late:  # a body without length ends with its connection, so that looked whole
                raise TimeoutError
            return answer
        except (OSError, http.client.HTTPException) as err:
            raise NoAnswerError(self._reason(err, late=watch.late), reached=True) from err
        finally:
            watch.stop()
            connection.close()

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes | None,
    ) -> Answer:
        connection.request(method, path, body, {**headers, "Connection": "close"})
        response = connection.getresponse()
        data = response.read(self.largest + 1)
        if len(data) > self.largest:
            raise NoAnswerError(f"the answer is larger than {self.largest >> 20} MB", reached=True)
        if response.length:  # a bounded read() says nothing of what is missing
            raise http.client.IncompleteRead(data, response.length)
        return Answer(response.status, data, tuple(response.getheaders()))

    def _reason(self, err: Exception, *, late: bool) -> str:
        if late or isinstance(err, (socket.timeout, TimeoutError)):
            return f"no whole answer within {self.timeout_s:g} s"
        if isinstance(err, http.client.RemoteDisconnected):
            return "the connection was closed without an answer"
        if isinstance(err, http.client.IncompleteRead):
            return "the answer ended early"
        if isinstance(err, http.client.HTTPException):
            return f"the answer is not HTTP ({type(err).__name__})"
        return f"the connection broke: {getattr(err, 'strerror', None) or err}"


class _Watch:
    """Ends a connection at its deadline, so that an answer that only trickles ends too."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self.late = False
        self._sock = sock
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def _end(self) -> None:
        self.late = True
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self._timer.cancel()
