"""Single blobs of a registry, through ``skopeo experimental-image-proxy``: its logins, mirrors and CAs.

The protocol (JSON over a SOCK_SEQPACKET pair, data through passed pipes):
https://github.com/containers/skopeo/blob/main/docs/skopeo-experimental-image-proxy.1.md
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from embedded_engine.cache.index import Blob, CacheFault
from embedded_engine.cache.layout import copied_checked

STALL_S = 60.0
"""A registry that sends nothing for this long is not waited for."""
_MESSAGE = 1 << 15
_MANIFEST_LIMIT = 4 << 20
_ABSENT = ("manifest unknown", "name unknown", "not found", "repository name not known")


@dataclass(frozen=True, slots=True)
class _Reply:
    value: object
    pipe: int
    descriptors: tuple[int, ...]


@dataclass(slots=True)
class Proxy:
    """One Skopeo process that has one image open. Methods block; used by one thread at a time."""

    argv: Sequence[str]
    environ: Mapping[str, str]
    shown: str
    _process: subprocess.Popen[bytes] | None = None
    _socket: socket.socket | None = None

    def open(self, image: str) -> int | None:
        """Open an image ("docker://..."); None if the registry has none by that name. Raises CacheFault."""
        self._start()
        self._call("Initialize")
        try:
            return int(str(self._call("OpenImage", image).value))
        except CacheFault as fault:
            if any(mark in str(fault).lower() for mark in _ABSENT):
                return None
            raise

    def manifest(self, image: int) -> bytes:
        """The manifest of an open image. Raises CacheFault."""
        with self._stream("GetManifest", image) as stream:
            data = stream.read(_MANIFEST_LIMIT + 1)
        if len(data) > _MANIFEST_LIMIT:
            raise CacheFault(f"{self.shown}: its manifest is too large")
        return data

    def blob(self, image: int, blob: Blob, target: Path) -> None:
        """Bring one blob into the new file ``target``, checked. Raises CacheFault."""
        with self._stream("GetBlob", image, blob.digest, blob.size) as stream:
            copied_checked(stream, target, blob, self.shown)

    def close(self) -> None:
        """End the process."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = subprocess.Popen(
                [*self.argv, "--sockfd", str(theirs.fileno())],
                env=dict(self.environ),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise CacheFault(f"{self.shown}: skopeo can't be started: {error.strerror}") from error
        finally:
            theirs.close()
        ours.settimeout(STALL_S)
        self._socket = ours

    def _call(self, method: str, *args: object) -> _Reply:
        self._send(method, *args)
        return self._receive()

    def _send(self, method: str, *args: object) -> None:
        if self._socket is None:
            raise CacheFault(f"{self.shown}: the connection is closed")
        try:
            self._socket.send(json.dumps({"method": method, "args": list(args)}).encode())
        except OSError as error:
            raise CacheFault(f"{self.shown}: skopeo ended early: {error.strerror}") from error

    def _receive(self) -> _Reply:
        assert self._socket is not None  # noqa: S101  # _send looked
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, _MESSAGE, 1)
        except TimeoutError as error:
            raise CacheFault(f"{self.shown}: no answer in {STALL_S:.0f} s") from error
        except OSError as error:
            raise CacheFault(f"{self.shown}: skopeo ended early: {error.strerror}") from error
        if not data:
            raise CacheFault(f"{self.shown}: skopeo ended early (is it 1.5 or later?)")
        reply = json.loads(data)
        if not reply.get("success"):
            for descriptor in descriptors:
                os.close(descriptor)
            raise CacheFault(f"{self.shown}: {reply.get('error') or 'refused'}")
        return _Reply(reply.get("value"), int(reply.get("pipeid") or 0), tuple(descriptors))

    @contextlib.contextmanager
    def _stream(self, method: str, *args: object) -> Iterator[IO[bytes]]:
        """What a call sends through a pipe; it is known to be whole when FinishPipe is answered."""
        reply = self._call(method, *args)
        if not reply.descriptors:
            raise CacheFault(f"{self.shown}: skopeo sent no data")
        stream = _Pipe(reply.descriptors[0], self.shown)
        try:
            self._send("FinishPipe", reply.pipe)
            yield stream  # type: ignore[misc]  # only read() of a binary file is used
            while stream.read(1 << 16):
                pass
            self._receive()
        except BaseException:
            stream.close()
            self.close()  # the protocol is out of step now
            raise
        finally:
            stream.close()


class _Pipe:
    """Reads a pipe, but does not wait for ever."""

    def __init__(self, descriptor: int, shown: str) -> None:
        self._descriptor = descriptor
        self._shown = shown

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; less only at the end. Raises CacheFault if nothing comes."""
        pieces: list[bytes] = []
        while size > 0:
            ready, _, _ = select.select([self._descriptor], [], [], STALL_S)
            if not ready:
                raise CacheFault(f"{self._shown}: it sent nothing for {STALL_S:.0f} s")
            piece = os.read(self._descriptor, min(size, 1 << 16))
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
